"""The synthetic world: what its scenes promise, what its vocabularies promise, and that training
sees no truth.
"""

import pickle
from colorsys import rgb_to_hsv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataseg_hf.data.sample import Instances, Sample, Segments
from dataseg_hf.data.shapes import (
    BOXES_COMBINATIONS,
    OPEN_COMBINATIONS,
    PANOPTIC_COMBINATIONS,
    SHAPES_BOXES,
    SHAPES_OBJECTS,
    SHAPES_OPEN,
    SHAPES_PANOPTIC,
    SHAPES_SEMANTIC,
    SHAPES_SPECS,
    SplitName,
    shapes_dataset,
    shapes_scene,
)
from dataseg_hf.data.shapes_scenes import COLORS, OUTLINES, TEXTURES

SPLITS: list[tuple[str, SplitName]] = [
    ("shapes_panoptic", "train"),
    ("shapes_panoptic", "eval"),
    ("shapes_semantic", "train"),
    ("shapes_semantic", "eval"),
    ("shapes_boxes", "train"),
    ("shapes_boxes", "eval"),
    ("shapes_open", "eval"),
]
split_of_any = st.sampled_from(SPLITS)


def sample_bytes(sample: Sample) -> bytes:
    return pickle.dumps(sample)


# --------------------------------------------------------------------------------------------------
# determinism


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_same_seed_gives_same_bytes_whatever_was_drawn_before(name: str, split: SplitName) -> None:
    first = shapes_dataset(name, split, seed=3)
    _ = first[0]
    assert sample_bytes(first[5]) == sample_bytes(shapes_dataset(name, split, seed=3)[5])
    assert not np.array_equal(first[5].image, shapes_dataset(name, split, seed=4)[5].image)


def test_no_two_scenes_of_any_split_are_equal() -> None:
    images = [
        shapes_dataset(name, split, count=20)[i].image.tobytes()
        for name, split in SPLITS
        for i in range(20)
    ]
    assert len(set(images)) == len(images)


def test_a_split_is_a_prefix_of_a_longer_one() -> None:
    short, long = (
        shapes_dataset("shapes_boxes", "train", count=3),
        shapes_dataset("shapes_boxes", "train", count=9),
    )
    assert sample_bytes(short[2]) == sample_bytes(long[2])


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_a_pickled_dataset_loads_the_same_samples(name: str, split: SplitName) -> None:
    dataset = shapes_dataset(name, split, size=32)
    assert sample_bytes(pickle.loads(pickle.dumps(dataset))[7]) == sample_bytes(dataset[7])


# --------------------------------------------------------------------------------------------------
# scenes


@settings(max_examples=60, deadline=None)
@given(
    split_of_any, st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([16, 31, 64, 96])
)
def test_scene_bounds(
    name_and_split: tuple[str, SplitName], index: int, seed: int, size: int
) -> None:
    scene = shapes_scene(*name_and_split, index, size=size, seed=seed)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert 2 <= len(scene.things) <= 6
    assert 2 <= len(np.unique(scene.stuff_map)) <= 4
    for thing in scene.things:
        assert 0.08 <= thing.radius <= 0.22
        assert all(0 <= c <= 1 for c in thing.center)
    # what is seen of a thing is its own area less every thing in front of it
    for i, (full, visible) in enumerate(zip(scene.full_masks, scene.visible_masks, strict=True)):
        assert np.array_equal(visible, full & ~scene.full_masks[i + 1 :].any(axis=0))
        assert visible.sum() >= 0.6 * full.sum() > 0
    assert scene.visible_masks.sum(axis=0).max() <= 1


def test_all_counts_of_things_and_regions_occur_and_things_do_occlude() -> None:
    scenes = [shapes_scene("shapes_semantic", "eval", i) for i in range(100)]
    assert {len(s.things) for s in scenes} == {2, 3, 4, 5, 6}
    assert {len(np.unique(s.stuff_map)) for s in scenes} == {2, 3, 4}
    assert sum((s.full_masks != s.visible_masks).any() for s in scenes) > 30


