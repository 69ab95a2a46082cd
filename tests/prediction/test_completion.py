"""What an annotation lacks, from a model's proposals: better than the box, and never against what
the annotation says.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dataseg_hf.data.readers.objects_of_degrees import ObjectsOfDegrees
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, Sample, Segments
from dataseg_hf.data.sample_faults import sample_faults
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.prediction.completion import (
    complete_boxes,
    complete_sample,
    split_into_objects,
)

CAT, DOG, SKY = range(3)
SPEC = DatasetSpec(
    name="tiny",
    task="objects",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("sky", False)),
    id_map={0: CAT, 1: DOG, 2: SKY},
)
SIZE = (48, 64)
GRID = (16, 16)  # of a square canvas of 64 x 64 pixels


def proposals(*made: tuple[int, float, NDArray[np.bool_]]) -> ImageProposals:
    """Of class, probability and mask [48, 64]; sure of their pixels, and a background each."""
    classes = torch.full((len(made), 4), 1e-6)
    masks = torch.full((len(made), *GRID), -6.0)
    for number, (label, probability, mask) in enumerate(made):
        classes[number, label] = probability
        classes[number, -1] = 1 - probability
        shares = mask.reshape(12, 4, 16, 4).mean((1, 3))
        masks[number, :12] = torch.from_numpy(12 * shares - 6)
    things = torch.tensor([c.is_thing for c in SPEC.classes])
    return ImageProposals(classes.log(), masks, torch.tensor([0.75, 1.0]), things)


def rectangle(left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def disk(x: int, y: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def painted(*masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image in which each mask has a color."""
    image = np.full((*SIZE, 3), 90, np.uint8)
    for number, mask in enumerate(masks):
        image[mask] = [(250, 40, 40), (40, 40, 250), (40, 220, 40)][number % 3]
    return image


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


# --- boxes


def test_a_box_gets_the_mask_of_its_object() -> None:
    object_, other = disk(20, 24, 12), disk(50, 24, 10)
    found = complete_boxes(
        proposals((CAT, 0.6, object_), (CAT, 0.9, other), (DOG, 0.9, rectangle(0, 0, 64, 48))),
        painted(object_, other),
        np.array([[8.0, 12, 32, 36], [40, 14, 60, 34]]),
        np.array([CAT, CAT]),
    )
    masks = [one.within(slice(0, 48), slice(0, 64)) for one in found.segments]
    assert [iou(mask, true) for mask, true in zip(masks, (object_, other), strict=True)] == [
        pytest.approx(1, abs=0.06)
    ] * 2
    assert [one.label_id for one in found.segments] == [CAT, CAT]
    assert (found.agreement > 0.95).all()
    assert all(0.5 < (one.score or 0) <= 1 for one in found.segments)


def test_colors_correct_what_the_network_draws_roughly() -> None:
    """A mask that is a square of cells, of an object that is a disk of another color."""
    object_ = disk(32, 24, 12)
    rough = proposals((CAT, 0.9, rectangle(20, 12, 44, 36)))
    box, label = np.array([[20.0, 12, 44, 36]]), np.array([CAT])
    gray = complete_boxes(rough, painted(), box, label).segments[0]
    colored = complete_boxes(rough, painted(object_), box, label).segments[0]
    whole = slice(0, 48), slice(0, 64)
    assert iou(gray.within(*whole), object_) < 0.8
    assert iou(colored.within(*whole), object_) > 0.86


def test_a_faint_mask_is_raised_until_it_meets_all_sides() -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    faint = proposals((CAT, 0.9, disk(32, 24, 12)))
    faint = replace(faint, mask_logits=faint.mask_logits - 7)  # nowhere above 0
    found = complete_boxes(faint, image, np.array([[20.0, 12, 44, 36]]), np.array([CAT]))
    assert found.agreement[0] > 0.8


def test_an_image_without_boxes_has_no_masks() -> None:
    none = complete_boxes(
        proposals((CAT, 0.9, disk(32, 24, 12))), painted(), np.zeros((0, 4)), np.zeros(0, np.int64)
    )
    assert (list(none.segments), len(none.agreement)) == ([], 0)


def test_where_the_model_sees_nothing_the_box_is_the_mask() -> None:
    nothing = proposals((DOG, 0.9, rectangle(0, 0, 4, 4)))
    box = np.array([[20.0, 12, 44, 36]])
    found = complete_boxes(nothing, painted(rectangle(20, 12, 22, 14)), box, np.array([CAT]))
    assert found.segments[0].score == 0
    assert found.segments[0].mask.all()
    assert found.agreement[0] == 1


# --- classes


def test_objects_that_touch_are_split_and_parts_are_joined() -> None:
    left, right = rectangle(4, 4, 24, 20), rectangle(24, 4, 44, 20)
    behind = rectangle(4, 28, 24, 40) | rectangle(40, 28, 60, 40)  # a bar of sky between them
    class_map = np.where(left | right | behind, CAT, SKY)
    found = split_into_objects(
        proposals((CAT, 0.9, left), (CAT, 0.8, right), (CAT, 0.9, behind), (DOG, 0.9, left)),
        class_map,
        CAT,
    )
    assert len(found) == 3
    assert max(iou(mask, behind) for mask, _ in found) == 1
    for true in (left, right):
        assert max(iou(mask, true) for mask, _ in found) > 0.85
    assert sum(mask.astype(int) for mask, _ in found).tolist() == (class_map == CAT).tolist()


