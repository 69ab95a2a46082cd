"""What the doctor says of an annotation, and what it keeps silent about."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, Sample, Segments
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.prediction.doctor import (
    Doubt,
    Found,
    Known,
    Seen,
    TopDoubts,
    doubts,
    words_of_mix,
    worth_in_order,
    worth_of_image,
)
from dataseg_hf.prediction.segments import Segment

SIZE = (32, 32)
CAT, DOG, SKY = range(3)
PETS = DatasetSpec(
    name="pets",
    task="panoptic",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("sky", False)),
    id_map={},
)
STREETS = DatasetSpec(
    name="streets",
    task="panoptic",
    classes=(ClassInfo("car", True), ClassInfo("animal", True), ClassInfo("road", False)),
    id_map={},
)
WORDS = words_of_mix("pets", {"streets": STREETS, "pets": PETS})
CAR, ANIMAL, NOTHING = 3, 4, 6

Mask = NDArray[np.bool_]


def rectangle(left: int, top: int, right: int, bottom: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT, ABOVE = rectangle(2, 16, 14, 30), rectangle(18, 16, 30, 30), rectangle(0, 0, 32, 12)


def seen(*made: tuple[dict[int, float], Mask]) -> Seen:
    """Proposals of which the categories have these probabilities beside being none, before those
    are shared out by set.
    """
    logits = torch.full((len(made), 7), -20.0)
    masks = torch.full((len(made), *SIZE), -8.0)
    for number, (probabilities, mask) in enumerate(made):
        logits[number, -1] = 0
        for label, probability in probabilities.items():
            logits[number, label] = float(np.log(probability / (1 - probability)))
        masks[number, torch.from_numpy(mask)] = 8.0
    things = torch.tensor([*PETS.is_thing, *STREETS.is_thing])
    return Seen.of(ImageProposals(logits, masks, torch.ones(2), things), WORDS, SIZE)


def instances(*objects: tuple[int, Mask], boxes_only: bool = False) -> Sample:
    masks = np.stack([mask for _, mask in objects]) if objects else np.zeros((0, *SIZE), bool)
    corners = [
        (np.flatnonzero(m.any(0))[[0, -1]], np.flatnonzero(m.any(1))[[0, -1]]) for m in masks
    ]
    boxes = np.array([[x[0], y[0], x[1] + 1, y[1] + 1] for x, y in corners], np.float32)
    labels = np.array([label for label, _ in objects], np.int64)
    annotation = Instances(
        labels,
        boxes.reshape(-1, 4),
        np.zeros(len(objects), bool),
        None if boxes_only else masks,
    )
    return Sample(np.zeros((*SIZE, 3), np.uint8), annotation, 1, "1.png")


def segments(*parts: tuple[int, Mask]) -> Sample:
    segment_map = np.full(SIZE, -1, np.int32)
    for number, (_, mask) in enumerate(parts):
        segment_map[mask] = number
    labels = np.array([label for label, _ in parts], np.int64)
    annotation = Segments(segment_map, labels, np.zeros(len(parts), bool))
    return Sample(np.zeros((*SIZE, 3), np.uint8), annotation, 1, "1.png")


def found(
    sample: Sample, what: Seen, spec: DatasetSpec = PETS
) -> list[tuple[str, int, int | None]]:
    """Kind, category and place of all doubts."""
    return [
        (one.kind, one.segment.label_id, one.place)
        for one in doubts(what, Known.of(sample, spec, what), WORDS)
    ]


BOTH = seen(({CAT: 0.9}, LEFT), ({DOG: 0.95}, RIGHT), ({SKY: 0.99}, ABOVE))


@pytest.mark.parametrize("boxes_only", [False, True])
def test_where_both_agree_there_is_no_doubt(boxes_only: bool) -> None:
    assert found(instances((CAT, LEFT), (DOG, RIGHT), boxes_only=boxes_only), BOTH) == []
    assert found(segments((SKY, ABOVE), (CAT, LEFT), (DOG, RIGHT)), BOTH) == []


@pytest.mark.parametrize("boxes_only", [False, True])
def test_an_image_without_anything_is_no_error(boxes_only: bool) -> None:
    assert found(instances(boxes_only=boxes_only), seen()) == []
    assert found(instances((CAT, LEFT), boxes_only=boxes_only), seen()) == []
    assert found(segments(), seen()) == []
    assert found(segments(), BOTH) == [("missing", DOG, None), ("missing", CAT, None)]
    nothing = found(instances(boxes_only=boxes_only), BOTH)
    assert nothing == [("missing", DOG, None), ("missing", CAT, None)]


@pytest.mark.parametrize("boxes_only", [False, True])
def test_an_object_that_is_not_annotated_is_missing(boxes_only: bool) -> None:
    sample = instances((DOG, RIGHT), boxes_only=boxes_only)
    (doubt,) = doubts(BOTH, Known.of(sample, PETS, BOTH), WORDS)
    assert (doubt.kind, doubt.segment.label_id, doubt.place) == ("missing", CAT, None)
    np.testing.assert_array_equal(doubt.segment.within(slice(0, 32), slice(0, 32)), LEFT)
    assert doubt.score == pytest.approx(0.9, abs=0.01)
    assert doubt.text == "no cat is annotated here"


def test_stuff_is_not_missing() -> None:
    """That maps lack is void, which says so itself."""
    assert found(segments((CAT, LEFT), (DOG, RIGHT)), BOTH) == []


def test_what_is_annotated_in_void_or_stuff_is_missing_in_a_map() -> None:
    ground = ABOVE | LEFT
    assert found(segments((SKY, ground), (DOG, RIGHT)), BOTH) == [("missing", CAT, None)]


def test_a_crowd_or_a_larger_object_explains_a_proposal() -> None:
    crowd = instances((CAT, rectangle(0, 12, 16, 32)), (DOG, RIGHT))
    assert isinstance(crowd.annotation, Instances)
    crowd.annotation.is_crowd[0] = True
    assert found(crowd, BOTH) == []
    part = seen(({CAT: 0.9}, LEFT), ({CAT: 0.8}, rectangle(4, 17, 8, 20)), ({DOG: 0.9}, RIGHT))
    assert found(instances((CAT, LEFT), (DOG, RIGHT)), part) == []


def test_tags_and_points_say_that_there_is_one() -> None:
    sample = instances((CAT, LEFT), (DOG, RIGHT))
    assert isinstance(sample.annotation, Instances)
    degrees = np.array([Degree.TAG, Degree.MASK], np.int8)
    sample.annotation.degrees = degrees
    assert found(sample, BOTH) == []
    sample.annotation.class_labels[0] = DOG
    assert found(sample, BOTH) == [("missing", CAT, None)]


def test_another_sets_words_name_what_this_set_lacks() -> None:
    """Once: what the set's own words name is not named again."""
    what = seen(
        ({CAT: 0.9, ANIMAL: 0.9}, LEFT), ({DOG: 0.9, ANIMAL: 0.9}, RIGHT), ({CAR: 0.8}, ABOVE)
    )
    sample = instances((CAT, LEFT))
    assert found(sample, what) == [("missing", DOG, None), ("missing", CAR, None)]
    (_, other) = doubts(what, Known.of(sample, PETS, what), WORDS)
    assert other.text == "a car, in the words of 'streets'"