def test_area_is_that_of_the_radius_whatever_the_shape() -> None:
    ratios: dict[str, list[float]] = {shape: [] for shape in OUTLINES}
    for scene in (shapes_scene("shapes_semantic", "eval", i, size=96) for i in range(120)):
        for thing, mask in zip(scene.things, scene.full_masks, strict=True):
            if not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()):
                ratios[thing.shape].append(mask.sum() / (np.pi * (thing.radius * 96) ** 2))
    assert {shape: np.mean(r) for shape, r in ratios.items()} == pytest.approx(
        dict.fromkeys(OUTLINES, 1.0), abs=0.01
    )
    # a single one suffers from the grid
    assert max(abs(r - 1) for values in ratios.values() for r in values) < 0.15


def test_outlines_differ_in_what_a_person_tells_them_by() -> None:
    """Largest over smallest distance of the outline's vertices from the center, and the number of
    vertices.
    """
    radii = {name: np.hypot(*outline.vertices.T) for name, outline in OUTLINES.items()}
    ratio = {name: r.max() / r.min() for name, r in radii.items()}
    assert {name: len(r) for name, r in radii.items() if name != "circle"} == {
        "square": 4,
        "triangle": 3,
        "star": 10,
        "cross": 12,
    }
    assert [ratio[name] for name in ("circle", "square", "triangle")] == pytest.approx([1, 1, 1])
    assert min(ratio["star"], ratio["cross"]) > 2


def test_hues_of_things_stay_with_the_nearest_color_word() -> None:
    def distance(a: float, b: float) -> float:
        return min(abs(a - b), 360 - abs(a - b))

    for i in range(100):
        for thing in shapes_scene("shapes_semantic", "eval", i).things:
            red, green, blue = thing.rgb
            hue = 360 * rgb_to_hsv(red, green, blue)[0]
            assert min(COLORS, key=lambda c: distance(COLORS[c], hue)) == thing.color
            assert distance(COLORS[thing.color], hue) <= 7.01


def test_the_picture_shows_the_things_where_the_masks_say() -> None:
    """Noise averages out: the mean color over a mask's inner pixels is the thing's own."""
    for i in range(20):
        scene = shapes_scene("shapes_panoptic", "eval", i)
        for thing, mask in zip(scene.things, scene.visible_masks, strict=True):
            inner = mask.copy()
            for axis in (0, 1):
                inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
            if inner.sum() >= 40:
                # clipping at 0 and 255 shifts a channel's mean by at most 0.4 standard deviations
                # of the noise
                np.testing.assert_allclose(
                    scene.image[inner].mean(axis=0), thing.rgb, atol=0.4 * 14 + 3 * 14 / 40**0.5
                )


def test_stuff_is_not_told_by_color_alone() -> None:
    """The nearest mean color misnames the stuff of one pixel in ten at least, and of half of them
    at most.
    """
    means = np.array([texture.rgb for texture in TEXTURES], np.float64)
    hits, total = 0, 0
    for i in range(60):
        scene = shapes_scene("shapes_panoptic", "eval", i)
        visible = ~scene.visible_masks.any(axis=0)
        distances = np.linalg.norm(scene.image[visible][:, None] - means, axis=-1)
        hits += int((distances.argmin(axis=1) == scene.stuff_map[visible]).sum())
        total += int(visible.sum())
    assert 0.5 < hits / total < 0.9


# --------------------------------------------------------------------------------------------------
# vocabularies


def test_vocabularies() -> None:
    assert list(SHAPES_SPECS.values()) == [
        SHAPES_PANOPTIC,
        SHAPES_SEMANTIC,
        SHAPES_BOXES,
        SHAPES_OBJECTS,
        SHAPES_OPEN,
    ]
    assert [spec.task for spec in SHAPES_SPECS.values()] == [
        "panoptic",
        "semantic",
        "boxes",
        "objects",
        "panoptic",
    ]
    assert [sum(spec.is_thing) for spec in SHAPES_SPECS.values()] == [8, 5, 14, 14, 6]
    assert [len(spec.classes) - sum(spec.is_thing) for spec in SHAPES_SPECS.values()] == [
        4,
        4,
        0,
        0,
        4,
    ]
    for name, spec in SHAPES_SPECS.items():
        assert spec.name == name
        assert len(set(spec.labels)) == len(spec.labels)
        assert spec.id_map == {i: i for i in range(len(spec.classes))}
    assert len(set(SHAPES_PANOPTIC.labels) & set(SHAPES_BOXES.labels)) == 5
    assert not set(SHAPES_PANOPTIC.labels) & set(SHAPES_SEMANTIC.labels)
    assert SHAPES_OPEN.labels[-4:] == SHAPES_PANOPTIC.labels[-4:]


