"""Whole runs as users start them, in processes of their own: what the tests of runs share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from helpers import warm_python
from helpers.example_scripts import main_of
from helpers.paths import ROOT

SETTINGS = {
    "seed": 1,
    "max_steps": 8,
    "learning_rate": 0.002,
    "warmup_steps": 2,
    "num_threads": 1,
    "checkpoint_every": 2,
    "log_every": 2,
    "num_pictures": 2,
    "ema_decay": 0.9,
    "text_encoder": {"kind": "hashed_ngrams", "dim": 32},
    "model": {
        "backbone_config": {
            "model_type": "convnext",
            "patch_size": 2,
            "hidden_sizes": [8, 8, 16],
            "depths": [1, 1, 1],
            "num_stages": 3,
            "out_features": ["stage1", "stage2", "stage3"],
        },
        "hidden_dim": 16,
        "mask_dim": 8,
        "encoder_layers": 1,
        "encoder_feedforward_dim": 16,
        "decoder_layers": 2,
        "dim_feedforward": 16,
        "num_attention_heads": 2,
        "num_queries": 12,
    },
    "datasets": {
        name: {
            "spec": name,
            "reader": "shapes",
            "count": 8,
            "batch_size": 4,
            "image_size": 32,
            "ratio": 1,
        }
        for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes")
    },
    "evaluation": {
        "shapes_panoptic": {
            "spec": "shapes_panoptic",
            "reader": "shapes",
            "split": "eval",
            "count": 5,
            "vocabulary": "shapes_panoptic",
            "image_size": 32,
            "metrics": ["pq", "miou"],
        },
        "shapes_boxes": {
            "spec": "shapes_boxes",
            "reader": "shapes",
            "split": "eval",
            "count": 5,
            "vocabulary": "shapes_boxes",
            "image_size": 32,
            "metrics": ["mask_ap"],
        },
        "shapes_open": {
            "spec": "shapes_open",
            "reader": "shapes",
            "split": "eval",
            "count": 5,
            "image_size": 32,
            "metrics": ["pq"],
        },
    },
}


LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--cpu",
    "--num_processes",
    "1",
]


def torchrun(processes: int) -> list[str]:
    """What starts several processes; `accelerate launch` starts those on CPUs through MPI only."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]


def command(folder: Path, *arguments: str, processes: int = 1, launch: bool = False) -> list[str]:
    """The example on a tiny config, into `folder`: alone, by `accelerate launch`, or on several
    processes by torchrun.

    The latter as `accelerate launch` starts several CPU processes through MPI only.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.parent / "settings.yaml"
    config.write_text(yaml.safe_dump({"output_dir": str(folder), **SETTINGS}, sort_keys=False))
    start_by = LAUNCH if launch else [sys.executable]
    if processes > 1:
        start_by = torchrun(processes)
    return [*start_by, str(ROOT / "examples/cotrain.py"), "--config", str(config), *arguments]


def script(folder: Path, *arguments: str) -> list[str]:
    """The example and its arguments, without what starts it."""
    return command(folder, *arguments)[1:]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }


def start(
    folder: Path, *arguments: str, processes: int = 1, launch: bool = False
) -> subprocess.CompletedProcess[str]:
    """A run to its end; `launch`: with nothing imported, as users start it."""
    if not launch:
        return warm_python.run_together(script(folder, *arguments), environment(), processes)
    return subprocess.run(
        command(folder, *arguments, processes=processes, launch=True),
        capture_output=True, text=True, env=environment(), timeout=300
    )  # fmt: skip


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """A run in this process, which spares its start: for those that end before training. Returns
    the exit code.
    """
    monkeypatch.setattr(sys, "argv", command(folder, *arguments)[1:])
    # else the Hub is asked for a wrong name, several times
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    # Accelerate's state is shared by all that a process does: neither take it over nor leave it
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return main_of("cotrain")()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def begin(folder: Path, *arguments: str, processes: int = 1) -> warm_python.Scripts:
    """A run while it goes on."""
    return warm_python.Scripts(script(folder, *arguments), environment(), processes, merged=True)


def wait_until(holds: Callable[[], Any], process: warm_python.Scripts) -> None:
    """Return as soon as something holds, while a process runs."""
    deadline = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, f"the run ended first:\n{process.communicate()[0][-3000:]}"
        assert time.monotonic() < deadline, "not within 200 s"
        time.sleep(0.01)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
