"""The pieces of the training loop, without processes."""

import copy
import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from conftest import LabelFactory, ModelFactory
from dataseg_hf import HashedNgramEncoder
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.micro_batch import MicroBatch
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.failures import DivergedError
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.gradients import accumulate_gradients, step_loss_weights
from dataseg_hf.training.loop import MAX_SKIPPED_STEPS, CoTraining
from dataseg_hf.training.optimization import AveragedWeights, learning_rate, parameter_groups
from dataseg_hf.training.schedule import Schedule
from dataseg_hf.training.signals import StopRequested, StopSignals

NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)
NAMES = ["shapes_panoptic", "shapes_semantic", "shapes_boxes"]


@pytest.fixture(autouse=True)
def own_accelerator_state() -> Iterator[None]:
    """Accelerate's state is shared by all accelerators of a process; a test's precision is
    its own.
    """
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def settings(**options: object) -> RunConfig:
    datasets = {name: TrainEntry(spec=name, reader="shapes") for name in NAMES}
    config = RunConfig(
        output_dir="unused", datasets=datasets, text_encoder={"kind": "hashed_ngrams"}
    )
    return config.model_copy(update=options)


def schedule(max_steps: int = 100, warmup_steps: int = 0, **options: Any) -> Schedule:
    return Schedule(max_steps, warmup_steps, checkpoint_every=0, evaluate_every={}, **options)


def members() -> list[TrainingSet]:
    return [
        TrainingSet(
            name, shapes_dataset(name, "train", count=4, size=32), 1.0, 4, Augmentation(32), {}
        )
        for name in NAMES
    ]


def model_of_the_mix(tiny_model: ModelFactory) -> DaTaSegModel:
    model = tiny_model(vocabularies={}, default_vocabulary=None)
    encoder = HashedNgramEncoder(model.config.text_embedding_dim)
    for member in members():
        spec = member.data.spec
        model.add_vocabulary(member.name, spec.labels, spec.is_thing, encoder(spec.labels))
    return model.train()


def micro_batches(count: int, step: int) -> list[MicroBatch]:
    sampler = MixingSampler(members(), 0, step, step + 1, micro_batches=count)
    return list(mixing_loader(sampler, NORMALIZATION))


def gradients(model: DaTaSegModel, batches: list[MicroBatch], step: int) -> dict[str, torch.Tensor]:
    model = copy.deepcopy(model)
    member = members()[batches[0].dataset]
    weights = step_loss_weights(settings(), schedule(10), model, member, step)
    accumulate_gradients(model, member, batches, step, weights, Accelerator(cpu=True))
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_learning_rate_warms_up_and_follows_the_schedule() -> None:
    config, planned = settings(learning_rate=1.0), schedule(max_steps=100, warmup_steps=10)
    assert learning_rate(config, planned, 0) == pytest.approx(0.1)
    assert learning_rate(config, planned, 50) == pytest.approx(0.5)
    assert learning_rate(config, planned, 75) == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))
    assert learning_rate(
        config.model_copy(update={"schedule": "poly"}), planned, 50
    ) == pytest.approx(0.5**0.9)
    assert learning_rate(
        config.model_copy(update={"schedule": "linear"}), planned, 75
    ) == pytest.approx(0.25)
    assert learning_rate(config.model_copy(update={"schedule": "constant"}), planned, 99) == 1.0


