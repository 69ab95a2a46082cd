"""A co-training run from settings to results: builds the parts, trains, scores, draws, saves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DistributedType, gather_object, set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError
from PIL import Image
from tqdm.auto import tqdm

from ..data.collate import Normalization
from ..data.mixing import TrainingSet
from ..evaluation import (
    EvaluationSet,
    Inference,
    Processes,
    SetResult,
    metric_names,
    pictures,
    titles,
    values_of,
)
from ..evaluation import score as score_set
from ..model.modeling_dataseg import DaTaSegModel
from ..model.text_embeddings_dataseg import TextEncoder
from ..output_folder import Reads, check_output_folder, claim_output_folder
from ..pictures.curves import draw_curves
from ..pictures.overlay import prediction_grid
from ..processes import on_main
from ..settings.datasets import load_held_out, resolve_mix, source_spec, training_mix
from ..settings.model import build_model, build_processor, embed, run_text_encoder
from ..settings.run import ConfigError, EvalEntry, RunConfig, Source, expand, paths_read
from ..sharing.checkpoint import save_checkpoint
from ..sharing.licenses import check_license
from ..sharing.publishing import PublishError, publish
from .dry_run import dry_run, few_images
from .first_look import look_at_data
from .folder import RunFolder
from .loop import CoTraining, Outcome
from .report import describe, headline, report, run_facts
from .schedule import Schedule, continued, resolve_schedule
from .signals import StopRequested, StopSignals
from .state import SaveError, write_or_warn
from .trackers import check_trackers, log_metrics, log_picture, start_trackers


@dataclass
class Parts:
    """What a run is made of, before its first step."""

    config: RunConfig
    schedule: Schedule
    members: list[TrainingSet]
    held_out: list[EvaluationSet]
    model: DaTaSegModel
    folder: RunFolder
    accelerator: Accelerator


def run(config: RunConfig, config_files: Sequence[str] = ()) -> dict[str, Any]:
    """Train, evaluate and save as the settings say; returns what `all_results.json` holds.

    Args:
        config_files: where the settings were read from; a fresh start does not move these.

    Raises:
        ConfigError: for settings that cannot work, before any training.
        StopRequested: when SIGTERM or SIGINT came; the state was saved.
        DataError, DivergedError, SaveError: see `CoTraining.run`.
        PublishError: when the Hub does not take the final model, which is on the disk.
    """
    accelerator = start_accelerator(config)
    # what the launcher said belongs to the settings with which the run can be repeated
    config = replace(config, mixed_precision=accelerator.mixed_precision)
    folder = RunFolder(expand(config.output_dir, "output_dir"))
    reads = run_reads(config, config_files)
    checkpoint = checkpoint_to_resume(config, folder)
    if config.resume is not None and (finished := folder.finished_steps(config)) is not None:
        accelerator.print(f"{folder.path} holds a finished run of {finished} steps: nothing to do.")
        return {}
    if checkpoint is None:
        check_output_folder(folder.path, "run", "output_dir", reads)
    parts = build_parts(config, folder, accelerator, None if config.dry_run else checkpoint)
    facts = run_facts(config, parts.schedule, parts.model, parts.members, accelerator)
    if accelerator.is_main_process:
        describe(facts, parts.members, parts.held_out)
    if config.dry_run:
        return look_ahead(parts)
    check_hub(config, accelerator)
    prepare_folder(parts, checkpoint, facts, reads)
    start_trackers(accelerator, config, facts)

    with StopSignals() as signals:
        outcome, metrics = train_and_score(parts, checkpoint, signals)
    results: dict[str, Any] = {
        "steps": outcome.steps,
        "max_steps": parts.schedule.max_steps,
        "train_seconds": round(outcome.seconds, 2),
        "parameters": facts["parameters"],
        **metrics,
    }
    write_results(parts, outcome.model, results)
    if accelerator.is_main_process:
        report(results, folder.read_notes(outcome.steps), folder)
    if config.push_to_hub is not None:
        push(parts, config.push_to_hub)
    accelerator.wait_for_everyone()
    # Before the process group: DDP's reducer would take it down last, holding Python's lock, for
    # which a thread of that group may be waiting to let go of its tensors; neither would go on. The
    # group's own end gives the lock away.
    accelerator.free_memory()
    accelerator.end_training()
    return results


def train_and_score(
    parts: Parts, checkpoint: Path | None, signals: StopSignals
) -> tuple[Outcome, dict[str, float]]:
    """Train to the end; the metrics of all held-out sets. What wraps the model for several
    processes is gone after it.

    Raises:
        StopRequested, DataError, DivergedError, SaveError: see `CoTraining.run`.
    """

    def evaluate_and_keep(
        current: DaTaSegModel, step: int, names: Sequence[str]
    ) -> dict[str, float]:
        return score_and_draw(parts, current, step, names, signals)

    training = start_training(parts, checkpoint)
    outcome = training.run(evaluate_and_keep, signals)
    return outcome, training.evaluate(evaluate_and_keep, [chosen.name for chosen in parts.held_out])


def look_ahead(parts: Parts) -> dict[str, Any]:
    """Two steps per dataset and a small evaluation, in a folder that is gone afterward; prints the
    projection.
    """
    accelerator = parts.accelerator
    with TemporaryDirectory() as temporary:
        small = replace(
            parts,
            folder=RunFolder(temporary),
            held_out=few_images(parts.held_out, accelerator.num_processes),
        )
        projection = dry_run(
            start_training(small, checkpoint=None),
            parts.held_out,
            small.held_out,
            lambda model, step, names: values_of(score(small, model, step, names, StopSignals())),
        )
    accelerator.print(projection.table())
    return asdict(projection)


def start_training(parts: Parts, checkpoint: Path | None) -> CoTraining:
    """The training of a run, at its start or where a checkpoint left it."""
    processor = build_processor(parts.config)
    return CoTraining(
        parts.config,
        parts.schedule,
        parts.model,
        parts.members,
        parts.folder,
        parts.accelerator,
        save_model=lambda model, path: save_checkpoint(model, processor, path),
        checkpoint=checkpoint,
    )


# --- before training ------------------------------------------------------------------------------


def start_accelerator(config: RunConfig) -> Accelerator:
    """Accelerate with the run's precision and trackers; ConfigError for a precision that the device
    does not have.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    check_trackers(config.report_to)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=config.report_to or None,
        project_dir=expand(config.output_dir, "output_dir"),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        ],
    )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("mixed_precision: 'fp16' needs a GPU, on this CPU use 'bf16' or 'no'")
    if accelerator.distributed_type == DistributedType.FSDP and config.ema_decay > 0:
        raise ConfigError(
            "ema_decay: weights are not averaged where they are sharded (FSDP): set it to 0, or "
            "use DDP"
        )
    return accelerator


