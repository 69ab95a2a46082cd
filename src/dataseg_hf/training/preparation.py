"""What a run is made of, built and checked before its first step."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DistributedType, set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from ..data.mixing import TrainingSet
from ..errors import ConfigError
from ..evaluation import (
    EvaluationSet,
    metric_names,
)
from ..files.output_folder import Reads, claim_output_folder, hold_output_folder
from ..model.modeling_dataseg import DaTaSegModel
from ..model.text_embeddings_dataseg import TextEncoder
from ..processes import on_main
from ..settings.datasets import load_held_out, resolve_mix, source_spec, training_mix
from ..settings.entries import EvalEntry
from ..settings.model import build_model, embed, run_text_encoder
from ..settings.paths import expand
from ..settings.run import RunConfig
from ..sharing.licenses import check_license
from .first_look import look_at_data
from .folder import RunFolder
from .linear_start import check_linear_start
from .schedule import Schedule, continued, resolve_schedule
from .trackers import check_trackers

LOG = logging.getLogger(__name__)


@dataclass
class PreparedRun:
    """What a run is made of, before its first step."""

    config: RunConfig
    schedule: Schedule
    datasets: list[TrainingSet]
    held_out: list[EvaluationSet]
    model: DaTaSegModel
    folder: RunFolder
    accelerator: Accelerator


def start_accelerator(config: RunConfig) -> Accelerator:
    """Accelerate with the run's precision and trackers.

    Raises:
        ConfigError: for a precision that the device does not have.
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


def build_run(
    config: RunConfig, folder: RunFolder, accelerator: Accelerator, checkpoint: Path | None = None
) -> PreparedRun:
    """Everything that a run needs, checked as far as that is possible without training.

    Args:
        checkpoint: where the run goes on from, which decides where its schedule begins.
    """
    set_seed(config.seed)
    encoder = run_text_encoder(config)
    datasets = training_mix(config)
    check_batches(datasets, accelerator.num_processes, config.gradient_accumulation_steps)
    check_compiler(config.torch_compile)
    schedule = resolve_schedule(config, datasets)
    if checkpoint is not None:
        schedule = continued(schedule, config, folder.progress_of(checkpoint))
    held_out = [
        evaluation_set(name, entry, config, encoder) for name, entry in config.evaluation.items()
    ]
    check_best_metric(config, held_out)
    for line in look_at_data(datasets, held_out, config):
        LOG.info(line)
    model = build_model(config, datasets, encoder)
    check_linear_start(model, datasets, config)
    return PreparedRun(config, schedule, datasets, held_out, model, folder, accelerator)


def check_batches(datasets: Sequence[TrainingSet], processes: int, accumulation_steps: int) -> None:
    """Check that batches can be split evenly over the processes and accumulation steps.

    Raises:
        ConfigError: for a batch size that cannot.
    """
    for dataset in datasets:
        if dataset.batch_size % (processes * accumulation_steps):
            raise ConfigError(
                f"datasets.{dataset.name}.batch_size: {dataset.batch_size} is not divisible by "
                f"{processes} processes x "
                f"{accumulation_steps} gradient_accumulation_steps; change one of them"
            )


def check_compiler(backend: str | None) -> None:
    """Check that torch.compile has a backend.

    Raises:
        ConfigError: for an unknown one; the message lists those there are.
    """
    if backend is not None and backend not in (
        known := torch.compiler.list_backends(exclude_tags=())
    ):
        raise ConfigError(f"torch_compile: unknown backend '{backend}'; torch has {known}")


def checkpoint_to_resume(config: RunConfig, folder: RunFolder) -> Path | None:
    """Where the run goes on from; None for a fresh start.

    Raises:
        ConfigError: for settings that are not the run's.
    """
    if config.resume is None:
        return None
    folder.check_same_run(config)
    return folder.find_checkpoint(config.resume)


def prepare_folder(
    prepared: PreparedRun,
    checkpoint: Path | None,
    summary: Mapping[str, Any],
    reads: Reads,
    held: ExitStack,
) -> None:
    """Make the folder ready to go on from a checkpoint, or where there is none, make room for a
    fresh start.

    Args:
        reads: what the run reads, and a fresh start does not move.
        held: keeps other commands out of the folder until it is closed.

    Raises:
        ConfigError: on all processes, for a folder that cannot be written, and data that is not the
            run's.
    """
    config, folder, accelerator = prepared.config, prepared.folder, prepared.accelerator
    mix = resolve_mix(prepared.datasets)
    if checkpoint is not None:
        folder.check_same_mix(mix)
        LOG.info(f"Resuming from {checkpoint}.")
        if prepared.schedule.first_step == folder.steps_of(checkpoint):
            LOG.info(
                f"The run is to have {prepared.schedule.max_steps} steps now: the learning rate "
                f"starts again after step {prepared.schedule.first_step}, warm-up included."
            )
    elif config.resume is not None:
        LOG.info(f"No complete checkpoint in {folder.checkpoints}: starting afresh.")

    def prepare() -> None:
        steps = 0
        if checkpoint is not None:
            held.enter_context(hold_output_folder(folder.path, "output_dir"))
            steps = folder.steps_of(checkpoint)
            folder.remove_unfinished()
            for path in folder.supersede_after(steps):
                LOG.info(f"Superseded by this continuation, now {path}.")
            folder.write_config(config)
        else:
            claimed = claim_output_folder(folder.path, "run", "output_dir", reads)
            held.enter_context(claimed)
            folder.write_config(config)
            folder.write_mix(mix)
            if claimed.earlier is not None:
                LOG.info(f"{folder.path} held an earlier run, now in {claimed.earlier}.")
        folder.append_start(summary)
        folder.start_history(steps)

    accelerator.wait_for_everyone()  # all have looked at the folder before it changes
    failure = on_main(prepare, accelerator)
    if failure is not None:
        raise ConfigError(f"output_dir: cannot write to '{folder.path}': {failure}")


def check_best_metric(config: RunConfig, held_out: Sequence[EvaluationSet]) -> None:
    """Check before training that an evaluation measures `best_metric`.

    Raises:
        ConfigError: if none does.
    """
    if config.best_metric is None:
        return
    given = [name for eval_set in held_out for name in metric_names(eval_set)]
    if config.best_metric not in given:
        raise ConfigError(
            f"best_metric: '{config.best_metric}' is not measured; measured are {given}"
        )


def check_hub(config: RunConfig, accelerator: Accelerator) -> None:
    """Create the repository to which the model will go.

    Raises:
        ConfigError: before training, for a missing right or a missing license.
    """
    repo = config.push_to_hub
    if repo is None:
        return
    try:
        check_license(config.as_plain(), config.hub_license)
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
            "login`, or leave it out and publish later with dataseg publish"
        )


def evaluation_set(
    name: str, entry: EvalEntry, config: RunConfig, encoder: TextEncoder
) -> EvaluationSet:
    """A held-out set with the embeddings of its names.

    Raises:
        ConfigError: for data that cannot be read, and a vocabulary with other names than the set's.
    """
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
