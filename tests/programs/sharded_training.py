"""Four steps on the shapes world, with sharded weights (FSDP 2) or whole ones.

python sharded_training.py sharded|whole CONFIG FOLDER [CHECKPOINT]

Accelerate shards on GPUs only; what it does there runs on CPUs as well when it is told that it
shards.
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file

from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.model import build_model, build_processor, run_text_encoder
from dataseg_hf.settings.run import parse_run_config
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.loop import CoTraining
from dataseg_hf.training.schedule import resolve_schedule
from dataseg_hf.training.signals import StopSignals


def start(sharded: bool) -> Accelerator:
    if not sharded:
        settings = DistributedDataParallelKwargs(
            find_unused_parameters=True, broadcast_buffers=False
        )
        return Accelerator(cpu=True, kwargs_handlers=[settings])
    accelerator = Accelerator(cpu=True)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    # Accelerate reads it anew from the environment whenever its state is asked for
    sharding = property(lambda self: DistributedType.FSDP, lambda self, value: None)
    AcceleratorState.distributed_type = sharding  # type: ignore[assignment]
    return accelerator


def main(kind: str, config_file: str, folder: str, checkpoint: str | None = None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = parse_run_config(
        ["--config", config_file, "--ema_decay", "0", "--max_steps", "4"], "unused"
    )
    members = training_mix(config)
    model = build_model(config, members, run_text_encoder(config))
    accelerator = start(kind == "sharded")
    run_folder = RunFolder(folder)
    if accelerator.is_main_process:
        run_folder.path.mkdir(parents=True)
        run_folder.start_history(0)
    accelerator.wait_for_everyone()
    schedule = resolve_schedule(config, members)
    resumed = None if checkpoint is None else Path(checkpoint)
    processor = build_processor(config)
    training = CoTraining(
        config, schedule, model, members, run_folder, accelerator,
        lambda result, path: save_checkpoint(result, processor, path), resumed,
    )  # fmt: skip
    outcome = training.run(lambda model, step, names: {}, StopSignals())
    if accelerator.is_main_process:
        tensors = {name: tensor.contiguous() for name, tensor in outcome.model.state_dict().items()}
        save_file(tensors, Path(folder) / "result.safetensors")
    accelerator.wait_for_everyone()
    del training, outcome
    accelerator.free_memory()  # before the process group, whose threads may hold what wraps the model
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
