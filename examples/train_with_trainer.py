"""The same co-training with transformers.Trainer, for those who have their tooling around it.

accelerate launch examples/train_with_trainer.py                      # the embedded shapes world
accelerate launch examples/train_with_trainer.py --config my.yaml --max_steps 20000

Of the config it reads the mix, the model and the optimization; logging, checkpoints and resuming
are the Trainer's. What cotrain.py has beyond it: one normalizer for all accumulation steps,
averaged weights, evaluation between steps.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.errors import ConfigError
from dataseg_hf.evaluation import evaluate
from dataseg_hf.files.output_folder import (
    ClaimedFolder,
    Reads,
    check_output_folder,
    claim_output_folder,
    hold_output_folder,
)
from dataseg_hf.messages import show_messages
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.model.targets_dataseg import count_targets
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.model import build_model, build_processor, run_text_encoder
from dataseg_hf.settings.parsing import config_files, parse_run_config
from dataseg_hf.settings.paths import expand, run_reads
from dataseg_hf.settings.ready_configs import config_file, with_config_files
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.training.gradients import step_loss_weights
from dataseg_hf.training.optimization import parameter_groups
from dataseg_hf.training.preparation import evaluation_set
from dataseg_hf.training.schedule import Schedule, resolve_schedule

_SCHEDULERS = {
    "cosine": "cosine",
    "linear": "linear",
    "poly": "polynomial",
    "constant": "constant_with_warmup",
}
_WITHOUT_EFFECT = (
    "max_minutes",
    "ema_decay",
    "best_metric",
    "push_to_hub",
    "dry_run",
    "evaluate_every",
)


class MixBatches:
    """The batches of the remaining steps, one dataset each, as arguments of the model's
    `forward`.
    """

    def __init__(self, trainer: "MixTrainer") -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        trainer, config = self.trainer, self.trainer.config
        sampler = MixingSampler(
            trainer.members,
            config.seed,
            first_step=trainer.state.global_step,  # a resumed run goes on where it was
            last_step=trainer.args.max_steps,
            micro_batches=trainer.args.gradient_accumulation_steps,
            rank=trainer.args.process_index,
            world_size=trainer.args.world_size,
        )
        for batch in mixing_loader(
            sampler, Normalization(config.image_mean, config.image_std), config.num_workers
        ):
            member = trainer.members[batch.dataset]
            yield {
                **batch.inputs,
                "vocabulary": member.name,
                "task": member.task,
                "sampling_seeds": torch.tensor(batch.seeds),
                "loss_weights": step_loss_weights(
                    config, trainer.schedule, trainer.plain_model, member, trainer.state.global_step
                ),
            }


class MixTrainer(Trainer):
    """A Trainer on a mix: its batches, its parameter groups, and one normalizer for all
    processes.
    """

    def __init__(
        self,
        config: RunConfig,
        schedule: Schedule,
        model: DaTaSegModel,
        members: Sequence[TrainingSet],
        **options: Any,
    ) -> None:
        super().__init__(model=model, **options)
        self.config, self.schedule, self.members, self.plain_model = (
            config,
            schedule,
            members,
            model,
        )

    def get_train_dataloader(self) -> MixBatches:
        """Not a DataLoader: Accelerate would share out its batches again."""
        return MixBatches(self)

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """AdamW with the run's groups; the schedule scales the rate of each."""
        groups = [
            {"params": group["params"], "weight_decay": group["weight_decay"],
             "lr": self.config.learning_rate * group["lr_factor"]}
            for group in parameter_groups(self.plain_model, self.config)
        ]  # fmt: skip
        self.optimizer = torch.optim.AdamW(groups, betas=self.config.adam_betas)
        return self.optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss over the mean number of targets of all processes: their average is the loss over
        all of them.
        """
        counted = torch.tensor(float(count_targets(inputs["labels"])), device=self.args.device)
        outputs = model(**inputs, num_targets=self.accelerator.reduce(counted, "mean"))
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def trainer_arguments(config: RunConfig, schedule: Schedule) -> TrainingArguments:
    """What of the run's settings the Trainer takes."""
    return TrainingArguments(
        output_dir=expand(config.output_dir, "output_dir"),
        max_steps=schedule.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULERS[config.schedule],
        lr_scheduler_kwargs={"power": 0.9, "lr_end": 0.0} if config.schedule == "poly" else {},
        warmup_steps=schedule.warmup_steps,
        max_grad_norm=config.max_grad_norm,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=config.mixed_precision == "bf16",
        fp16=config.mixed_precision == "fp16",
        logging_steps=config.log_every,
        save_strategy="steps" if schedule.checkpoint_every else "no",
        save_steps=schedule.checkpoint_every or 1,
        save_total_limit=config.keep_checkpoints,
        report_to=config.report_to,
        seed=config.seed,
        ignore_data_skip=True,  # the batches start at the step where the run does
        remove_unused_columns=False,
        ddp_find_unused_parameters=True,
    )