def build_parts(
    config: RunConfig, folder: RunFolder, accelerator: Accelerator, checkpoint: Path | None = None
) -> Parts:
    """Everything that a run needs, checked as far as that is possible without training.

    checkpoint: where the run goes on from, which decides where its schedule begins.
    """
    set_seed(config.seed)
    encoder = run_text_encoder(config)
    members = training_mix(config)
    check_batches(members, accelerator.num_processes, config.gradient_accumulation_steps)
    check_compiler(config.torch_compile)
    schedule = resolve_schedule(config, members)
    if checkpoint is not None:
        schedule = continued(schedule, config, folder.progress_of(checkpoint))
    held_out = [
        evaluation_set(name, entry, config, encoder) for name, entry in config.evaluation.items()
    ]
    check_best_metric(config, held_out)
    for line in look_at_data(members, held_out, config):
        accelerator.print(line)
    model = build_model(config, members, encoder)
    return Parts(config, schedule, members, held_out, model, folder, accelerator)


def check_batches(members: Sequence[TrainingSet], processes: int, accumulation_steps: int) -> None:
    """Refuse a batch that cannot be split evenly over the processes and accumulation steps."""
    for member in members:
        if member.batch_size % (processes * accumulation_steps):
            raise ConfigError(
                f"datasets.{member.name}.batch_size: {member.batch_size} is not divisible by "
                f"{processes} processes x "
                f"{accumulation_steps} gradient_accumulation_steps; change one of them"
            )


def check_compiler(backend: str | None) -> None:
    """Refuse a backend that torch.compile does not have."""
    if backend is not None and backend not in (
        known := torch.compiler.list_backends(exclude_tags=())
    ):
        raise ConfigError(f"torch_compile: unknown backend '{backend}'; torch has {known}")


def checkpoint_to_resume(config: RunConfig, folder: RunFolder) -> Path | None:
    """Where the run goes on from; None for a fresh start. ConfigError for settings that are not the
    run's.
    """
    if config.resume is None:
        return None
    folder.check_same_run(config)
    return folder.find_checkpoint(config.resume)


