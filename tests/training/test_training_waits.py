"""How often a training step waits for the device, which must not grow with layers, images or
targets; and that it mixes no devices. On the pretend device of the helpers.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.optim import AdamW

from conftest import LabelFactory, ModelFactory
from dataseg_hf import HashedNgramEncoder
from dataseg_hf.data.mixing import TrainingSet
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.model.host_dataseg import host_labels, to_host
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training import loop
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.schedule import Schedule
from dataseg_hf.training.signals import StopSignals
from helpers.pretend_device import DEVICE, FarTensor, PretendDevice

SIDE = 32
CROWDED = [(0, 0, 0, 9, 9), (1, 4, 4, 20, 12), (0, 10, 10, 30, 30), (1, 0, 16, 8, 30)]


def labels_of(scene_labels: LabelFactory, task: str, images: int) -> list[dict[str, Tensor]]:
    """Labels of images with a crowd each, and with other numbers of targets."""
    labels = [
        scene_labels(task, (SIDE, SIDE), *CROWDED[: 2 + image % 3], crowd=(1,))
        for image in range(images)
    ]
    if task == "objects":
        for label in labels:
            count = len(label["degrees"])
            label["degrees"] = torch.tensor([Degree.BOX, Degree.MASK, Degree.POINT, Degree.TAG])
            label["degrees"] = label["degrees"][:count]
            label["points"] = torch.full((count, 1, 2), 0.5)
    return labels


def forward_and_backward(
    model: DaTaSegModel, task: str, labels: list[dict[str, Tensor]], **inputs: Any
) -> Tensor:
    device = inputs.pop("device", torch.device("cpu"))
    loss = model(
        pixel_values=inputs.pop("pixel_values"),
        vocabulary="world",
        task=task,
        labels=labels,
        num_targets=torch.full((), 4.0, device=device),
        num_images=torch.full((), float(len(labels)), device=device),
        sampling_seeds=torch.arange(len(labels)),
        **inputs,
    ).loss
    loss.backward()
    return loss


TASKS = ["panoptic", "semantic", "instance", "boxes", "objects"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("merges", [False, True])
def test_waits_of_forward_and_backward(
    tiny_model: ModelFactory, scene_labels: LabelFactory, task: str, merges: bool
) -> None:
    torch.manual_seed(0)
    pixels = torch.randn(4, 3, SIDE, SIDE)
    waits, losses = [], []
    for layers, images in ((1, 1), (4, 4)):
        model = tiny_model(merge_in_training=merges, decoder_layers=layers).train()
        labels = labels_of(scene_labels, task, images)
        losses.append(
            forward_and_backward(model, task, labels, pixel_values=pixels[:images]).item()
        )
        with PretendDevice() as device:
            far = device.move(model)
            model.vocabularies.get("world")  # looked at once a run
            given = device.put(pixels[:images])
            device.clear()
            loss = forward_and_backward(far, task, labels, pixel_values=given, device=DEVICE)
            waits.append(device.total)
            report = device.report()
            assert float(device.fetch(loss)) == pytest.approx(losses[-1], rel=1e-4)
    # the matching, and where MERGE recruits, how many join
    recruits = merges and task in ("panoptic", "semantic", "instance")
    assert waits == [1 + recruits] * 2, report


@pytest.mark.parametrize("task", TASKS)
def test_labels_that_lie_on_the_device_are_read_once(
    tiny_model: ModelFactory, scene_labels: LabelFactory, task: str
) -> None:
    model = tiny_model(merge_in_training=False).train()
    labels, pixels = labels_of(scene_labels, task, 3), torch.randn(3, 3, SIDE, SIDE)
    expected = forward_and_backward(model, task, labels, pixel_values=pixels)
    with PretendDevice() as device:
        far = device.move(model)
        model.vocabularies.get("world")
        moved, given = device.put(labels), device.put(pixels)
        device.clear()
        loss = forward_and_backward(far, task, moved, pixel_values=given, device=DEVICE)
        assert device.total == 2, device.report()
        assert float(device.fetch(loss)) == pytest.approx(expected.item(), rel=1e-4)


def test_packed_copies_keep_every_value() -> None:
    values = [
        torch.tensor([[0.1, -torch.inf], [torch.nan, 1e-42]]),
        torch.tensor([2**40, -5]),
        torch.tensor([True, False, True]),
        torch.zeros(0, 4),
        torch.arange(6, dtype=torch.int16).view(2, 3),
        torch.tensor(0.3, dtype=torch.bfloat16),
    ]
    with PretendDevice() as device:
        moved = to_host(values[0], *device.put(values[1:]))
        assert device.total == 1, device.report()
    for one, value in zip(moved, values, strict=True):
        assert not isinstance(one, FarTensor)
        torch.testing.assert_close(one, value, rtol=0, atol=0, equal_nan=True)


def test_pixels_of_labels_stay_where_they_are() -> None:
    with PretendDevice() as device:
        labels = device.put([{"class_labels": torch.ones(2).long(), "masks": torch.ones(2, 4, 4)}])
        found, seeds = host_labels(labels, None)
    assert seeds is None
    assert found is not None
    assert isinstance(found[0]["masks"], FarTensor)
    assert not isinstance(found[0]["class_labels"], FarTensor)
    assert isinstance(labels[0]["class_labels"], FarTensor)  # the caller's stay as they were


# --- the loop -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_accelerator_state() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def training_on(
    device: PretendDevice, model: DaTaSegModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> loop.CoTraining:
    """The loop of a mix of three sets, its accelerator on the pretend device."""
    names = ["shapes_panoptic", "shapes_semantic", "shapes_boxes"]
    members = [
        TrainingSet(
            name, shapes_dataset(name, "train", count=4, size=SIDE), 1.0, 4, Augmentation(SIDE), {}
        )
        for name in names
    ]
    encoder = HashedNgramEncoder(model.config.text_embedding_dim)
    for member in members:
        spec = member.data.spec
        model.add_vocabulary(member.name, spec.labels, spec.is_thing, encoder(spec.labels))
    accelerator = Accelerator(cpu=True, device_placement=False)
    monkeypatch.setattr(Accelerator, "device", DEVICE)
    # the fused one asks for a device that it knows
    unfused = functools.partial(AdamW, foreach=True)
    monkeypatch.setattr(loop, "AdamW", lambda groups, fused, **more: unfused(groups, **more))
    run_folder = RunFolder(folder)
    run_folder.start_history(0)
    config = RunConfig(
        output_dir=str(folder),
        datasets={name: TrainEntry(spec=name, reader="shapes") for name in names},
        text_encoder={"kind": "hashed_ngrams"},
    )
    schedule = Schedule(12, 0, checkpoint_every=0, evaluate_every={})
    device.move(model)
    return loop.CoTraining(
        config, schedule, model, members, run_folder, accelerator, lambda model, path: None
    )


def no_evaluation(model: DaTaSegModel, step: int, names: Sequence[str]) -> dict[str, float]:
    return {}


def test_a_step_waits_for_the_matching_and_for_its_log(
    tiny_model: ModelFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(
        vocabularies={}, default_vocabulary=None, merge_in_training=False, decoder_layers=3
    ).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with PretendDevice() as device:
        training = training_on(device, model, tmp_path, monkeypatch)
        waits = []
        with training.log:
            batches, signals = training.batches(), StopSignals()
            for _ in range(9):
                device.clear()
                training.train_step(batches, signals)
                waits.append(device.total)
        # the embeddings of each of the three sets are looked at once a run
        assert sorted(waits) == [2] * 6 + [3] * 3, device.report()
        norms = [float(row["gradient_norm"]) for row in training.folder.read_history()]
    assert np.isfinite(norms).all()
    assert any(
        not torch.equal(device.fetch(parameter), before[name])
        for name, parameter in model.named_parameters()
    )
