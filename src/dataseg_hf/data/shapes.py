"""The embedded synthetic world: small drawn scenes (`data.shapes_scenes`) as datasets with
vocabularies that overlap only in part.

A scene follows from a seed alone, is drawn when a sample is loaded, and needs no download:

* `shapes_panoptic`: panoptic annotation, 8 "color shape" things and 4 stuff classes;
* `shapes_semantic`: semantic annotation, only 64 training images, bare shapes in any trained
  color, other stuff words;
* `shapes_boxes`: boxes alone, 14 "color shape" categories of which 5 are shared with
  `shapes_panoptic`;
* `shapes_objects`: objects as `shapes_boxes` names them, of each its mask or what `known` leaves of
  it; some classes may be missing in half of the images (`unlabeled`);
* `shapes_open`: evaluation alone, color-shape combinations that no training scene of the other
  three ever shows.

Training samples carry the dataset's own annotation. Evaluation samples carry the full truth, which
no training sample holds: panoptic segments, or visible masks for `shapes_boxes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from ..model.tasks_dataseg import LabelForm
from .masks import box_of_mask
from .sample import (
    Annotation,
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    Segments,
    TaskName,
)
from .shapes_scenes import COLORS, MIN_SIZE, OUTLINES, Combination, Scene, draw_scene
from .shapes_weak import ALL_MASKS, Known, check_shares, partly_annotated, reduced

SplitName: TypeAlias = Literal["train", "eval"]

# --------------------------------------------------------------------------------------------------
# Vocabularies
# --------------------------------------------------------------------------------------------------


def _combinations(**shapes_of_color: str) -> tuple[Combination, ...]:
    return tuple(
        (color, shape) for color, shapes in shapes_of_color.items() for shape in shapes.split()
    )


# Every color and every shape occurs among the trained combinations, and none of these six does.
OPEN_COMBINATIONS = _combinations(
    red="circle", green="square", blue="triangle", yellow="star", purple="cross", orange="circle"
)
TRAINED_COMBINATIONS = tuple(
    (c, s) for c in COLORS for s in OUTLINES if (c, s) not in OPEN_COMBINATIONS
)
PANOPTIC_COMBINATIONS = _combinations(
    red="square star",
    green="circle triangle",
    blue="cross",
    orange="cross",
    yellow="circle",
    purple="star",
)
BOXES_COMBINATIONS = _combinations(
    red="square triangle",
    green="circle star",
    blue="cross circle square",
    orange="cross star",
    yellow="square cross",
    purple="star circle triangle",
)
# in the order of TEXTURES
PANOPTIC_STUFF = ("grass field", "rippled water", "sandy ground", "brick wall")
SEMANTIC_STUFF = ("meadow grass", "lake water", "sand", "wall of bricks")


def _spec(name: str, task: TaskName, things: Sequence[str], stuff: Sequence[str]) -> DatasetSpec:
    classes = [ClassInfo(n, True) for n in things] + [ClassInfo(n, False) for n in stuff]
    return DatasetSpec(
        name,
        task,
        tuple(classes),
        {i: i for i in range(len(classes))},
        license="Apache-2.0",
        reader="shapes",
    )


def _full_names(combinations: Sequence[Combination]) -> list[str]:
    return [" ".join(combination) for combination in combinations]


SHAPES_PANOPTIC = _spec(
    "shapes_panoptic", "panoptic", _full_names(PANOPTIC_COMBINATIONS), PANOPTIC_STUFF
)
SHAPES_SEMANTIC = _spec("shapes_semantic", "semantic", list(OUTLINES), SEMANTIC_STUFF)
SHAPES_BOXES = _spec("shapes_boxes", "boxes", _full_names(BOXES_COMBINATIONS), ())
SHAPES_OBJECTS = _spec("shapes_objects", "objects", _full_names(BOXES_COMBINATIONS), ())
SHAPES_OPEN = _spec("shapes_open", "panoptic", _full_names(OPEN_COMBINATIONS), PANOPTIC_STUFF)
SHAPES_SPECS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (SHAPES_PANOPTIC, SHAPES_SEMANTIC, SHAPES_BOXES, SHAPES_OBJECTS, SHAPES_OPEN)
}
"""The datasets of this world, by name."""

_COMBINATIONS: dict[str, tuple[Combination, ...]] = {
    "shapes_panoptic": PANOPTIC_COMBINATIONS,
    "shapes_semantic": TRAINED_COMBINATIONS,
    "shapes_boxes": BOXES_COMBINATIONS,
    "shapes_objects": BOXES_COMBINATIONS,
    "shapes_open": OPEN_COMBINATIONS,
}
_COUNTS: dict[tuple[str, SplitName], int] = {
    ("shapes_panoptic", "train"): 600,
    ("shapes_panoptic", "eval"): 120,
    ("shapes_semantic", "train"): 64,
    ("shapes_semantic", "eval"): 120,
    ("shapes_boxes", "train"): 600,
    ("shapes_boxes", "eval"): 120,
    ("shapes_open", "eval"): 120,
    # last, as the places in this table are the random streams
    ("shapes_objects", "train"): 600,
    ("shapes_objects", "eval"): 120,
}
_STREAMS = {key: stream for stream, key in enumerate(_COUNTS)}


# --------------------------------------------------------------------------------------------------
# Annotation
# --------------------------------------------------------------------------------------------------


def _thing_classes(scene: Scene, spec: DatasetSpec) -> list[int]:
    """Class index per thing, by its full name, or by its shape where the vocabulary has bare
    shapes.
    """
    bare = spec.name == "shapes_semantic"
    return [
        spec.labels.index(thing.shape if bare else " ".join(thing.combination))
        for thing in scene.things
    ]


def _panoptic_truth(scene: Scene, spec: DatasetSpec) -> Segments:
    """One segment per thing, one per kind of stuff that is seen."""
    covered = scene.visible_masks.any(axis=0)
    first_stuff = spec.is_thing.index(False)
    segment_map = np.full(covered.shape, -1, np.int32)
    labels: list[int] = []
    for kind in np.unique(scene.stuff_map[~covered]):
        segment_map[(scene.stuff_map == kind) & ~covered] = len(labels)
        labels.append(first_stuff + int(kind))
    for mask, label in zip(scene.visible_masks, _thing_classes(scene, spec), strict=True):
        segment_map[mask] = len(labels)
        labels.append(label)
    return Segments(segment_map, np.array(labels, np.int64), np.zeros(len(labels), np.bool_))


def _semantic_annotation(truth: Segments) -> Segments:
    """The same pixels with one segment per class that occurs."""
    labels, segment_of = np.unique(truth.class_labels, return_inverse=True)
    return Segments(
        segment_of.astype(np.int32)[truth.segment_map], labels, np.zeros(len(labels), np.bool_)
    )


def _instances(scene: Scene, spec: DatasetSpec, with_masks: bool) -> Instances:
    """The visible part of every thing as a box, and as a mask if asked for."""
    return Instances(
        class_labels=np.array(_thing_classes(scene, spec), np.int64),
        boxes=np.array([box_of_mask(mask) for mask in scene.visible_masks], np.float32),
        is_crowd=np.zeros(len(scene.things), np.bool_),
        masks=scene.visible_masks if with_masks else None,
    )


_FULL_TRUTH: Mapping[LabelForm, TaskName] = {
    "classes": "panoptic",
    "boxes": "instance",
    "degrees": "instance",
}
"""The task of which the held-out truth is, where training shows less of it."""


def _annotation(scene: Scene, spec: DatasetSpec, split: SplitName) -> Annotation:
    """What the split shows of the scene: the dataset's own kind of annotation in training, the full
    truth otherwise.
    """
    if spec.label_form == "boxes":
        return _instances(scene, spec, with_masks=split == "eval")
    if spec.label_form == "degrees":
        return _instances(scene, spec, with_masks=True)
    truth = _panoptic_truth(scene, spec)
    return (
        _semantic_annotation(truth) if spec.label_form == "classes" and split == "train" else truth
    )


# --------------------------------------------------------------------------------------------------
# Datasets
# --------------------------------------------------------------------------------------------------


def _check_split(name: str, split: str) -> None:
    if name not in SHAPES_SPECS:
        raise ValueError(f"unknown shapes dataset '{name}'; known are {', '.join(SHAPES_SPECS)}")
    splits = [s for n, s in _COUNTS if n == name]
    if split not in splits:
        raise ValueError(f"dataset '{name}' has no split '{split}'; it has {', '.join(splits)}")


def shapes_scene(
    name: str, split: SplitName, index: int, *, size: int = 64, seed: int = 0
) -> Scene:
    """The scene behind sample `index`, with its full truth: for inspection and tests, never for
    training.

    It depends on the arguments alone, not on any other scene.

    Raises:
        ValueError: for an unknown dataset or split.
    """
    _check_split(name, split)
    rng = np.random.default_rng([seed, _STREAMS[name, split], index])
    return draw_scene(rng, size, _COMBINATIONS[name])


@dataclass(frozen=True)
class _Weakness:
    """What the training annotation of `shapes_objects` leaves out."""

    known: Known
    unlabeled: Sequence[int]
    declared: bool

    def applied(self, sample: Sample, seed: int, index: int) -> Sample:
        """The sample with less of its annotation; a function of the seed and the index."""
        rng = np.random.default_rng([seed, len(_COUNTS), index])
        assert isinstance(sample.annotation, Instances)
        sample = replace(sample, annotation=reduced(sample.annotation, self.known, rng))
        return partly_annotated(sample, self.unlabeled, self.declared, rng)


def _load(
    index: int,
    *,
    name: str,
    split: SplitName,
    size: int,
    seed: int,
    weakness: _Weakness | None = None,
) -> Sample:
    scene = shapes_scene(name, split, index, size=size, seed=seed)
    identity = f"{name}_{split}_{index:05d}"
    sample = Sample(scene.image, _annotation(scene, SHAPES_SPECS[name], split), identity, identity)
    return sample if weakness is None else weakness.applied(sample, seed, index)


def shapes_dataset(
    name: str,
    split: SplitName,
    *,
    size: int = 64,
    count: int | None = None,
    seed: int = 0,
    known: Known = ALL_MASKS,
    unlabeled: Sequence[str] = (),
    declared: bool = True,
) -> SampleDataset:
    """One split of a synthetic dataset.

    Args:
        name: a key of `SHAPES_SPECS`.
        split: "train" or "eval"; `shapes_open` has "eval" only. The splits draw from disjoint
            random streams.
        size: side of the square images in pixels, 16 or more.
        count: number of samples; by default 600 in training (64 for `shapes_semantic`) and 120 in
            evaluation.
        seed: of the whole world, 0 or more.
        known: shares of the objects of which the mask, the box, a point or a tag is annotated, in
            training on `shapes_objects`.
        unlabeled: names of classes that half of those images leave out.
        declared: whether these images say so.

    Returns:
        Samples of image uint8 [size, size, 3]. Training annotation: Segments, one per object and
        kind of stuff (`shapes_panoptic`); Segments, one per class (`shapes_semantic`); Instances
        without masks (`shapes_boxes`). Evaluation: Instances with boxes and visible masks for
        `shapes_boxes`, panoptic Segments for the others; the spec's task says so.

    Raises:
        ValueError: for an unknown dataset or split, a smaller size, a negative count or seed.
    """
    _check_split(name, split)
    weakness = _weakness(name, split, known, unlabeled, declared)
    if size < MIN_SIZE:
        raise ValueError(
            f"dataset '{name}': size is {size}, but shapes need images of at least {MIN_SIZE} "
            "pixels"
        )
    for key, value in (("count", count), ("seed", seed)):
        if value is not None and value < 0:
            raise ValueError(f"dataset '{name}': {key} is {value}, but must be 0 or more")
    rows = range(_COUNTS[name, split] if count is None else count)
    spec = SHAPES_SPECS[name]
    if split == "eval":
        spec = replace(spec, task=_FULL_TRUTH.get(spec.label_form, spec.task))
    load = partial(_load, name=name, split=split, size=size, seed=seed, weakness=weakness)
    return SampleDataset(spec, rows, load)


def _weakness(
    name: str, split: SplitName, known: Known, unlabeled: Sequence[str], declared: bool
) -> _Weakness | None:
    """None where all is annotated.

    Raises:
        ValueError: for another dataset or split than `shapes_objects` in training, and classes that
            it does not have.
    """
    spec = SHAPES_SPECS[name]
    if spec.label_form != "degrees" or split != "train":
        if known != ALL_MASKS or unlabeled:
            raise ValueError(
                f"dataset '{name}', split '{split}': `known` and `unlabeled` are for training on "
                "'shapes_objects'; leave them out"
            )
        return None
    unknown = sorted(set(unlabeled) - set(spec.labels))
    if unknown:
        raise ValueError(f"unlabeled: '{name}' has no classes {unknown}; it has {spec.labels}")
    check_shares(known)
    return _Weakness(known, [spec.labels.index(label) for label in unlabeled], declared)