def test_without_a_proposal_the_connected_parts_are_the_objects() -> None:
    one, other = rectangle(4, 4, 20, 20), rectangle(30, 4, 50, 20)
    class_map = np.where(one | other, DOG, SKY)
    found = split_into_objects(proposals((CAT, 0.99, one)), class_map, DOG)
    assert sorted(int(mask.sum()) for mask, _ in found) == [256, 320]
    assert [fit for _, fit in found] == [0.0, 0.0]


# --- samples: what was annotated is never changed


def random_proposals(rng: np.random.Generator) -> ImageProposals:
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    count = int(rng.integers(1, 9))
    scale = float(rng.choice([0.0, 1.0, 20.0]))
    return ImageProposals(
        scale * torch.randn(count, 4, generator=generator),
        scale * torch.randn(count, *GRID, generator=generator),
        torch.tensor([0.75, 1.0]),
        torch.tensor([c.is_thing for c in SPEC.classes]),
    )


def random_objects(rng: np.random.Generator) -> Instances:
    builder = ObjectsOfDegrees(SIZE)
    for _ in range(int(rng.integers(0, 7))):
        left, top = rng.uniform(0, 56), rng.uniform(0, 40)
        box = [left, top, left + rng.uniform(0.2, 64 - left), top + rng.uniform(0.2, 48 - top)]
        degree = rng.choice(["mask", "box", "crowd", "point", "tag"])
        what: dict[str, Any] = {}
        if degree == "mask":
            what["mask"] = rng.random(SIZE) < 0.3
        if degree in ("box", "crowd"):
            what["box"] = box
        if degree == "point":
            what["points"] = [rng.uniform(0, 64), rng.uniform(0, 48)]
        builder.add(int(rng.integers(2)), degree == "crowd", **what)
    return builder.instances()


def random_image(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_known_of_objects_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = random_objects(rng)
    sample = Sample(random_image(rng), before, seed, "a.png")
    done = complete_sample(sample, SPEC, random_proposals(rng))
    after = done.sample.annotation
    assert isinstance(after, Instances)
    assert after.masks is not None
    assert len(done.notes) == len(before)
    assert sample_faults(done.sample, replace(SPEC, task="instance")) == []
    np.testing.assert_array_equal(after.class_labels, before.class_labels)
    np.testing.assert_array_equal(after.is_crowd, before.is_crowd)
    assert before.degrees is not None
    for number, (degree, note) in enumerate(zip(before.degrees, done.notes, strict=True)):
        mask = after.masks[number]
        if degree >= Degree.BOX:
            np.testing.assert_array_equal(after.boxes[number], before.boxes[number])
        if degree == Degree.MASK:
            assert before.masks is not None
            np.testing.assert_array_equal(mask, before.masks[number])
            assert note.source == "annotated"
        elif degree == Degree.BOX:
            left, top, right, bottom = before.boxes[number]
            rows, columns = mask.nonzero()
            assert rows.size
            assert (columns + 1 > left).all()
            assert (columns < right).all()
            assert (rows + 1 > top).all()
            assert (rows < bottom).all()
            assert note.source == ("annotated" if before.is_crowd[number] else "box")
        elif degree == Degree.POINT:
            assert before.points is not None
            x, y = before.points[number, 0].astype(int)
            assert mask[y, x]
            assert "known by a point only" in note.review


@pytest.mark.parametrize("seed", range(30))
def test_every_pixel_keeps_its_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    segment_map = rng.integers(-1, 4, (6, 8)).repeat(8, 0).repeat(8, 1).astype(np.int32)
    labels = np.array([CAT, DOG, SKY, CAT])
    crowds = np.array([False, False, False, True])
    before = Segments(segment_map, labels, crowds)
    spec = replace(SPEC, task="semantic")
    sample = Sample(random_image(rng), before, seed, "a.png")
    done = complete_sample(sample, spec, random_proposals(rng))
    after = done.sample.annotation
    assert isinstance(after, Segments)
    assert sample_faults(done.sample, replace(spec, task="panoptic")) == []
    assert len(done.notes) == len(after.class_labels)
    for key in ("class_labels", "is_crowd"):
        of_pixel = [np.append(getattr(one, key), -1)[one.segment_map] for one in (before, after)]
        np.testing.assert_array_equal(*of_pixel)


@pytest.mark.parametrize("name", ["shapes_panoptic", "shapes_boxes"])
def test_what_lacks_nothing_is_left_alone(name: str) -> None:
    """Panoptic maps, and boxes with masks."""
    data = shapes_dataset(name, "eval", count=1)
    done = complete_sample(data[0], data.spec, random_proposals(np.random.default_rng(0)))
    assert {note.source for note in done.notes} == {"annotated"}
    for field in fields(data[0].annotation):
        before, after = (getattr(one.annotation, field.name) for one in (data[0], done.sample))
        np.testing.assert_array_equal(before, after)


def test_a_mask_smaller_than_a_pixel_has_those_of_its_box() -> None:
    """Files do not hold masks without a pixel, and no object gets lost."""
    masks = np.stack([rectangle(0, 0, 8, 8), np.zeros(SIZE, bool)])
    boxes = np.array([[0, 0, 8, 8], [20.2, 10.4, 20.5, 10.6]], np.float32)
    instances = Instances(np.array([CAT, DOG]), boxes, np.zeros(2, bool), masks)
    sample = Sample(np.zeros((*SIZE, 3), np.uint8), instances, 1, "1.png")
    done = complete_sample(sample, replace(SPEC, task="instance"), proposals())
    assert isinstance(done.sample.annotation, Instances)
    assert done.sample.annotation.masks is not None
    np.testing.assert_array_equal(done.sample.annotation.masks[0], masks[0])
    assert np.argwhere(done.sample.annotation.masks[1]).tolist() == [[10, 20]]
    assert not masks[1].any(), "the sample stays"