def found_checkpoint(resume: str | None, folder: str) -> str | None:
    """The Trainer's checkpoint that `latest` or a path names; None where `latest` finds none.

    Raises:
        ConfigError: for a path that is no checkpoint in the folder of the run.
    """
    if resume == "latest":
        return get_last_checkpoint(folder) if Path(folder).is_dir() else None
    if resume is not None and not (Path(resume) / "trainer_state.json").is_file():
        raise ConfigError(
            f"resume: '{resume}' is no checkpoint of the Trainer (it has no trainer_state.json)"
        )
    if resume is not None and Path(resume).resolve().parent != Path(folder).resolve():
        raise ConfigError(
            f"resume: '{resume}' is no checkpoint of the run in '{folder}'; give that run's "
            "output_dir"
        )
    return resume


def main() -> int:
    """Exit code 0 when the run ended, 2 for settings that cannot work."""
    show_messages()
    try:
        settings = with_config_files(sys.argv[1:])
        config = parse_run_config(settings, config_file("shapes"))
        if config.every_dataset_in_a_step:
            raise ConfigError(
                "every_dataset_in_a_step: the Trainer takes one dataset a step; use "
                "examples/cotrain.py"
            )
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        folder, reads = (
            expand(config.output_dir, "output_dir"),
            run_reads(config, config_files(settings)),
        )
        resume = found_checkpoint(config.resume, folder)
        if resume is None:
            check_output_folder(folder, "run", "output_dir", reads)
        torch.manual_seed(config.seed)
        encoder = run_text_encoder(config)
        members = training_mix(config)
        schedule = resolve_schedule(config, members)
        held_out = [
            evaluation_set(name, entry, config, encoder)
            for name, entry in config.evaluation.items()
        ]
        model = build_model(config, members, encoder)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ignored = [name for name in _WITHOUT_EFFECT if getattr(config, name)]
    if ignored:
        print(f"without effect in the Trainer: {', '.join(ignored)}")
    processor = build_processor(config)
    arguments = trainer_arguments(config, schedule)
    held = ExitStack()  # until this program ends
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            held.enter_context(claimed_folder(Path(folder), resume is not None, reads))
    trainer = MixTrainer(
        config, schedule, model, members, args=arguments, processing_class=processor
    )
    trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero():
        save_checkpoint(model, processor, arguments.output_dir)
        results = evaluate(model, held_out, Normalization(config.image_mean, config.image_std))
        trainer.save_metrics("all", results, combined=False)
        print("\n".join(f"{name} {value:.3f}" for name, value in results.items()))
    held.close()
    return 0


def claimed_folder(folder: Path, resumes: bool, reads: Reads) -> ClaimedFolder:
    """The folder of the run, which no other command writes into until it is closed."""
    if resumes:
        return hold_output_folder(folder, "output_dir")
    claimed = claim_output_folder(folder, "run", "output_dir", reads)
    if claimed.earlier is not None:
        print(f"{folder} held an earlier run, now in {claimed.earlier}.")
    return claimed


if __name__ == "__main__":
    sys.exit(main())