def test_what_the_set_annotates_under_the_same_name_is_not_missing_in_other_words() -> None:
    """As a crowd here; stuff in one set and things in another are alike."""
    others = replace(STREETS, classes=(ClassInfo("Dog", True), *STREETS.classes[1:]))
    words = words_of_mix("pets", {"pets": PETS, "streets": others})
    sample = segments((DOG, RIGHT))
    assert isinstance(sample.annotation, Segments)
    sample.annotation.is_crowd[0] = True
    what = seen(({CAR: 0.9}, RIGHT))  # the first word of the other set
    assert doubts(what, Known.of(sample, PETS, what), words) == []


@pytest.mark.parametrize("boxes_only", [False, True])
def test_a_class_that_the_model_contradicts(boxes_only: bool) -> None:
    sample = instances((DOG, LEFT), (DOG, RIGHT), boxes_only=boxes_only)
    (doubt,) = doubts(BOTH, Known.of(sample, PETS, BOTH), WORDS)
    assert (doubt.kind, doubt.segment.label_id, doubt.place) == ("class", CAT, 0)
    assert doubt.score == pytest.approx(0.9, abs=0.01)
    assert doubt.text == "annotated as dog (0.00), the model sees cat (0.90)"


@pytest.mark.parametrize("boxes_only", [False, True])
def test_a_shape_that_does_not_fit(boxes_only: bool) -> None:
    """It is not missing as well."""
    moved = rectangle(8, 16, 17, 30)
    sample = instances((CAT, moved), (DOG, RIGHT), boxes_only=boxes_only)
    (doubt,) = doubts(BOTH, Known.of(sample, PETS, BOTH), WORDS)
    assert (doubt.kind, doubt.segment.label_id, doubt.place) == ("shape", CAT, 0)
    iou = 6 / 15
    filled = 6 / 9  # columns of the moved one that the model sees; all of its rows
    assert doubt.score == pytest.approx(0.9**2 * (1 - iou) * (1 - 0.9 * filled), abs=0.01)
    np.testing.assert_array_equal(doubt.segment.within(slice(0, 32), slice(0, 32)), LEFT)


