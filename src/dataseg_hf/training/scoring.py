"""Score held-out sets during and after training, draw predictions, keep the best model."""

import logging
from collections.abc import Mapping, Sequence

from accelerate.utils import gather_object
from PIL import Image
from tqdm.auto import tqdm

from ..data.collate import Normalization
from ..evaluation import (
    Inference,
    Processes,
    SetResult,
    pictures,
    titles,
    values_of,
)
from ..evaluation import score as score_set
from ..model.modeling_dataseg import DaTaSegModel
from ..pictures.overlay import prediction_grid
from ..settings.model import build_processor
from ..sharing.checkpoint import save_checkpoint
from .preparation import PreparedRun
from .report import headline
from .signals import StopRequested, StopSignals
from .state import write_or_warn
from .trackers import log_metrics, log_picture

LOG = logging.getLogger(__name__)


def score_and_draw(
    prepared: PreparedRun,
    model: DaTaSegModel,
    step: int,
    names: Sequence[str],
    signals: StopSignals,
) -> dict[str, float]:
    """Metrics of the named held-out sets, a grid of predictions of each as PNG; the best model is
    kept.

    Raises:
        StopRequested, SaveError: as `score` and `write_or_warn`.
    """
    config, accelerator, folder = prepared.config, prepared.accelerator, prepared.folder
    scored = score(prepared, model, step, names, signals)
    results, notes = values_of(scored), {result.name: result.notes for result in scored}
    log_metrics(accelerator, results, step)
    grids = draw_grids(prepared, model, scored) if accelerator.is_main_process else {}
    for write, what in (
        (lambda: save_grids(prepared, grids, step), f"pictures in {folder.pictures}"),
        (lambda: keep_best(prepared, model, step, results), f"the best model in {folder.best}"),
        (lambda: folder.write_notes(step, notes), f"notes in {folder.notes_file}"),
        # last, as it says that this evaluation is done
        (lambda: folder.append_evaluation(step, results), f"metrics in {folder.evaluations_file}"),
    ):
        write_or_warn(write, f"step {step}: {what}", config.on_save_error, accelerator)
    LOG.info(
        f"step {step}: "
        + ", ".join(f"{key} {value:.3f}" for key, value in headline(results).items())
    )
    for name, of_set in notes.items():
        for note in of_set:
            LOG.info(f"note on {name}: {note}")
    return results


def score(
    prepared: PreparedRun,
    model: DaTaSegModel,
    step: int,
    names: Sequence[str],
    signals: StopSignals,
) -> list[SetResult]:
    """What is measured on the named held-out sets.

    Raises:
        StopRequested: when a signal comes to a run of one process; several finish first what they
            count together.
    """
    config, accelerator = prepared.config, prepared.accelerator
    eval_sets = [eval_set for eval_set in prepared.held_out if eval_set.name in names]
    images = sum(len(eval_set.data) for eval_set in eval_sets)
    with tqdm(
        total=images, desc="evaluate", disable=not accelerator.is_main_process, leave=False
    ) as bar:

        def progress(count: int) -> None:
            bar.update(count * accelerator.num_processes)
            if signals.received is not None and accelerator.num_processes == 1:
                raise StopRequested(signals.received, step)

        inference = Inference(Normalization(config.image_mean, config.image_std))
        processes = Processes(
            accelerator.process_index,
            accelerator.num_processes,
            lambda state: gather_object([state]),
        )
        return [
            score_set(model, eval_set, inference, processes, progress) for eval_set in eval_sets
        ]


def draw_grids(
    prepared: PreparedRun, model: DaTaSegModel, scored: Sequence[SetResult]
) -> dict[str, Image.Image]:
    """Predictions beside truth for the first images of the held-out sets that were scored, by
    name; none where `num_pictures` is 0.
    """
    if prepared.config.num_pictures == 0:
        return {}
    config, sets = prepared.config, {eval_set.name: eval_set for eval_set in prepared.held_out}
    grids = {}
    for result in scored:
        found = result.nothing_found
        rows = pictures(
            model,
            sets[result.name],
            config.num_pictures,
            Normalization(config.image_mean, config.image_std),
            nothing_found=found,
        )
        grids[result.name] = prediction_grid(rows, titles(found))
    return grids


def save_grids(prepared: PreparedRun, grids: Mapping[str, Image.Image], step: int) -> None:
    """Write the grids into the folder and to the trackers."""
    folder = prepared.folder.pictures
    folder.mkdir(parents=True, exist_ok=True)
    for name, grid in grids.items():
        grid.save(folder / f"{name}-step{step:06d}.png")
        log_picture(prepared.accelerator, name, grid, step)


def keep_best(
    prepared: PreparedRun, model: DaTaSegModel, step: int, results: dict[str, float]
) -> None:
    """Keep the model whose `best_metric` is higher than that of all before."""
    config, folder = prepared.config, prepared.folder
    value = results.get(config.best_metric) if config.best_metric is not None else None
    if (
        config.best_metric is None
        or value is None
        or not value > folder.best_value(config.best_metric)
    ):
        return
    processor = build_processor(config)
    folder.write_best(
        lambda path: save_checkpoint(model, processor, path), step, config.best_metric, value
    )
    LOG.info(
        f"step {step}: the best {config.best_metric} so far, {value:.3f}: kept in {folder.best}"
    )
