"""What the model and its results make the host wait for, on a pretend device: counts that depend on
neither the number of proposals nor of segments, and results that are those of the host.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dataseg_hf import DaTaSegImageProcessor, DaTaSegPipeline
from dataseg_hf.model import postprocessing_dataseg
from dataseg_hf.model.modeling_dataseg import DaTaSegOutput
from dataseg_hf.model.postprocessing_dataseg import (
    instance_prediction,
    likeliest_class,
    semantic_prediction,
)
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.model.resizing_dataseg import Resize
from dataseg_hf.model.thresholds_dataseg import Thresholds
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.pretend_device import DEVICE, FarTensor, PretendDevice
from helpers.proposals import WHOLE

CATEGORIES = 5
IS_THING = torch.tensor([True, True, True, False, False])
SIZE = (120, 90)
WAITS = {"semantic": 2, "panoptic": 3, "panoptic by mask2former's rules": 3, "binary instances": 3}


@pytest.fixture
def device() -> Iterator[PretendDevice]:
    with PretendDevice() as device:
        yield device


def outputs(queries: int, empty: bool = False) -> DaTaSegOutput:
    """Blobs of random size, most of them seen; none where it is empty."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(24.0), indexing="ij")
    center, radius = torch.rand(2, queries, 1, 1), 2 + 6 * torch.rand(queries, 1, 1)
    distance = (rows - 32 * center[0]).square() + (columns - 24 * center[1]).square()
    classes = 4 * torch.randn(1, queries, CATEGORIES + 1)
    classes[..., -1] = 20.0 if empty else -3.0
    return DaTaSegOutput(
        class_queries_logits=classes,
        masks_queries_logits=(radius - distance.sqrt())[None],
        is_thing=IS_THING[None],
        valid_size=torch.tensor([[1.0, 0.9]]),
    )


def results(kind: str, found: DaTaSegOutput) -> Any:
    processor = DaTaSegImageProcessor()
    options: dict[str, Any] = {"target_sizes": [SIZE]}
    if kind == "semantic":
        return processor.post_process_semantic_segmentation(found, **options)[0]
    if kind.startswith("panoptic"):
        return processor.post_process_panoptic_segmentation(
            found,
            overlap_mask_area_threshold=0.3,
            label_ids_to_fuse=[3, 4],
            mask2former_rules="rules" in kind,
            **options,
        )[0]
    options["nms"] = 0.5 if "without repeats" in kind else None
    return processor.post_process_instance_segmentation(
        found, threshold=0.3, return_binary_maps="binary" in kind, **options
    )[0]


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("queries", [10, 100])
@pytest.mark.parametrize("kind", [*WAITS, "instances", "instances without repeats"])
def test_results_wait_a_few_times_and_are_those_of_the_host(
    device: PretendDevice, kind: str, queries: int, empty: bool
) -> None:
    found = outputs(queries, empty)
    expected = results(kind, found)
    far = results(kind, device.put(found))
    # a map of instances needs their masks, and so does leaving out repeats
    most = WAITS.get(kind, 5 if "repeats" in kind else 4)
    assert device.total <= most, device.report()
    if not empty and "repeats" not in kind:
        assert device.total == most, device.report()
    if isinstance(expected, dict):
        assert far["segments_info"] == expected["segments_info"]
        assert (len(expected["segments_info"]) > 2) is (not empty)
        far, expected = far["segmentation"], expected["segmentation"]
    assert isinstance(far, FarTensor)
    assert torch.equal(far.on_host, expected)


