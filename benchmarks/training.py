"""What the co-training loop costs on the embedded default: waiting for data, overhead of a step, a
second process.

python benchmarks/training.py [--steps 120] [--output outputs/bench_training.json]

Three ratios, each of two sides measured in the same run, on one thread a process. Exit code 1 when
a bar is missed. One process has one core, for its loading process as well, and two have two (Linux
only). The second process is measured with as many images a process and step as the one has, and
(`_same_batch`, no bar) with the same images a step, half of them for each, where the exchange of
gradients weighs twice as much.
"""

import argparse
import copy
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.optim import AdamW

from dataseg_hf.data.micro_batch import MicroBatch, to_device
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.model import build_model, run_text_encoder
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.log import StepLog
from dataseg_hf.training.loop import CoTraining
from dataseg_hf.training.schedule import resolve_schedule
from dataseg_hf.training.signals import StopSignals

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "src/dataseg_hf/configs/shapes.yaml"
BARS = {
    "data_wait_share": ("at most", 0.05),
    "step_overhead": ("at most", 0.05),
    "two_processes": ("at least", 1.5),
}


def shapes_run(steps: int, folder: Path, ema_decay: float) -> CoTraining:
    """The embedded default as `make cotrain` builds it, for so many steps, without evaluation."""
    options = [
        "--max_steps",
        str(steps),
        "--num_threads",
        "1",
        "--ema_decay",
        str(ema_decay),
        "--evaluation",
        "{}",
    ]
    config: RunConfig = parse_run_config(
        [*options, "--output_dir", str(folder), "--checkpoint_every", "0"], CONFIG
    )
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    members = training_mix(config)
    model = build_model(config, members, run_text_encoder(config))
    run_folder = RunFolder(folder)
    run_folder.path.mkdir(parents=True, exist_ok=True)
    run_folder.start_history(0)
    schedule, accelerator = resolve_schedule(config, members), Accelerator(cpu=True)
    return CoTraining(
        config,
        schedule,
        model,
        members,
        run_folder,
        accelerator,
        lambda result, path: result.save_pretrained(path),
    )


def data_wait_share(steps: int) -> float:
    """Share of the training time spent waiting for images, over all steps of a run, the first pass
    included.
    """
    with tempfile.TemporaryDirectory() as temporary:
        training = shapes_run(steps, Path(temporary), ema_decay=0.0)
        training.run(lambda model, step, names: {}, StopSignals())
        rows = training.folder.read_history()
    return sum(float(row["data_seconds"]) for row in rows) / float(rows[-1]["seconds"])


def step_overhead(steps: int) -> tuple[float, float, float]:
    """Median seconds of a bare step and of a step of the loop, on the same batches in turn; and the
    excess share.
    """
    with tempfile.TemporaryDirectory() as temporary:
        training = shapes_run(steps, Path(temporary), ema_decay=0.999)
        bare_model = copy.deepcopy(training.model).train()
        optimizer = AdamW(bare_model.parameters(), lr=1e-3, fused=True)
        bare, looped = [], []
        signals = StopSignals()
        with StepLog(
            training.config, training.schedule, training.folder, training.accelerator, 0, 0.0
        ) as log:
            for micro_batches in training.batches():
                started = time.perf_counter()
                bare_step(bare_model, optimizer, training, micro_batches)
                middle = time.perf_counter()
                training.stop_if_asked(signals, None)
                facts = training.optimize(micro_batches, 0.0)
                log.record(facts, time.perf_counter())
                training.out_of_time()
                looped.append(time.perf_counter() - middle)
                bare.append(middle - started)
    excess = [loop - plain for loop, plain in zip(looped, bare, strict=True)]
    return (
        statistics.median(bare),
        statistics.median(looped),
        statistics.median(excess) / statistics.median(bare),
    )


def bare_step(
    model: DaTaSegModel, optimizer: AdamW, training: CoTraining, micro_batches: Sequence[MicroBatch]
) -> None:
    """Forward, backward and optimizer of a step, and nothing else."""
    (batch,) = micro_batches
    member = training.datasets[batch.dataset]
    output = model(
        **to_device(batch.inputs, torch.device("cpu")),
        vocabulary=member.name,
        task=member.task,
        sampling_seeds=torch.tensor(batch.seeds),
    )
    output.loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def images_per_second(processes: int, steps: int, batch_size: int = 8) -> float:
    """Images per second of `examples/cotrain.py`, one thread and one core a process, over the
    second half of its steps.

    batch_size: images of a step, over all processes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        launch = [sys.executable]
        if processes > 1:
            launch += [
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc_per_node",
                str(processes),
            ]
        command = [
            *launch,
            str(ROOT / "examples/cotrain.py"),
            "--output_dir",
            f"{temporary}/run",
            "--num_threads",
            "1",
            "--max_steps",
            str(steps),
            "--checkpoint_every",
            "0",
            "--evaluation",
            "{}",
            "--check_samples",
            "1",
        ]
        for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes"):
            command += [f"--datasets.{name}.batch_size", str(batch_size)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        cores = sorted(os.sched_getaffinity(0))[:processes]
        subprocess.run(
            command, check=True, capture_output=True, env=environment,
            preexec_fn=partial(os.sched_setaffinity, 0, cores),
        )  # fmt: skip
        with Path(f"{temporary}/run/history.csv").open() as file:
            rows = list(csv.DictReader(file))
    half = len(rows) // 2
    return (
        batch_size
        * (len(rows) - half)
        / (float(rows[-1]["seconds"]) - float(rows[half - 1]["seconds"]))
    )


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=120, help="training steps of every measurement"
    )
    parser.add_argument("--output", default="outputs/bench_training.json")
    arguments = parser.parse_args()
    bare, looped, overhead = step_overhead(arguments.steps)
    one, two, two_larger = (
        images_per_second(processes, arguments.steps, batch_size)
        for processes, batch_size in ((1, 8), (2, 8), (2, 16))
    )
    results: dict[str, float] = {
        "data_wait_share": data_wait_share(4 * arguments.steps),
        "step_overhead": overhead,
        "two_processes": two_larger / one,
        "two_processes_same_batch": two / one,
        "bare_step_seconds": bare,
        "loop_step_seconds": looped,
        "images_per_second_1": one,
        "images_per_second_2": two_larger,
        "images_per_second_2_same_batch": two,
        "cores": os.cpu_count() or 0,
    }
    missed = 0
    for key, (kind, bar) in BARS.items():
        value = results[key]
        held = value <= bar if kind == "at most" else value >= bar
        missed += not held
        print(f"{key:<18} {value:8.3f}   {kind} {bar:g}   {'holds' if held else 'MISSED'}")
    Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.output).write_text(json.dumps(results, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