def test_norms_biases_query_embeddings_and_classifier_do_not_decay(
    tiny_model: ModelFactory,
) -> None:
    model = tiny_model()
    groups = parameter_groups(model, settings(weight_decay=0.1, backbone_lr_factor=0.25))
    found = {
        id(p): (group["lr_factor"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    named = {name: found[id(p)] for name, p in model.named_parameters()}
    assert named["query_decoder.queries.weight"] == (1.0, 0.0)
    assert named["classifier.logit_scale"] == named["classifier.background"] == (1.0, 0.0)
    assert named["query_decoder.norm.weight"] == (1.0, 0.0)
    assert named["query_decoder.layers.0.cross_attention.query.weight"] == (1.0, 0.1)
    assert named["query_decoder.layers.0.cross_attention.query.bias"] == (1.0, 0.0)
    assert all(
        factor == 0.25 for name, (factor, _) in named.items() if name.startswith("backbone.")
    )
    assert len(found) == len(named)


def test_a_backbone_with_factor_0_gets_no_gradients(
    tiny_model: ModelFactory, scene_labels: LabelFactory
) -> None:
    model = tiny_model()
    groups = parameter_groups(model, settings(backbone_lr_factor=0))
    labels = [scene_labels("semantic", (64, 64), (0, 8, 8, 30, 40))]
    loss = model.train()(torch.randn(1, 3, 64, 64), labels=labels, task="semantic").loss
    loss.backward()
    optimized = {id(p) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in optimized) == (not name.startswith("backbone."))
        assert not (name.startswith("backbone.") and parameter.grad is not None)


@pytest.mark.parametrize(
    ("start", "factor"),
    [({}, 1.0), ({"linear_start": 5}, 0.1), ({"backbone_classifier": True}, 0.0)],
)
def test_what_was_fitted_to_a_frozen_backbone_learns_slowly_or_not_at_all(
    tiny_model: ModelFactory, start: dict[str, Any], factor: float
) -> None:
    model = tiny_model(cell_classifier=True)
    cells = model.cell_classifier
    assert cells is not None
    groups = parameter_groups(model, settings(backbone_lr_factor=0, **start))
    factors = {id(p): group["lr_factor"] for group in groups for p in group["params"]}
    for parameter in cells.linear.parameters():
        assert factors.get(id(parameter), 0.0) == factor
        assert parameter.requires_grad == (factor > 0)
    # nothing is learned beside the classifier of a segmenter
    assert (id(cells.output.weight) in factors) == ("backbone_classifier" not in start)


def test_what_was_fitted_learns_with_a_backbone_that_learns(tiny_model: ModelFactory) -> None:
    model = tiny_model(cell_classifier=True)
    groups = parameter_groups(model, settings(backbone_lr_factor=0.5, linear_start=5))
    cells = model.cell_classifier
    assert cells is not None
    (of_cells,) = [g for g in groups if any(p is cells.linear.weight for p in g["params"])]
    assert of_cells["lr_factor"] == 1


def test_frozen_parameters_are_not_optimized(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    model.backbone.requires_grad_(False)
    optimized = {id(p) for group in parameter_groups(model, settings()) for p in group["params"]}
    assert not optimized & {id(p) for p in model.backbone.parameters()}


def test_color_affinity_is_ramped_up(tiny_model: ModelFactory) -> None:
    model, config = tiny_model(color_affinity_weight=2.0), settings(color_affinity_ramp=0.5)
    member = replace(members()[2], loss_weights={"projection": 7.0})
    weights = [
        step_loss_weights(config, schedule(100), model, member, step) for step in (0, 25, 50, 90)
    ]
    assert [w["color_affinity"] for w in weights] == [0.0, 1.0, 2.0, 2.0]
    assert all(w["projection"] == 7.0 for w in weights)


@pytest.mark.parametrize("step", range(6))
def test_micro_batches_add_up_to_the_gradient_of_the_whole(
    tiny_model: ModelFactory, step: int
) -> None:
    model = model_of_the_mix(tiny_model)
    whole, parts = (
        gradients(model, micro_batches(1, step), step),
        gradients(model, micro_batches(2, step), step),
    )
    assert set(whole) == set(parts)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=2e-3, rtol=1e-3, msg=name)


def test_a_loss_that_is_not_finite_stops_with_its_context(tiny_model: ModelFactory) -> None:
    model = model_of_the_mix(tiny_model)
    with torch.no_grad():
        model.query_decoder.queries.weight.fill_(float("nan"))
    batches = micro_batches(1, 0)
    member = members()[batches[0].dataset]
    with pytest.raises(
        DivergedError, match=r"step 1, dataset 'shapes_\w+', images \['shapes_\w+_train_0000"
    ):
        accumulate_gradients(model, member, batches, 0, {}, Accelerator(cpu=True))


def test_averaged_weights_follow_the_formula(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    averaged = AveragedWeights(model, decay=0.5)
    before = model.classifier.background.detach().clone()
    with torch.no_grad():
        model.classifier.background.add_(1.0)
    averaged.update(model, step=0)  # decay (1 + 0) / (10 + 0)
    torch.testing.assert_close(averaged.model.classifier.background, before + 0.9)
    averaged.update(model, step=1000)
    torch.testing.assert_close(averaged.model.classifier.background, before + 0.95)


# --- a gradient scaler ----------------------------------------------------------------------------


def scaled_accelerator(init_scale: float) -> Accelerator:
    """Half precision with a real gradient scaler, which Accelerate itself gives to GPUs only."""
    accelerator = Accelerator(cpu=True)
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    accelerator.state._mixed_precision = "fp16"
    return accelerator


def co_training(
    tiny_model: ModelFactory,
    folder: Path,
    accelerator: Accelerator,
    checkpoint: Path | None = None,
    **options: Any,
) -> CoTraining:
    """options: of the schedule."""
    run_folder = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    run_folder.start_history(0 if checkpoint is None else run_folder.steps_of(checkpoint))
    config = settings(log_every=1000)
    model = model_of_the_mix(tiny_model)
    return CoTraining(
        config,
        schedule(**{"max_steps": 60, **options}),
        model,
        members(),
        run_folder,
        accelerator,
        lambda result, path: result.save_pretrained(path),
        checkpoint,
    )


def no_evaluation(model: DaTaSegModel, step: int, names: Sequence[str]) -> dict[str, float]:
    return {}


def test_steps_that_the_scaler_skips_are_no_divergence(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    accelerator = scaled_accelerator(init_scale=2.0**24)
    before = copy.deepcopy(model_of_the_mix(tiny_model).state_dict())
    training = co_training(tiny_model, tmp_path, accelerator)
    outcome = training.run(no_evaluation, StopSignals())
    assert outcome.steps == 60
    norms = [float(row["gradient_norm"]) for row in training.folder.read_history()]
    assert not math.isfinite(norms[0])
    assert math.isfinite(norms[-1])
    after = outcome.model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_a_scaler_that_finds_no_scale_is_a_divergence(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    training = co_training(tiny_model, tmp_path, scaled_accelerator(init_scale=2.0**110))
    with pytest.raises(
        DivergedError, match=rf"step {MAX_SKIPPED_STEPS}, dataset .* the norm of the gradient is"
    ):
        training.run(no_evaluation, StopSignals())
    assert len(training.folder.read_history()) == MAX_SKIPPED_STEPS - 1


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    training = co_training(tiny_model, tmp_path, Accelerator(cpu=True))
    background = training.model.classifier.background
    background.register_hook(lambda gradient: gradient * float("inf"))
    before = background.detach().clone()
    with pytest.raises(
        DivergedError, match=r"step 1, dataset 'shapes_\w+', images .* gradient is .*loss_class"
    ) as stop:
        training.run(no_evaluation, StopSignals())
    assert "Checkpoints are kept" in str(stop.value)
    assert torch.equal(background, before)


# --- the clock ------------------------------------------------------------------------------------


class Clock:
    """Two seconds pass in every step, which looks at it three times."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        self.seconds += 1.0
        return self.seconds


class StopAfter(StopSignals):
    """SIGTERM comes in the midst of a step."""

    def __init__(self, training: CoTraining, step: int) -> None:
        self.training, self.step = training, step

    @property
    def received(self) -> signal.Signals | None:  # type: ignore[override]
        return signal.SIGTERM if self.training.step == self.step else None


def rates(training: CoTraining) -> list[str]:
    return [row["learning_rate"] for row in training.folder.read_history()]


def test_the_rate_has_come_down_when_the_time_is_over(
    tiny_model: ModelFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 of 60 steps in 20 seconds: the rate stays up for 5 steps, then follows the clock, and a
    resumed run's too.
    """
    monkeypatch.setattr("dataseg_hf.training.loop.time", Clock())
    whole = co_training(tiny_model, tmp_path / "whole", Accelerator(cpu=True), max_seconds=20.0)
    assert whole.run(no_evaluation, StopSignals()).steps == 10
    progress = [max(step / 60, (2 * step - 10) / 10) for step in range(10)]
    peak = whole.config.learning_rate
    assert rates(whole) == [
        f"{peak * 0.5 * (1 - math.cos(math.pi * (1 - done))):.3e}" for done in progress
    ]

    folder = tmp_path / "parts"
    first = co_training(tiny_model, folder, Accelerator(cpu=True), max_seconds=20.0)
    with pytest.raises(StopRequested):
        first.run(no_evaluation, StopAfter(first, 7))
    (checkpoint,) = first.folder.complete_checkpoints()
    second = co_training(tiny_model, folder, Accelerator(cpu=True), checkpoint, max_seconds=20.0)
    assert (second.step, second.seconds) == (7, 14.0)
    outcome = second.run(no_evaluation, StopSignals())
    assert rates(second) == rates(whole)
    found, expected = outcome.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_all_processes_go_by_the_clock_of_the_main_one(
    tiny_model: ModelFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dataseg_hf.training.loop.broadcast", lambda seconds: torch.full_like(seconds, 7.1)
    )
    training = co_training(tiny_model, tmp_path, Accelerator(cpu=True), max_seconds=20.0)
    assert training.agreed_clock(3.0) == 3.0
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    assert training.agreed_clock(3.0) == 7.1
    training.schedule = schedule(60)
    assert training.agreed_clock(3.0) == 3.0  # without a limit nothing depends on it
