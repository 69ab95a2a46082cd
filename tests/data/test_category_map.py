"""Classes renamed, merged and made void by hand."""

import numpy as np
import pytest

from dataseg_hf.data.category_map import map_categories, mapped_spec
from dataseg_hf.data.sample import (
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    Segments,
)

SPEC = DatasetSpec(
    name="street",
    task="panoptic",
    classes=(
        ClassInfo("car", True),
        ClassInfo("van", True),
        ClassInfo("grass", False),
        ClassInfo("soil", False),
    ),
    id_map={3: 0, 4: 1, 8: 2, 9: 3},
    void_ids=frozenset({0}),
)
IMAGE = np.zeros((2, 4, 3), np.uint8)
MAP = np.array([[0, 1, 2, 3], [0, -1, 2, 4]], np.int32)
SEGMENTS = Segments(MAP, np.array([0, 1, 2, 3, 3]), np.array([False, False, False, False, True]))


def mapped(
    annotation: Segments | Instances, **category_map: str | None
) -> tuple[DatasetSpec, Segments | Instances]:
    data = map_categories(
        SampleDataset(SPEC, [0], lambda row: Sample(IMAGE, annotation, 1, "a.png")), category_map
    )
    return data.spec, data.load(0).annotation


def test_things_of_one_class_stay_apart_and_stuff_becomes_one_segment() -> None:
    spec, segments = mapped(SEGMENTS, van="car", soil="ground", grass="ground")
    assert [(c.name, c.is_thing) for c in spec.classes] == [("car", True), ("ground", False)]
    assert isinstance(segments, Segments)
    assert segments.class_labels.tolist() == [0, 0, 1, 1]
    assert segments.is_crowd.tolist() == [False, False, False, True], "a crowd stays apart"
    assert segments.segment_map.tolist() == [[0, 1, 2, 2], [0, -1, 2, 3]]


def test_none_is_void() -> None:
    spec, segments = mapped(SEGMENTS, car=None, soil=None)
    assert spec.labels == ["van", "grass"]
    assert isinstance(segments, Segments)
    assert segments.class_labels.tolist() == [0, 1]
    assert segments.segment_map.tolist() == [[-1, 0, 1, -1], [-1, -1, 1, -1]]
    assert spec.id_map == {4: 0, 8: 1}
    assert spec.void_ids == {0, 3, 9}


def test_objects_of_void_classes_are_left_out() -> None:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    masks = np.arange(24).reshape(3, 2, 4) % 2 == 0
    objects = Instances(np.array([0, 1, 2]), boxes, np.array([False, True, False]), masks)
    spec, left = mapped(objects, car=None, van="lorry")
    assert isinstance(left, Instances)
    assert [spec.labels[label] for label in left.class_labels] == ["lorry", "grass"]
    np.testing.assert_array_equal(left.boxes, boxes[1:])
    assert left.is_crowd.tolist() == [True, False]
    assert left.masks is not None
    np.testing.assert_array_equal(left.masks, masks[1:])


@pytest.mark.parametrize(
    ("category_map", "message"),
    [
        ({"bus": "car"}, r"has no class \['bus'\]; its classes are"),
        ({"grass": "car"}, "'car' would merge countable and uncountable classes"),
        (dict.fromkeys(SPEC.labels), "no class is left"),
    ],
)
def test_impossible_maps_are_refused(category_map: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mapped_spec(SPEC, category_map)