def run_reads(config: RunConfig, config_files: Sequence[str]) -> dict[str, str]:
    """Files and folders that a run reads, by the setting that names them."""
    sources: dict[str, Source] = {
        f"datasets.{name}": entry for name, entry in config.datasets.items()
    }
    sources |= {f"evaluation.{name}": entry for name, entry in config.evaluation.items()}
    models = {
        name: getattr(config, name)
        for name in ("model_weights", "backbone_weights", "mask2former_weights")
    }
    files = {f"--config ({number})": file for number, file in enumerate(config_files, start=1)}
    return {**files, **paths_read(sources, config.text_encoder, models)}


def prepare_folder(
    parts: Parts, checkpoint: Path | None, facts: Mapping[str, Any], reads: Reads
) -> None:
    """Make the folder ready to go on from a checkpoint, or where there is none, make room for a
    fresh start.

    Args:
        reads: what the run reads, and a fresh start does not move.

    Raises:
        ConfigError: on all processes, for a folder that cannot be written, and data that is not the
            run's.
    """
    config, folder, accelerator = parts.config, parts.folder, parts.accelerator
    mix = resolve_mix(parts.members)
    if checkpoint is not None:
        folder.check_same_mix(mix)
        accelerator.print(f"Resuming from {checkpoint}.")
        if parts.schedule.first_step == folder.steps_of(checkpoint):
            accelerator.print(
                f"The run is to have {parts.schedule.max_steps} steps now: the learning rate "
                "starts again after step "
                f"{parts.schedule.first_step}, warm-up included."
            )
    elif config.resume is not None:
        accelerator.print(f"No complete checkpoint in {folder.checkpoints}: starting afresh.")

    def prepare() -> None:
        steps = 0
        if checkpoint is not None:
            steps = folder.steps_of(checkpoint)
            folder.remove_unfinished()
            for path in folder.supersede_after(steps):
                print(f"Superseded by this continuation, now {path}.")
            folder.write_config(config)
        else:
            earlier = claim_output_folder(folder.path, "run", "output_dir", reads)
            folder.write_config(config)
            folder.write_mix(mix)
            if earlier is not None:
                print(f"{folder.path} held an earlier run, now in {earlier}.")
        folder.write_facts(facts)
        folder.start_history(steps)

    accelerator.wait_for_everyone()  # all have looked at the folder before it changes
    failure = on_main(prepare, accelerator)
    if failure is not None:
        raise ConfigError(f"output_dir: cannot write to '{folder.path}': {failure}")


def check_best_metric(config: RunConfig, held_out: Sequence[EvaluationSet]) -> None:
    """Refuse a best metric that no evaluation gives, before training and not after its first
    part.
    """
    if config.best_metric is None:
        return
    given = [name for chosen in held_out for name in metric_names(chosen)]
    if config.best_metric not in given:
        raise ConfigError(
            f"best_metric: '{config.best_metric}' is not measured; measured are {given}"
        )


def check_hub(config: RunConfig, accelerator: Accelerator) -> None:
    """Make the repository to which the model will go, so that a missing right, or a missing
    license, is known before training.
    """
    repo = config.push_to_hub
    if repo is None:
        return
    try:
        check_license(asdict(config), config.hub_license)
    except ValueError as error:
        raise ConfigError(f"hub_license: {error}") from error

    def create() -> None:
        try:
            HfApi().create_repo(repo, private=config.hub_private, exist_ok=True)
        except (HTTPError, ValueError) as error:
            raise OSError(str(error)) from error

    failure = on_main(create, accelerator)
    if failure is not None:
        raise ConfigError(
            f"push_to_hub: cannot make '{repo}' on the Hub: {failure}; log in with `hf auth "
            "login`, or leave it out "
            "and publish later with dataseg publish"
        )


def evaluation_set(
    name: str, entry: EvalEntry, config: RunConfig, encoder: TextEncoder
) -> EvaluationSet:
    """A held-out set with the embeddings of its names."""
    key = f"evaluation.{name}"
    data = load_held_out(entry, key, config.on_bad_sample)
    if entry.vocabulary is not None:
        trained = source_spec(config.datasets[entry.vocabulary], f"datasets.{entry.vocabulary}")
        if trained.labels != data.spec.labels:
            raise ConfigError(
                f"{key}.vocabulary: '{entry.vocabulary}' has other names than '{data.spec.name}'; "
                "leave it out to score in the set's own names"
            )
    return EvaluationSet.of(name, entry, data, embed(encoder, data.spec.labels, key))


# --- scoring, showing, saving ---------------------------------------------------------------------


