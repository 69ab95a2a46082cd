"""A whole evaluation from options to report: loads the model, checks that everything can be scored,
scores, writes.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm

from ..data.collate import Normalization
from ..data.sample import DatasetSpec
from ..errors import ConfigError
from ..files.output_folder import Reads, check_output_folder, claim_output_folder
from ..model.modeling_dataseg import DaTaSegModel
from ..model.words_dataseg import listed
from ..pictures.figures import draw_confusion, draw_precision_recall
from ..processes import on_main
from ..settings.datasets import load_held_out
from ..settings.entries import EvalEntry, MetricName, with_default_range
from ..settings.model import configured_text_encoder, embed
from ..settings.paths import expand, paths_read
from ..sharing.checkpoint import load_checkpoint
from ..version import __version__
from .annotations import AnnotationSettings
from .export import Exporter
from .gallery import best_and_worst, gallery
from .inference import Inference
from .report import figure_path, note_lines, overview, write_json, write_markdown
from .scoring import Processes, SetResult, score
from .sets import EvaluationSet, possible_metrics
from .settings import ALL_METRICS, MIRROR_STRIDE, EvaluationOptions, HeldOutSettings

LOG = logging.getLogger(__name__)

CURVES: Mapping[MetricName, str] = {"mask_ap": "masks", "box_ap": "boxes"}


def run_evaluation(
    options: EvaluationOptions, settings: HeldOutSettings, config_file: str | None = None
) -> list[SetResult]:
    """Score, and leave `results.json`, `report.md`, `pictures/` and, where asked for, `exports/` in
    the output folder.

    Args:
        config_file: where the settings were read from; it is not moved to make room for the report.

    Raises:
        ConfigError: for options and settings that cannot work, before any image goes through the
            model.
        BadSampleError: for an image that cannot be read.
    """
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    entries = settings.entries(options.datasets)
    reads = paths_read(
        {f"evaluation.{name}": entry for name, entry in entries.items()},
        settings.text_encoder,
        {"--model": options.model, "--config": config_file},
    )
    folder = check_output_folder(
        expand(options.output_dir, "--output_dir"), "evaluation", "--output_dir", reads
    )
    accelerator = Accelerator()
    model, processor = load_checkpoint(options.model)
    entries = {
        name: with_default_range(entry, processor.value_range) for name, entry in entries.items()
    }
    sets = [
        evaluation_set(name, entry, options, settings, model) for name, entry in entries.items()
    ]
    # as in training, whose own evaluation gives the same numbers to the last digit: convolutions
    # round by layout
    anything: Any = model.eval()  # the signature known to type checkers lacks memory_format
    anything.to(accelerator.device, memory_format=torch.channels_last)
    inference = Inference(
        Normalization(processor.image_mean, processor.image_std), options.flip, options.num_workers
    )
    with make_room(folder, reads, accelerator):
        results = score_all(model, sets, inference, options, folder, accelerator)
        if accelerator.is_main_process:
            summary = evaluation_summary(options, entries, accelerator)
            write_json(results, summary, folder)
            write_markdown(results, summary, folder)
            LOG.info("\n".join([*overview(results), *note_lines(results)]))
            LOG.info(f"Results, report and pictures are in {folder}.")
        accelerator.wait_for_everyone()
    return results


def score_all(
    model: DaTaSegModel,
    sets: Sequence[EvaluationSet],
    inference: Inference,
    options: EvaluationOptions,
    folder: Path,
    accelerator: Accelerator,
) -> list[SetResult]:
    """Score the sets on all processes together, and draw their figures.

    Raises:
        BadSampleError: for an image that cannot be read.
    """
    processes = Processes(
        accelerator.process_index, accelerator.num_processes, lambda state: gather_object([state])
    )
    results = []
    with tqdm(
        total=sum(len(s.data) for s in sets), unit="image", disable=not accelerator.is_main_process
    ) as bar:
        for eval_set in sets:
            bar.set_description(eval_set.name)
            done = bar.n
            results.append(
                score(
                    model,
                    eval_set,
                    inference,
                    processes,
                    progress=lambda count: bar.update(count * accelerator.num_processes),
                    rank_images=options.gallery > 0,
                    exporter=exporter_of(eval_set, options, folder, accelerator),
                )
            )
            # a share may be larger or smaller than the others
            bar.update(done + len(eval_set.data) - bar.n)
            if accelerator.is_main_process:
                draw(model, eval_set, results[-1], inference, options.gallery, folder)
    return results


# --- parts ----------------------------------------------------------------------------------------


def evaluation_set(
    name: str,
    entry: EvalEntry,
    options: EvaluationOptions,
    settings: HeldOutSettings,
    model: DaTaSegModel,
) -> EvaluationSet:
    """A held-out set with the names that the model shall use on it.

    Raises:
        ConfigError: for data that is not there, names that cannot be embedded, a metric that the
            truth cannot give.
    """
    key = f"evaluation.{name}"
    data = load_held_out(entry, key)
    if options.flip:
        check_mirror(data.spec, entry.image_size, key)
    metrics: Sequence[Any] = options.metrics or entry.metrics
    if ALL_METRICS in metrics:
        metrics = possible_metrics(data.spec)
    scored = entry.model_copy(
        update={
            "metrics": tuple(dict.fromkeys(metrics)),
            "batch_size": options.batch_size or entry.batch_size,
            "max_dets": options.max_dets or entry.max_dets,
        }
    )
    return EvaluationSet.of(
        name, scored, data, embeddings_of(data.spec.labels, entry, key, settings, model)
    )


def check_mirror(spec: DatasetSpec, image_size: int, key: str) -> None:
    """Check that a mirror image shows the same and lines up with the image.

    Raises:
        ConfigError: if it does not.
    """
    for label in spec.labels:
        if {"left", "right"} & set(label.lower().split()):
            raise ConfigError(
                f"--flip: the mirror image of '{label}' of {key} is something else; leave it out"
            )
    if image_size % MIRROR_STRIDE:
        raise ConfigError(
            f"{key}.image_size: {image_size} is no multiple of {MIRROR_STRIDE}, so that a mirror "
            "image would not lie on the same cells; change it, or leave out --flip"
        )


def make_room(folder: Path, reads: Reads, accelerator: Accelerator) -> ExitStack:
    """Start the folder of the report on the main process, an earlier report moved aside; other
    commands stay out of it until what is returned is closed.

    Raises:
        ConfigError: on all processes, where it cannot be written.
    """
    held = ExitStack()

    def start() -> None:
        claimed = held.enter_context(
            claim_output_folder(folder, "evaluation", "--output_dir", reads)
        )
        if claimed.earlier is not None:
            LOG.info(f"{folder} held an earlier evaluation, now in {claimed.earlier}.")
        (folder / "pictures").mkdir()

    accelerator.wait_for_everyone()  # all have looked at the folder before it changes
    failure = on_main(start, accelerator)
    if failure is not None:
        held.close()
        raise ConfigError(f"--output_dir: cannot write to '{folder}': {failure}")
    return held


def exporter_of(
    eval_set: EvaluationSet, options: EvaluationOptions, folder: Path, accelerator: Accelerator
) -> Exporter | None:
    """What writes the files that the options ask for; None where they ask for none."""
    if not (options.export or options.annotations):
        return None
    annotations = AnnotationSettings(
        options.annotations, options.outlines, options.image_url_prefix
    )
    target = folder / "exports" / eval_set.name
    return Exporter(target, eval_set, options.export, annotations, accelerator.process_index)


def embeddings_of(
    labels: Sequence[str],
    entry: EvalEntry,
    key: str,
    settings: HeldOutSettings,
    model: DaTaSegModel,
) -> Tensor:
    """Text embeddings [C, D] of the names of a set, in the space of the model.

    They come from the first of these that there is:

    1. the vocabulary stored in the model that the entry names;
    2. the model's text encoder, which is missing where the model's embeddings came from files;
    3. the text encoder of the settings;
    4. the names stored in the model.

    Raises:
        ConfigError: for names that none of them covers, an encoder of another dimension, and a
            model that takes its stored vocabularies only when the entry names none.
    """
    if entry.vocabulary is None and model.config.knows_stored_vocabularies_only:
        raise ConfigError(
            f"{key}.vocabulary: is required, as the model has parts of its own for each of its "
            f"vocabularies {sorted(model.config.vocabularies or {})}"
        )
    if entry.vocabulary is not None:
        return stored_embeddings(labels, entry.vocabulary, key, model)
    remembered = model.config.text_encoder
    can_embed = remembered is not None and remembered["kind"] != "precomputed"
    missing = [] if can_embed else model.without_embedding(labels)
    if can_embed or not (missing or settings.text_encoder):
        return embed(model.embed, labels, key)
    if settings.text_encoder is None:
        raise ConfigError(
            f"{key}.vocabulary: the model cannot embed names by itself, and stores none for "
            f"[{listed(missing)}]; choose from its vocabularies "
            f"{sorted(model.config.vocabularies or {})}, or give a `text_encoder` of its space "
            f"({'unknown' if remembered is None else remembered['source']})"
        )
    embeddings = embed(configured_text_encoder(settings.text_encoder), labels, key)
    if embeddings.shape[1] != model.config.text_embedding_dim:
        raise ConfigError(
            f"text_encoder: gives {embeddings.shape[1]} numbers per name, the model takes "
            f"{model.config.text_embedding_dim}; name the encoder it was trained with"
        )
    return embeddings


def stored_embeddings(
    labels: Sequence[str], vocabulary: str, key: str, model: DaTaSegModel
) -> Tensor:
    """Embeddings [C, D] of a vocabulary stored in the model.

    Raises:
        ConfigError: for a vocabulary that is not stored, and one whose names differ from `labels`
            or stand in another order.
    """
    try:
        stored = model.stored_vocabulary(vocabulary)["labels"]
    except ValueError as error:
        raise ConfigError(
            f"{key}.vocabulary: {error}; leave it out to embed the set's own names"
        ) from error
    if list(stored) != list(labels):
        differing = sorted(set(stored) ^ set(labels))[:3]
        raise ConfigError(
            f"{key}.vocabulary: '{vocabulary}' of the model has other names than the set "
            f"({differing or 'in another order'}); leave it out to embed the set's own names"
        )
    return model.vocabularies.get(vocabulary)


def draw(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    result: SetResult,
    inference: Inference,
    count: int,
    folder: Path,
) -> None:
    """The figures of a set, and its best and worst images."""
    if result.confusion is not None and result.confusion.any():
        draw_confusion(
            result.confusion, result.labels, figure_path(folder, eval_set.name, "confusion")
        )
    for metric, curves in result.curves.items():
        objects = CURVES[metric]
        path = figure_path(folder, eval_set.name, f"{objects}-precision-recall")
        draw_precision_recall(curves, result.labels, f"{objects} of {eval_set.name}", path)
    for key, scores in zip(
        ("best", "worst"), best_and_worst(result.image_scores, count), strict=True
    ):
        if scores:
            picture = gallery(model, eval_set, scores, inference, result.nothing_found)
            picture.save(figure_path(folder, eval_set.name, key))


def evaluation_summary(
    options: EvaluationOptions, entries: Mapping[str, EvalEntry], accelerator: Accelerator
) -> dict[str, Any]:
    """What was evaluated how; `evaluation` has the settings of the sets."""
    return {
        "model": options.model,
        "test_time_flip": options.flip,
        "batch_size": options.batch_size or "of each set",
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "dataseg_hf": __version__,
        "torch": torch.__version__,
        "evaluation": {name: entry.as_plain() for name, entry in entries.items()},
    }