def test_training_shows_every_color_shape_and_stuff_but_no_open_combination() -> None:
    shown: dict[str, set[tuple[str, str]]] = {}
    for name, expected in (("shapes_panoptic", 8), ("shapes_semantic", 24), ("shapes_boxes", 14)):
        scenes = [
            shapes_scene(name, "train", i, size=16)
            for i in range(len(shapes_dataset(name, "train")))
        ]
        shown[name] = {thing.combination for scene in scenes for thing in scene.things}
        assert len(shown[name]) == expected
        assert {int(k) for scene in scenes for k in np.unique(scene.stuff_map)} == {0, 1, 2, 3}
    assert shown["shapes_panoptic"] == set(PANOPTIC_COMBINATIONS)
    assert shown["shapes_boxes"] == set(BOXES_COMBINATIONS)
    for combinations in shown.values():
        assert {color for color, _ in combinations} == set(COLORS)
        assert {shape for _, shape in combinations} == set(OUTLINES)
    assert len(set(OPEN_COMBINATIONS)) >= 6
    assert not set(OPEN_COMBINATIONS) & {c for combinations in shown.values() for c in combinations}


def test_training_at_the_default_size_shows_no_open_combination() -> None:
    for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes"):
        for i in range(64):
            assert not {t.combination for t in shapes_scene(name, "train", i).things} & set(
                OPEN_COMBINATIONS
            )


def test_open_scenes_show_every_open_combination_and_nothing_else() -> None:
    scenes = [shapes_scene("shapes_open", "eval", i, size=32) for i in range(120)]
    assert {thing.combination for scene in scenes for thing in scene.things} == set(
        OPEN_COMBINATIONS
    )


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_every_class_occurs_in_the_default_count(name: str, split: SplitName) -> None:
    dataset = shapes_dataset(name, split, size=32)
    seen = {
        int(c) for i in range(min(len(dataset), 120)) for c in dataset[i].annotation.class_labels
    }
    assert seen == set(range(len(dataset.spec.classes)))


# --------------------------------------------------------------------------------------------------
# annotation


@pytest.mark.parametrize(("name", "split"), [s for s in SPLITS if s[0] != "shapes_boxes"])
def test_segments_tell_the_scene(name: str, split: SplitName) -> None:
    dataset = shapes_dataset(name, split, size=48)
    for i in range(15):
        annotation, scene = dataset[i].annotation, shapes_scene(name, split, i, size=48)
        assert isinstance(annotation, Segments)
        assert annotation.segment_map.dtype == np.int32
        assert annotation.class_labels.dtype == np.int64
        assert annotation.is_crowd.dtype == np.bool_
        assert not annotation.is_crowd.any()
        assert set(np.unique(annotation.segment_map)) == set(range(len(annotation.class_labels)))
        names = np.array(dataset.spec.labels)[annotation.class_labels[annotation.segment_map]]
        for thing, mask in zip(scene.things, scene.visible_masks, strict=True):
            expected = thing.shape if name == "shapes_semantic" else f"{thing.color} {thing.shape}"
            assert set(names[mask]) == {expected}
        background = ~scene.visible_masks.any(axis=0)
        for kind, words in enumerate(dataset.spec.labels[-4:]):
            assert set(names[background & (scene.stuff_map == kind)]) <= {words}


def test_stuff_names_are_in_the_order_of_the_textures() -> None:
    order = [texture.pattern.__name__.strip("_") for texture in TEXTURES]
    for spec in (SHAPES_PANOPTIC, SHAPES_SEMANTIC, SHAPES_OPEN):
        stuff = [c.name for c in spec.classes if not c.is_thing]
        assert all(word in name for word, name in zip(order, stuff, strict=True))


