"""What a run tells of itself at its start and end, for the eye and in the run's folder."""

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

_LIBRARIES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "numpy",
    "safetensors",
)


def run_facts(
    config: RunConfig,
    schedule: Schedule,
    model: DaTaSegModel,
    members: Sequence[TrainingSet],
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
        "images_per_step": {member.name: member.batch_size for member in members},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "dataseg_hf": __version__,
        **{name: version(name) for name in _LIBRARIES},
        "started_from": started_from(vars(config)),
    }


def device_name(device: torch.device) -> str | None:
    """What the maker calls a GPU, None for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def describe(
    facts: Mapping[str, Any], members: Sequence[TrainingSet], held_out: Sequence[EvaluationSet]
) -> None:
    """Print what is about to happen: model, mix, machine, versions."""
    print(", ".join(f"{name} {facts[name]}" for name in ("dataseg_hf", *_LIBRARIES, "python")))
    print(
        f"{facts['trainable_parameters'] / 1e6:.2f} M trainable parameters of "
        f"{facts['parameters'] / 1e6:.2f} M; "
        f"{facts['processes']} process(es) on {facts['device']}, precision {facts['precision']}, "
        f"{facts['threads']} threads"
    )
    print(
        f"{facts['max_steps']} steps, the first {facts['warmup_steps']} of them warm-up; a batch "
        "is split over "
        f"{facts['processes']} process(es) x {facts['gradient_accumulation_steps']} accumulation "
        "step(s)"
    )
    print(mix_table(resolve_mix(members)))
    for member in members:
        if isinstance(member.data, SampleStream):
            print(
                f"{member.name} is streamed: every process reads the whole stream, and a resumed "
                "run reads the started "
                "epoch again up to its place"
            )
        else:
            for note in (*member.data.notes, *doubts(member.data, facts["queries"])):
                print(f"{member.name}: {note}")
    scored = "; ".join(
        f"{chosen.name} ({len(chosen.data)} images: "
        f"{', '.join(chosen.metrics)}{_interval(facts, chosen.name)})"
        for chosen in held_out
    )
    print(f"held out: {scored or 'nothing'}")


def _interval(facts: Mapping[str, Any], name: str) -> str:
    every = facts["evaluate_every"][name]
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
    """Print the results, what is odd about the predictions of a held-out set below its metrics, and
    where it all is.
    """
    print(f"Trained {results['steps']} steps in {results['train_seconds']:.0f} s.")
    metrics = headline(results)
    for name in dict.fromkeys(key.rpartition("/")[0] for key in metrics):
        for key, value in metrics.items():
            if key.rpartition("/")[0] == name:
                print(f"  {key:<32} {value:.3f}")
        for note in notes.get(name, []):
            print(f"    note: {note}")
    print(f"Model, results, curves and pictures are in {folder.path}.")
