"""On what a model was trained, and how long that took, in words."""

from collections.abc import Mapping
from typing import Any

from .record import Record

DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "Apple GPU"}
PRECISION = {"no": "float32", "bf16": "bfloat16 mixed precision", "fp16": "float16 mixed precision"}
VERSIONS = ("python", "torch", "transformers", "accelerate", "dataseg_hf")


def hardware(record: Record) -> list[str]:
    """A sentence on the time and one per machine that the run was on, as far as it recorded
    them.
    """
    lines = []
    if "train_seconds" in record.results:
        lines.append(f"Training took {duration(record.results['train_seconds'])}.")
    machines = list(dict.fromkeys(_machine(facts) for facts in record.starts))
    if len(machines) > 1:
        lines.append("The run was interrupted and went on elsewhere:")
    return [*lines, *machines]


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader thinks in."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _machine(facts: Mapping[str, Any]) -> str:
    """Devices, precision and versions of one start of a run."""
    count, device = facts["processes"], facts["device"]
    name = facts.get("device_name") or DEVICES.get(device, device)
    threads = f", {facts['threads']} threads each" if device == "cpu" else ""
    versions = ", ".join(f"{part} {facts[part]}" for part in VERSIONS if part in facts)
    precision = PRECISION.get(facts["precision"], facts["precision"])
    return (
        f"It ran in {count} {'process' if count == 1 else 'processes'} on {name}{threads}, in "
        f"{precision}, with {versions}."
    )
