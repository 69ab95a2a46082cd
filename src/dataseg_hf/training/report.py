"""What a run says of itself at its start and its end, in the log and in the run's folder."""

import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator

from ..data.faults import doubts
from ..data.mixing import TrainingSet
from ..data.sample import SampleStream
from ..evaluation import EvaluationSet
from ..model.modeling_dataseg import DaTaSegModel
from ..settings.datasets import mix_table, resolve_mix
from ..settings.run import RunConfig
from ..sharing.provenance import started_from
from ..version import __version__
from .folder import RunFolder
from .schedule import Schedule

LOG = logging.getLogger(__name__)

_LIBRARIES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "numpy",
    "safetensors",
)


def run_summary(
    config: RunConfig,
    schedule: Schedule,
    model: DaTaSegModel,
    datasets: Sequence[TrainingSet],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Model size, schedule in steps, processes, batches, precision, versions: what `run.json`
    holds.
    """
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "queries": model.config.num_queries,
        "max_steps": schedule.max_steps,
        "warmup_steps": schedule.warmup_steps,
        "checkpoint_every": schedule.checkpoint_every,
        "evaluate_every": dict(schedule.evaluate_every),
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "device_name": device_name(accelerator.device),
        "precision": str(accelerator.mixed_precision),
        "threads": torch.get_num_threads(),
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "images_per_step": {dataset.name: dataset.batch_size for dataset in datasets},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "dataseg_hf": __version__,
        **{name: version(name) for name in _LIBRARIES},
        "started_from": started_from(config.as_plain()),
    }


def device_name(device: torch.device) -> str | None:
    """What the maker calls a GPU, None for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def describe(
    summary: Mapping[str, Any],
    datasets: Sequence[TrainingSet],
    held_out: Sequence[EvaluationSet],
) -> None:
    """Log what is about to happen: model, mix, machine, versions."""
    LOG.info(", ".join(f"{name} {summary[name]}" for name in ("dataseg_hf", *_LIBRARIES, "python")))
    processes = f"{summary['processes']} process(es)"
    LOG.info(
        f"{summary['trainable_parameters'] / 1e6:.2f} M trainable parameters of "
        f"{summary['parameters'] / 1e6:.2f} M; {processes} on {summary['device']}, precision "
        f"{summary['precision']}, {summary['threads']} threads"
    )
    steps, warmup = summary["max_steps"], summary["warmup_steps"]
    LOG.info(
        f"{steps} steps, the first {min(steps, warmup)} of them warm-up; a batch is split over "
        f"{processes} x {summary['gradient_accumulation_steps']} accumulation step(s)"
    )
    if warmup >= steps:
        LOG.warning(
            f"warmup_steps: {warmup} leave none of the {steps} steps at the full learning rate; "
            "lower warmup_steps, or raise max_steps"
        )
    LOG.info(mix_table(resolve_mix(datasets)))
    for dataset in datasets:
        for note in _notes(dataset, summary["queries"]):
            LOG.info(note)
    scored = "; ".join(
        f"{eval_set.name} ({len(eval_set.data)} images: "
        f"{', '.join(eval_set.metrics)}{_interval(summary, eval_set.name)})"
        for eval_set in held_out
    )
    LOG.info(f"held out: {scored or 'nothing'}")


def _notes(dataset: TrainingSet, queries: int) -> list[str]:
    """What a user should know of a dataset, one line each."""
    if isinstance(dataset.data, SampleStream):
        return [
            f"{dataset.name} is streamed: every process reads the whole stream, and a resumed run "
            "reads the started epoch again up to its place"
        ]
    notes = (*dataset.data.notes, *doubts(dataset.data, queries))
    return [f"{dataset.name}: {note}" for note in notes]


def _interval(summary: Mapping[str, Any], name: str) -> str:
    every = summary["evaluate_every"][name]
    return f", every {every} steps" if every else ""


def headline(results: Mapping[str, Any]) -> dict[str, float]:
    """The main metric of each kind."""
    wanted = ("pq", "pq_things", "pq_stuff", "miou", "mask_ap", "mask_ap50", "box_ap")
    return {
        key: value
        for key, value in results.items()
        if "/" in key and key.rpartition("/")[2] in wanted
    }


def report(
    results: Mapping[str, Any], notes: Mapping[str, Sequence[str]], folder: RunFolder
) -> None:
    """Log the results, with notes on odd predictions below the metrics of their set."""
    LOG.info(f"Trained {results['steps']} steps in {results['train_seconds']:.0f} s.")
    metrics = headline(results)
    for name in dict.fromkeys(key.rpartition("/")[0] for key in metrics):
        for key, value in metrics.items():
            if key.rpartition("/")[0] == name:
                LOG.info(f"  {key:<32} {value:.3f}")
        for note in notes.get(name, []):
            LOG.info(f"    note: {note}")
    LOG.info(f"Model, results, curves and pictures are in {folder.path}.")
