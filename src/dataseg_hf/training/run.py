"""A co-training run from settings to results."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..data.collate import Normalization
from ..evaluation import values_of
from ..files.lock import refuse_in_use
from ..files.output_folder import check_output_folder
from ..model.modeling_dataseg import DaTaSegModel
from ..pictures.curves import draw_curves
from ..processes import on_main
from ..settings.model import build_processor
from ..settings.paths import expand, run_reads
from ..settings.run import RunConfig
from ..sharing.checkpoint import save_checkpoint
from ..sharing.publishing import PublishError, publish
from .dry_run import dry_run, few_images
from .failures import agree
from .folder import RunFolder
from .linear_start import linear_start
from .loop import CoTraining, TrainedModel
from .preparation import (
    PreparedRun,
    build_run,
    check_hub,
    checkpoint_to_resume,
    prepare_folder,
    start_accelerator,
)
from .report import describe, report, run_summary
from .scoring import score, score_and_draw
from .signals import StopSignals
from .state import SaveError
from .trackers import start_trackers

LOG = logging.getLogger(__name__)


def run(config: RunConfig, config_files: Sequence[str] = ()) -> dict[str, Any]:
    """Train, evaluate and save as the settings say; returns what `all_results.json` holds.

    Args:
        config_files: where the settings were read from; a fresh start does not move these.

    Raises:
        ConfigError: for settings that cannot work, before any training.
        StopRequested: when SIGTERM, SIGINT or SIGHUP came; the state was saved.
        DataError, DivergedError, SaveError: see `CoTraining.run`.
        PublishError: when the Hub does not take the final model, which is on the disk.
    """
    accelerator = start_accelerator(config)
    # The launcher's precision belongs to the settings that repeat the run.
    config = config.model_copy(update={"mixed_precision": accelerator.mixed_precision})
    folder = RunFolder(expand(config.output_dir, "output_dir"))
    reads = run_reads(config, config_files)
    checkpoint = checkpoint_to_resume(config, folder)
    if config.resume is not None and (finished := folder.finished_steps(config)) is not None:
        LOG.info(f"{folder.path} holds a finished run of {finished} steps: nothing to do.")
        return {}
    if checkpoint is None:
        check_output_folder(folder.path, "run", "output_dir", reads)
    else:
        refuse_in_use(folder.path, "output_dir")
    prepared = build_run(config, folder, accelerator, None if config.dry_run else checkpoint)
    summary = run_summary(config, prepared.schedule, prepared.model, prepared.datasets, accelerator)
    if accelerator.is_main_process:
        describe(summary, prepared.datasets, prepared.held_out)
    if config.dry_run:
        return look_ahead(prepared)
    check_hub(config, accelerator)
    with ExitStack() as held, StopSignals() as signals:
        prepare_folder(prepared, checkpoint, summary, reads, held)
        start_trackers(accelerator, config, summary)
        trained, metrics = train_and_score(prepared, checkpoint, signals)
        results: dict[str, Any] = {
            "steps": trained.steps,
            "max_steps": prepared.schedule.max_steps,
            "train_seconds": round(trained.seconds, 2),
            "parameters": summary["parameters"],
            **metrics,
        }
        finish(prepared, trained, results, signals)
    return results


def finish(
    prepared: PreparedRun,
    trained: TrainedModel,
    results: Mapping[str, Any],
    signals: StopSignals,
) -> None:
    """Write and publish the final model, log the results, and end the processes' group.

    Args:
        signals: a noted signal lets the model be written, but not published, as that may take long.

    Raises:
        SaveError, PublishError: as `run`.
    """
    accelerator, folder = prepared.accelerator, prepared.folder
    write_results(prepared, trained.model, results)
    if accelerator.is_main_process:
        report(results, folder.read_notes(trained.steps), folder)
    repo = prepared.config.push_to_hub
    if repo is not None and any(agree([signals.received is not None], accelerator)):
        LOG.warning(f"stopped by a signal: publish with {publish_command(folder.path, repo)}")
    elif repo is not None:
        push(prepared, repo)
    accelerator.wait_for_everyone()
    # Free the model before the process group. Otherwise DDP's reducer takes the group down last,
    # holding Python's lock, while a thread of that group may wait for the lock to free its tensors:
    # a deadlock. The group's own end releases the lock.
    accelerator.free_memory()
    accelerator.end_training()


def train_and_score(
    prepared: PreparedRun, checkpoint: Path | None, signals: StopSignals
) -> tuple[TrainedModel, dict[str, float]]:
    """Train to the end; returns the trained model and the metrics of all held-out sets.

    Whatever wraps the model for several processes is freed on return.

    Raises:
        StopRequested, DataError, DivergedError, SaveError: see `CoTraining.run`.
    """

    def evaluate_and_keep(
        current: DaTaSegModel, step: int, names: Sequence[str]
    ) -> dict[str, float]:
        return score_and_draw(prepared, current, step, names, signals)

    training = start_training(prepared, checkpoint)
    trained = training.run(evaluate_and_keep, signals)
    return trained, training.evaluate(
        evaluate_and_keep, [eval_set.name for eval_set in prepared.held_out]
    )


def look_ahead(prepared: PreparedRun) -> dict[str, Any]:
    """Two steps per dataset and a small evaluation, in a folder that is gone afterward; prints the
    projection.
    """
    accelerator = prepared.accelerator
    with TemporaryDirectory() as temporary:
        small = replace(
            prepared,
            folder=RunFolder(temporary),
            held_out=few_images(prepared.held_out, accelerator.num_processes),
        )
        projection = dry_run(
            start_training(small, checkpoint=None),
            prepared.held_out,
            small.held_out,
            lambda model, step, names: values_of(score(small, model, step, names, StopSignals())),
        )
    LOG.info(projection.table())
    return asdict(projection)


def start_training(prepared: PreparedRun, checkpoint: Path | None) -> CoTraining:
    """The training of a run, at its start or where a checkpoint left it."""
    processor, config = build_processor(prepared.config), prepared.config
    if checkpoint is None and config.linear_start > 0:
        linear_start(
            prepared.model.to(prepared.accelerator.device),
            prepared.datasets,
            Normalization(config.image_mean, config.image_std),
            config.linear_start,
            config.seed,
        )
    return CoTraining(
        prepared.config,
        prepared.schedule,
        prepared.model,
        prepared.datasets,
        prepared.folder,
        prepared.accelerator,
        save_model=lambda model, path: save_checkpoint(model, processor, path),
        checkpoint=checkpoint,
    )


def write_results(prepared: PreparedRun, model: DaTaSegModel, results: Mapping[str, Any]) -> None:
    """The final model, curves and results; the results last, as they say that the run is finished.

    Raises:
        SaveError: on all processes; the last checkpoint holds what is needed to write them.
    """
    folder, processor = prepared.folder, build_processor(prepared.config)

    def write() -> None:
        folder.write_model(lambda path: save_checkpoint(model, processor, path))
        draw_curves(folder.read_history(), folder.read_evaluations(), folder.path / "curves.png")
        folder.write_results(results)

    failure = on_main(write, prepared.accelerator)
    if failure is not None:
        raise SaveError(
            f"the final model could not be written to {folder.path}: {failure}; make room, then "
            "--resume latest writes it from the last checkpoint"
        )


def push(prepared: PreparedRun, repo: str) -> None:
    """Publish the final model; it is on the disk whatever becomes of this.

    Raises:
        PublishError: on all processes, where the Hub does not take it.
    """
    folder, config = prepared.folder.path, prepared.config

    def send() -> None:
        try:
            url = publish(folder, repo, private=config.hub_private, license=config.hub_license)
            LOG.info(f"Published: {url}")
        except ValueError as error:
            raise PublishError(str(error)) from error

    failure = on_main(send, prepared.accelerator)
    if failure is not None:
        raise PublishError(
            f"push_to_hub: {failure}. The model is whole in {folder}: publish it with "
            f"{publish_command(folder, repo)}"
        )


def publish_command(folder: Path, repo: str) -> str:
    """What to type to publish the model of a run."""
    return f"dataseg publish --model {folder} --repo {repo}"