def test_semantic_results_of_many_bands_wait_as_often(
    device: PretendDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postprocessing_dataseg, "BAND_ELEMENTS", 5000)
    (proposals,) = ImageProposals.of_batch(outputs(20))
    expected = semantic_prediction(proposals, SIZE)
    far = semantic_prediction(device.put(proposals), SIZE)
    assert device.total == 2, device.report()
    assert torch.equal(device.fetch(far.segmentation), expected.segmentation)
    assert torch.equal(device.fetch(far.sums), expected.sums)
    device.clear()
    scores = torch.randn(4, 8, 8)
    winner = likeliest_class(device.put(scores), device.put(WHOLE), SIZE)
    assert device.total == 2, device.report()
    assert torch.equal(device.fetch(winner), likeliest_class(scores, WHOLE, SIZE))


def test_predictions_come_to_the_host_at_once(device: PretendDevice) -> None:
    (proposals,) = ImageProposals.of_batch(outputs(30))
    expected = instance_prediction(proposals, SIZE, Thresholds(score=0.2))
    found = instance_prediction(device.put(proposals), SIZE, Thresholds(score=0.2))
    device.clear()
    regions = list(found.on_host().regions())
    assert device.total == 1, device.report()
    for region, other in zip(regions, expected.regions(), strict=True):
        assert torch.equal(region.mask, other.mask)
        assert dataclasses.replace(region, mask=other.mask) == other


def test_windows_are_found_with_one_wait(device: PretendDevice) -> None:
    rows, columns = torch.rand(7, 9) > 0.6, torch.rand(7, 5) > 0.6
    expected = Resize((9, 5), WHOLE, (20, 30), WHOLE.device).windows(rows, columns)
    far = Resize((9, 5), WHOLE, (20, 30), DEVICE).windows(*device.put([rows, columns]))
    assert device.total == 1, device.report()
    assert far == expected


def test_objects_apart_are_copied_twice(device: PretendDevice) -> None:
    found = outputs(12)
    proposals = ImageProposals(
        found.class_queries_logits[0],
        found.masks_queries_logits[0],
        WHOLE,
        IS_THING,
        torch.rand(12),
    )
    proposals.mask_logits[:, 10:14] = -1.0  # through the middle of many
    expected = proposals.objects_apart(4)
    far = device.put(proposals).objects_apart(4)
    assert device.total == 2, device.report()
    assert torch.equal(device.fetch(far.mask_logits), expected.mask_logits)
    assert torch.equal(device.fetch(far.class_logits), expected.class_logits)
    assert torch.equal(device.fetch(far.semantic_weights), expected.semantic_weights)


# --- the model ------------------------------------------------------------------------------------


def inputs() -> dict[str, Tensor]:
    mask = torch.ones(2, 64, 64, dtype=torch.int64)
    mask[1, :, 40:] = 0
    return {"pixel_values": torch.randn(2, 3, 64, 64), "pixel_mask": mask}


def test_a_forward_pass_stays_on_the_device(device: PretendDevice) -> None:
    model = checkpoint_model()
    given = inputs()
    with torch.no_grad():
        expected = model(**given)
        device.move(model)
        found = model(**device.put(given))
        first = device.report()
        device.clear()
        model(**device.put(given))
    assert device.total == 0, first
    for key in ("class_queries_logits", "masks_queries_logits", "valid_size", "is_thing"):
        assert isinstance(found[key], FarTensor)
        torch.testing.assert_close(device.fetch(found[key]), expected[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("subtask", ["panoptic", "semantic", "instance"])
@pytest.mark.parametrize("words", [None, ["house", "red car", "tree"]])
def test_the_pipeline(device: PretendDevice, subtask: str, words: list[str] | None) -> None:
    options: dict[str, Any] = {
        "subtask": subtask,
        "threshold": 0.0,
        "overlap_mask_area_threshold": 0.0,
    }
    if words is not None:
        options["vocabulary"] = words
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    make: Callable[..., DaTaSegPipeline] = DaTaSegPipeline
    processor = checkpoint_processor()
    expected = make(model=checkpoint_model(), image_processor=processor, device="cpu")(
        image, **options
    )
    far = make(model=checkpoint_model(), image_processor=processor, device=DEVICE)
    assert far.model.device == DEVICE
    found = far(image, **options)
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    assert found