def test_objects_are_assigned_and_not_taken_by_the_first() -> None:
    """Two cats side by side, of which one lies a little into the other's box."""
    first, second = rectangle(2, 16, 16, 30), rectangle(10, 16, 24, 30)
    what = seen(({CAT: 0.95}, first), ({CAT: 0.9}, second))
    assert found(instances((CAT, second), (CAT, first)), what) == []


def test_a_class_per_pixel_is_looked_at_in_its_parts() -> None:
    sample = segments((CAT, LEFT | RIGHT), (SKY, ABOVE))
    semantic = replace(PETS, task="semantic")
    assert found(sample, BOTH, semantic) == [("class", DOG, 0)]


# --- the surest of all images


def doubt(score: float, kind: str = "missing") -> Doubt:
    segment = Segment(CAT, score, np.ones((1, 1), bool))
    return Doubt(kind, score, segment, None, "")  # type: ignore[arg-type]


def test_the_surest_are_kept_and_all_are_counted() -> None:
    top = TopDoubts(most=2)
    for index, score in enumerate([0.2, 0.9, 0.5, 0.9]):
        top.add([Found(index, str(index), SIZE, doubt(score))])
    top.add([Found(2, "2", SIZE, doubt(0.95, "shape"))])
    assert [one.index for one in top.of_kind("missing")] == [1, 3]
    assert top.counts == {"missing": 4, "shape": 1}
    by_image = [[(one.index, one.doubt.score) for one in image] for image in top.by_image()]
    assert by_image == [[(2, 0.95)], [(1, 0.9)], [(3, 0.9)]]


# --- images


def test_an_image_is_worth_more_the_less_is_sure() -> None:
    sure, unsure = seen(({CAT: 0.95}, LEFT)), seen(({CAT: 0.6}, LEFT))
    more, twice = seen(({CAT: 0.6}, LEFT), ({DOG: 0.6}, RIGHT)), seen(*[({CAT: 0.6}, LEFT)] * 2)
    worth = [sum(worth_of_image(one).values()) for one in (sure, unsure, more, twice)]
    assert worth[0] < worth[1] < worth[2]
    assert worth[3] == pytest.approx(worth[1]), "one object, proposed twice"
    assert worth_of_image(seen()) == {}


def test_a_batch_of_images_shows_all_classes() -> None:
    worths = [{CAT: 1.0}, {CAT: 0.9}, {DOG: 0.8}, {CAT: 0.2}]
    order = worth_in_order(worths)
    assert [place for place, _ in order] == [0, 2, 1, 3]
    assert [worth for _, worth in order] == sorted((w for _, w in order), reverse=True)


def test_the_order_is_that_of_choosing_anew_each_time() -> None:
    rng = np.random.default_rng(0)
    worths = [dict(enumerate(rng.uniform(0, 1, 3).tolist())) for _ in range(30)]
    chosen, left = np.zeros(3), list(range(30))
    for place, _ in worth_in_order(worths):
        best = max(
            left, key=lambda one: sum(v / np.sqrt(1 + chosen[k]) for k, v in worths[one].items())
        )
        assert place == best
        left.remove(place)
        chosen += list(worths[place].values())