def test_panoptic_truth_has_one_segment_per_thing() -> None:
    for name, split in SPLITS:
        if name == "shapes_boxes" or (name, split) == ("shapes_semantic", "train"):
            continue
        dataset = shapes_dataset(name, split)
        for i in range(10):
            annotation, scene = dataset[i].annotation, shapes_scene(name, split, i)
            assert isinstance(annotation, Segments)
            is_thing = np.array(dataset.spec.is_thing)[annotation.class_labels]
            assert is_thing.sum() == len(scene.things)
            thing_masks = {
                (annotation.segment_map == s).tobytes() for s in np.flatnonzero(is_thing)
            }
            assert thing_masks == {mask.tobytes() for mask in scene.visible_masks}
            stuff_labels = annotation.class_labels[~is_thing]
            assert len(set(stuff_labels)) == len(stuff_labels)


def test_semantic_training_has_one_segment_per_class_and_hides_the_objects() -> None:
    dataset = shapes_dataset("shapes_semantic", "train")
    labels = [dataset[i].annotation.class_labels for i in range(64)]
    assert all(len(np.unique(row)) == len(row) for row in labels)
    things = [len(shapes_scene("shapes_semantic", "train", i).things) for i in range(64)]
    thing_segments = [int(np.array(dataset.spec.is_thing)[row].sum()) for row in labels]
    assert any(few < many for few, many in zip(thing_segments, things, strict=True))


def test_box_annotation_is_tight_around_the_visible_masks() -> None:
    dataset = shapes_dataset("shapes_boxes", "eval")
    for i in range(30):
        annotation = dataset[i].annotation
        assert isinstance(annotation, Instances)
        assert annotation.boxes.dtype == np.float32
        assert annotation.masks is not None
        assert annotation.masks.shape == (len(annotation.class_labels), 64, 64)
        assert annotation.masks.sum(axis=0).max() <= 1
        assert not annotation.is_crowd.any()
        for mask, (x0, y0, x1, y1) in zip(
            annotation.masks, annotation.boxes.astype(int), strict=True
        ):
            assert mask.sum() == mask[y0:y1, x0:x1].sum() > 0
            sides = mask[y0, x0:x1], mask[y1 - 1, x0:x1], mask[y0:y1, x0], mask[y0:y1, x1 - 1]
            assert all(side.any() for side in sides)


def test_training_boxes_are_those_of_the_scene_without_its_masks() -> None:
    dataset = shapes_dataset("shapes_boxes", "train")
    for i in range(15):
        annotation, scene = dataset[i].annotation, shapes_scene("shapes_boxes", "train", i)
        assert isinstance(annotation, Instances)
        assert annotation.masks is None
        names = [dataset.spec.labels[c] for c in annotation.class_labels]
        assert names == [f"{t.color} {t.shape}" for t in scene.things]
        for box, mask in zip(annotation.boxes, scene.visible_masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_sample_names_dataset_split_and_index() -> None:
    sample = shapes_dataset("shapes_panoptic", "train")[12]
    assert sample.image_id == sample.file_name == "shapes_panoptic_train_00012"


def test_counts() -> None:
    assert [len(shapes_dataset(name, split)) for name, split in SPLITS] == [
        600,
        120,
        64,
        120,
        600,
        120,
        120,
    ]
    assert len(shapes_dataset("shapes_open", "eval", count=3)) == 3
    assert len(shapes_dataset("shapes_open", "eval", count=0)) == 0


# --------------------------------------------------------------------------------------------------
# errors


@pytest.mark.parametrize(
    ("name", "split", "options", "message"),
    [
        (
            "shape_panoptic",
            "train",
            {},
            "unknown shapes dataset 'shape_panoptic'; known are shapes_panoptic, shapes_s",
        ),
        ("shapes_boxes", "val", {}, "'shapes_boxes' has no split 'val'; it has train, eval"),
        ("shapes_open", "train", {}, "'shapes_open' has no split 'train'; it has eval"),
        ("shapes_open", "eval", {"size": 8}, "size is 8, .* at least 16"),
        ("shapes_open", "eval", {"count": -1}, "count is -1"),
        ("shapes_open", "eval", {"seed": -1}, "seed is -1"),
    ],
)
def test_errors_say_what_is_allowed(
    name: str, split: SplitName, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shapes_dataset(name, split, **options)