def score_and_draw(
    parts: Parts, model: DaTaSegModel, step: int, names: Sequence[str], signals: StopSignals
) -> dict[str, float]:
    """Metrics of the named held-out sets, a grid of predictions of each as PNG; the best model is
    kept.

    Raises:
        StopRequested, SaveError: as `score` and `write_or_warn`.
    """
    config, accelerator, folder = parts.config, parts.accelerator, parts.folder
    scored = score(parts, model, step, names, signals)
    results, notes = values_of(scored), {result.name: result.notes for result in scored}
    log_metrics(accelerator, results, step)
    grids = draw_grids(parts, model, scored) if accelerator.is_main_process else {}
    for write, what in (
        (lambda: save_grids(parts, grids, step), f"pictures in {folder.pictures}"),
        (lambda: keep_best(parts, model, step, results), f"the best model in {folder.best}"),
        (lambda: folder.write_notes(step, notes), f"notes in {folder.notes_file}"),
        # last, as it says that this evaluation is done
        (lambda: folder.append_evaluation(step, results), f"metrics in {folder.evaluations_file}"),
    ):
        write_or_warn(write, f"step {step}: {what}", config.on_save_error, accelerator)
    accelerator.print(
        f"step {step}: "
        + ", ".join(f"{key} {value:.3f}" for key, value in headline(results).items())
    )
    for name, of_set in notes.items():
        for note in of_set:
            accelerator.print(f"note on {name}: {note}")
    return results


def score(
    parts: Parts, model: DaTaSegModel, step: int, names: Sequence[str], signals: StopSignals
) -> list[SetResult]:
    """What is measured on the named held-out sets.

    Raises:
        StopRequested: when a signal comes to a run of one process; several finish first what they
            count together.
    """
    config, accelerator = parts.config, parts.accelerator
    chosen_sets = [chosen for chosen in parts.held_out if chosen.name in names]
    images = sum(len(chosen.data) for chosen in chosen_sets)
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
        return [score_set(model, chosen, inference, processes, progress) for chosen in chosen_sets]


def draw_grids(
    parts: Parts, model: DaTaSegModel, scored: Sequence[SetResult]
) -> dict[str, Image.Image]:
    """Predictions beside truth for the first images of the held-out sets that were scored, by
    name.
    """
    config, sets = parts.config, {chosen.name: chosen for chosen in parts.held_out}
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


def save_grids(parts: Parts, grids: Mapping[str, Image.Image], step: int) -> None:
    """Write the grids into the folder and to the trackers."""
    folder = parts.folder.pictures
    folder.mkdir(parents=True, exist_ok=True)
    for name, grid in grids.items():
        grid.save(folder / f"{name}-step{step:06d}.png")
        log_picture(parts.accelerator, name, grid, step)


def keep_best(parts: Parts, model: DaTaSegModel, step: int, results: dict[str, float]) -> None:
    """Keep the model whose `best_metric` is higher than that of all before."""
    config, folder = parts.config, parts.folder
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
    print(f"step {step}: the best {config.best_metric} so far, {value:.3f}: kept in {folder.best}")


def write_results(parts: Parts, model: DaTaSegModel, results: dict[str, Any]) -> None:
    """The final model, curves and results; the results last, as they say that the run is finished.

    Raises:
        SaveError: on all processes; the last checkpoint holds what is needed to write them.
    """
    folder, processor = parts.folder, build_processor(parts.config)

    def write() -> None:
        folder.write_model(lambda path: save_checkpoint(model, processor, path))
        draw_curves(folder.read_history(), folder.read_evaluations(), folder.path / "curves.png")
        folder.write_results(results)

    failure = on_main(write, parts.accelerator)
    if failure is not None:
        raise SaveError(
            f"the final model could not be written to {folder.path}: {failure}; make room, then "
            "--resume latest "
            "writes it from the last checkpoint"
        )


def push(parts: Parts, repo: str) -> None:
    """Publish the final model; it is on the disk whatever becomes of this.

    Raises:
        PublishError: on all processes, where the Hub does not take it.
    """
    folder, config = parts.folder.path, parts.config

    def send() -> None:
        try:
            url = publish(folder, repo, private=config.hub_private, license=config.hub_license)
            print(f"Published: {url}")
        except ValueError as error:
            raise PublishError(str(error)) from error

    failure = on_main(send, parts.accelerator)
    if failure is not None:
        raise PublishError(
            f"push_to_hub: {failure}. The model is whole in {folder}: publish it with "
            f"dataseg publish --model {folder} --repo {repo}"
        )
