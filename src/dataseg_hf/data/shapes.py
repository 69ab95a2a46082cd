"""The embedded synthetic world: small drawn scenes as datasets with vocabularies that overlap only
in part.

A scene is a background of two to four textured regions (stuff) with two to six colored shapes
(things) that occlude each other. It follows from a seed alone, is drawn when it is asked for, and
needs no download:

* `shapes_panoptic`: panoptic annotation, 8 "color shape" things and 4 stuff classes;
* `shapes_semantic`: semantic annotation, only 64 training images, bare shapes in any trained
  color, other stuff words;
* `shapes_boxes`: boxes alone, 14 "color shape" categories of which 5 are shared with
  `shapes_panoptic`;
* `shapes_open`: evaluation alone, color-shape combinations that no training scene of the other
  three ever shows.

Training samples carry the dataset's own annotation; evaluation samples carry the full truth
(panoptic segments, or visible masks for `shapes_boxes`), which no training sample holds.

`python -m dataseg_hf.data.shapes OUT.png` draws a contact sheet of all of them.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dataseg_hf.data.sample import (
    Annotation,
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    Segments,
    TaskName,
)
from dataseg_hf.model.tasks_dataseg import LabelForm

SplitName: TypeAlias = Literal["train", "eval"]
Combination: TypeAlias = tuple[str, str]  # (color, shape)
FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]

# --------------------------------------------------------------------------------------------------
# What the world consists of (all numbers: our setting)
# --------------------------------------------------------------------------------------------------

THING_COUNT = (2, 6)  # things in a scene, both ends included
REGION_COUNT = (2, 4)  # stuff regions in a scene, both ends included
RADIUS = (0.08, 0.22)  # of the image side
CENTER = (0.06, 0.94)  # of the image side
MIN_VISIBLE = 0.6  # of a thing's area within the image, after occlusion
MIN_REGION_AREA = 0.1  # of the image, before things are drawn
MIN_SIZE = 16  # pixels; below it the smallest shapes have hardly any

COLORS: dict[str, float] = {  # hue in degrees
    "red": 357.0,
    "orange": 27.0,
    "yellow": 55.0,
    "green": 125.0,
    "blue": 220.0,
    "purple": 285.0,
}
HUE_JITTER = 7.0  # degrees to either side


@dataclass(frozen=True)
class Outline:
    """A polygon around the origin, seen whole from there; of area pi, like a circle of radius 1.

    vertices: float32 [V, 2]. bearings: float32 [V], the angle of each vertex, counted from the
        first one, ascending
    from 0; start: the angle of the first one (radians). normals: float32 [V, 2], unit outward
    normal of the edge from each vertex to the next; distances: float32 [V], of that edge's line
    from the origin.
    """

    vertices: FloatArray
    start: float
    bearings: FloatArray
    normals: FloatArray
    distances: FloatArray


def _outline(angles: NDArray[np.floating], radii: NDArray[np.floating]) -> Outline:
    """The outline through the vertices at these polar coordinates (angles ascending), scaled to
    area pi.
    """
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    following = np.roll(points, -1, axis=0)
    area = 0.5 * np.sum(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0])
    points *= np.sqrt(np.pi / area)
    edges = np.roll(points, -1, axis=0) - points
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(
        edges, axis=1, keepdims=True
    )
    return Outline(
        vertices=points.astype(np.float32),
        start=float(angles[0]),
        bearings=(angles - angles[0]).astype(np.float32),
        normals=normals.astype(np.float32),
        distances=np.sum(normals * points, axis=1).astype(np.float32),
    )


def _regular(vertices: int) -> Outline:
    return _outline(np.arange(vertices) * (2 * np.pi / vertices), np.ones(vertices))


def _star() -> Outline:
    return _outline(np.arange(10) * (np.pi / 5), np.where(np.arange(10) % 2 == 0, 1.0, 0.42))


def _cross() -> Outline:
    half_width = 0.34  # of an arm of length 1
    tip = np.arctan2(half_width, 1.0)
    quarters = np.repeat(np.arange(4) * (np.pi / 2), 3)
    angles = quarters + np.tile([-tip, tip, np.pi / 4], 4)
    return _outline(angles, np.tile([np.hypot(1.0, half_width)] * 2 + [half_width * np.sqrt(2)], 4))


# All of the same area, so that size says nothing about the shape.
OUTLINES = {
    "circle": _regular(48),
    "square": _regular(4),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _cross(),
}


@dataclass(frozen=True)
class Thing:
    """One shape of a scene. Its area is that of a circle of its radius, whatever the shape.

    Args:
        radius: as a fraction of the image side.
        center: (x, y), as fractions of the image side.
        angle: radians.
        rgb: 0 to 255.
    """

    color: str
    shape: str
    radius: float
    center: tuple[float, float]
    angle: float
    rgb: tuple[float, float, float]

    @property
    def combination(self) -> Combination:
        """(color, shape)."""
        return self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """A drawn scene with everything that is true about it; N things, from the rearmost to the
    foremost.

    Args:
        image: uint8 RGB [H, W, 3].
        stuff_map: int64 [H, W], index into `TEXTURES`, also beneath the things.
        full_masks: bool [N, H, W], the things within the image as if alone.
        visible_masks: bool [N, H, W], what is seen.
    """

    image: NDArray[np.uint8]
    stuff_map: NDArray[np.int64]
    things: tuple[Thing, ...]
    full_masks: BoolArray
    visible_masks: BoolArray


# --------------------------------------------------------------------------------------------------
# Stuff: textures and regions
# --------------------------------------------------------------------------------------------------


def _smooth_noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> FloatArray:
    """float32 [size, size] of about -1 to 1, varying over `rows` x `columns` cells."""
    grid = Image.fromarray(rng.uniform(-1, 1, (rows, columns)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _rotated_grid(
    rng: np.random.Generator, size: int, max_angle: float
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (u, v), each float32 [size, size]: the image spans 64 units, turned by up to
    `max_angle` radians.
    """
    angle, (shift_u, shift_v) = rng.uniform(-max_angle, max_angle), rng.uniform(0, 64, 2)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) * np.float32(64 / size)
    u = np.cos(angle) * x + np.sin(angle) * y + shift_u
    v = -np.sin(angle) * x + np.cos(angle) * y + shift_v
    return u.astype(np.float32), v.astype(np.float32)


def _grass(rng: np.random.Generator, size: int) -> FloatArray:
    """Fine upright streaks."""
    return 0.9 * _smooth_noise(rng, size, 12, 48) + 0.35 * _smooth_noise(rng, size, 5, 5)


def _water(rng: np.random.Generator, size: int) -> FloatArray:
    """Long, wavering, nearly horizontal ripples."""
    _, v = _rotated_grid(rng, size, 0.3)
    wave = np.sin((2 * np.pi / rng.uniform(6, 9)) * v + 1.6 * _smooth_noise(rng, size, 6, 6))
    return 0.7 * wave.astype(np.float32)


def _sand(rng: np.random.Generator, size: int) -> FloatArray:
    """Sparse dark grains on smooth ground."""
    grains = _smooth_noise(rng, size, 40, 40) > rng.uniform(0.5, 0.6)
    return 0.25 * _smooth_noise(rng, size, 4, 4) + 0.3 - 1.1 * grains.astype(np.float32)


def _brick(rng: np.random.Generator, size: int) -> FloatArray:
    """Bricks of slightly different brightness in bonded courses, with light joints."""
    height, width = rng.uniform(6, 8), rng.uniform(12, 16)
    u, v = _rotated_grid(rng, size, 0.15)
    course = np.floor(v / height)
    along = u / width + 0.5 * (course % 2)
    joint = (v / height - course < 1.4 / height) | (along - np.floor(along) < 1.4 / width)
    shades = rng.uniform(-0.5, 0.2, (32, 32)).astype(np.float32)
    return np.where(
        joint, np.float32(1.0), shades[course.astype(int) % 32, np.floor(along).astype(int) % 32]
    )


@dataclass(frozen=True)
class Texture:
    """One kind of stuff. pattern: (rng, size) -> float32 [size, size], about -1 to 1; rgb: mean
    color, 0 to 255.
    """

    pattern: Callable[[np.random.Generator, int], FloatArray]
    rgb: tuple[int, int, int]


TEXTURES: tuple[Texture, ...] = (
    Texture(_grass, (98, 128, 72)),
    Texture(_water, (84, 118, 146)),
    Texture(_sand, (176, 156, 118)),
    Texture(_brick, (148, 98, 82)),
)
TEXTURE_COLOR_JITTER = 24.0  # to either side, per channel


def _texture_image(rng: np.random.Generator, size: int, texture: Texture) -> FloatArray:
    """float32 [size, size, 3], 0 to 255."""
    rgb = (texture.rgb + rng.uniform(-TEXTURE_COLOR_JITTER, TEXTURE_COLOR_JITTER, 3)).astype(
        np.float32
    )
    contrast = rng.uniform(0.22, 0.34)
    return rgb * (1 + contrast * texture.pattern(rng, size)[..., None])


def _regions(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    """int64 [size, size]: two to four irregular regions, each with its own index into
    `TEXTURES`.
    """
    kinds = rng.permutation(len(TEXTURES))[: rng.integers(REGION_COUNT[0], REGION_COUNT[1] + 1)]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    while True:
        seeds = rng.random((len(kinds), 2), dtype=np.float32)
        distances = [
            np.hypot(x - sx, y - sy)
            + 0.14 * _smooth_noise(rng, size, 4, 4)
            + 0.05 * _smooth_noise(rng, size, 10, 10)
            for sx, sy in seeds
        ]
        nearest = np.argmin(distances, axis=0)
        if (
            np.bincount(nearest.ravel(), minlength=len(kinds)).min()
            >= MIN_REGION_AREA * size * size
        ):
            return kinds[nearest]


# --------------------------------------------------------------------------------------------------
# Things, and the whole scene
# --------------------------------------------------------------------------------------------------


def _random_thing(rng: np.random.Generator, combination: Combination) -> Thing:
    """A thing of this color and shape with random pose and color jitter."""
    color, shape = combination
    hue = (COLORS[color] + rng.uniform(-HUE_JITTER, HUE_JITTER)) % 360 / 360
    red, green, blue = hsv_to_rgb(hue, rng.uniform(0.65, 0.95), rng.uniform(0.65, 1.0))
    return Thing(
        color=color,
        shape=shape,
        radius=rng.uniform(*RADIUS),
        center=(rng.uniform(*CENTER), rng.uniform(*CENTER)),
        angle=rng.uniform(0, 2 * np.pi),
        rgb=(255 * red, 255 * green, 255 * blue),
    )


def _coverage(thing: Thing, size: int) -> FloatArray:
    """float32 [size, size]: the share of each pixel that the thing covers, 0 to 1; from 0.5 on its
    center is inside.
    """
    outline, scale = OUTLINES[thing.shape], thing.radius * size
    centers = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x = ((centers - thing.center[0] * size) / scale)[None, :]
    y = ((centers - thing.center[1] * size) / scale)[:, None]
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    u, v = cos * x + sin * y, cos * y - sin * x
    bearing = (np.arctan2(v, u) - outline.start) % (2 * math.pi)
    edge = np.searchsorted(outline.bearings, bearing, side="right") - 1
    depth = outline.distances[edge] - outline.normals[edge, 0] * u - outline.normals[edge, 1] * v
    return (depth * scale + 0.5).clip(0, 1)


def _place_things(
    rng: np.random.Generator, size: int, combinations: Sequence[Combination]
) -> tuple[list[Thing], list[FloatArray], list[BoolArray]]:
    """Things from back to front with their coverages and visible masks; poses that hide too much
    are drawn again.
    """
    things: list[Thing] = []
    coverages: list[FloatArray] = []
    visible: list[BoolArray] = []
    needed: list[float] = []
    for _ in range(rng.integers(THING_COUNT[0], THING_COUNT[1] + 1)):
        combination = combinations[int(rng.integers(len(combinations)))]
        while True:
            thing = _random_thing(rng, combination)
            coverage = _coverage(thing, size)
            mask = coverage >= 0.5
            remaining = [behind & ~mask for behind in visible]
            if mask.any() and all(
                np.count_nonzero(r) >= n for r, n in zip(remaining, needed, strict=True)
            ):
                break
        things.append(thing)
        coverages.append(coverage)
        visible = [*remaining, mask]
        needed.append(MIN_VISIBLE * np.count_nonzero(mask))
    return things, coverages, visible


def draw_scene(rng: np.random.Generator, size: int, combinations: Sequence[Combination]) -> Scene:
    """Draws a scene of size x size pixels whose things are of these (color, shape)
    combinations.
    """
    stuff_map = _regions(rng, size)
    image = np.zeros((size, size, 3), np.float32)
    for kind in np.unique(stuff_map):
        np.copyto(
            image, _texture_image(rng, size, TEXTURES[kind]), where=(stuff_map == kind)[..., None]
        )
    things, coverages, visible = _place_things(rng, size, combinations)
    for thing, coverage in zip(things, coverages, strict=True):
        image += coverage[..., None] * (np.asarray(thing.rgb, np.float32) - image)
    image += rng.uniform(6, 14) * rng.standard_normal(image.shape, dtype=np.float32)
    return Scene(
        image=image.round().clip(0, 255).astype(np.uint8),
        stuff_map=stuff_map,
        things=tuple(things),
        full_masks=np.stack([coverage >= 0.5 for coverage in coverages]),
        visible_masks=np.stack(visible),
    )


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
SHAPES_OPEN = _spec("shapes_open", "panoptic", _full_names(OPEN_COMBINATIONS), PANOPTIC_STUFF)
SHAPES_SPECS: dict[str, DatasetSpec] = {
    spec.name: spec for spec in (SHAPES_PANOPTIC, SHAPES_SEMANTIC, SHAPES_BOXES, SHAPES_OPEN)
}
"""The four datasets of this world, by name."""

_COMBINATIONS: dict[str, tuple[Combination, ...]] = {
    "shapes_panoptic": PANOPTIC_COMBINATIONS,
    "shapes_semantic": TRAINED_COMBINATIONS,
    "shapes_boxes": BOXES_COMBINATIONS,
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


def _tight_box(mask: BoolArray) -> tuple[int, int, int, int]:
    """xyxy pixel edges of a non-empty mask [H, W]: x_max is one past the last column."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _instances(scene: Scene, spec: DatasetSpec, with_masks: bool) -> Instances:
    """The visible part of every thing as a box, and as a mask if asked for."""
    return Instances(
        class_labels=np.array(_thing_classes(scene, spec), np.int64),
        boxes=np.array([_tight_box(mask) for mask in scene.visible_masks], np.float32),
        is_crowd=np.zeros(len(scene.things), np.bool_),
        masks=scene.visible_masks if with_masks else None,
    )


_FULL_TRUTH: Mapping[LabelForm, TaskName] = {"classes": "panoptic", "boxes": "instance"}
"""The task of which the held-out truth is, where training shows less of it."""


def _annotation(scene: Scene, spec: DatasetSpec, split: SplitName) -> Annotation:
    """What the split shows of the scene: the dataset's own kind of annotation in training, the full
    truth otherwise.
    """
    if spec.label_form == "boxes":
        return _instances(scene, spec, with_masks=split == "eval")
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


def _load(index: int, *, name: str, split: SplitName, size: int, seed: int) -> Sample:
    scene = shapes_scene(name, split, index, size=size, seed=seed)
    identity = f"{name}_{split}_{index:05d}"
    return Sample(scene.image, _annotation(scene, SHAPES_SPECS[name], split), identity, identity)


def shapes_dataset(
    name: str, split: SplitName, *, size: int = 64, count: int | None = None, seed: int = 0
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

    Returns:
        Samples of image uint8 [size, size, 3]. Training annotation: Segments, one per object and
        kind of stuff (`shapes_panoptic`); Segments, one per class (`shapes_semantic`); Instances
        without masks (`shapes_boxes`).
        Evaluation: Instances with boxes and visible masks for `shapes_boxes`, panoptic Segments for
            the others; the
        spec's task says so.

    Raises:
        ValueError: for an unknown dataset or split, a smaller size, a negative count or seed.
    """
    _check_split(name, split)
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
    return SampleDataset(spec, rows, partial(_load, name=name, split=split, size=size, seed=seed))


# --------------------------------------------------------------------------------------------------
# Contact sheet
# --------------------------------------------------------------------------------------------------

_ZOOM, _SCENES_PER_ROW, _HEADING = 4, 3, 22


def _label_position(mask: BoolArray) -> tuple[float, float]:
    """(x, y) in pixels, well inside the mask."""
    reach = mask.shape[0] // 8
    # so that the border counts as outside
    padded = Image.fromarray(np.pad(np.uint8(255) * mask, reach))
    depth = np.asarray(padded.filter(ImageFilter.BoxBlur(reach)))[reach:-reach, reach:-reach]
    y, x = np.unravel_index(np.argmax(np.where(mask, depth, 0)), mask.shape)
    return float(x), float(y)


def _write_label(draw: ImageDraw.ImageDraw, side: int, x: float, y: float, text: str) -> None:
    """Writes the text centered at (x, y), moved where it would leave the picture."""
    font = ImageFont.load_default(12)
    half = font.getlength(text) / 2 + 3
    x, y = min(max(x, half), side - half), min(max(y, 8), side - 8)
    draw.text((x, y), text, "white", font, "mm", stroke_width=2, stroke_fill="black")


def _overlay(sample: Sample, spec: DatasetSpec) -> Image.Image:
    """The annotation over the faded image, enlarged: masks tinted, boxes outlined, class names
    written at each.
    """
    annotation = sample.annotation
    names = [spec.labels[label] for label in annotation.class_labels]
    tints = [
        tuple(int(255 * c) for c in hsv_to_rgb(0.1 + 0.618 * i % 1, 0.9, 1.0))
        for i in range(len(names))
    ]
    masks: Sequence[BoolArray] = []
    if isinstance(annotation, Segments):
        masks = [annotation.segment_map == i for i in range(len(names))]
    elif annotation.masks is not None:
        masks = list(annotation.masks)
    pixels = 0.5 * sample.image.astype(np.float32) + 40
    for i, mask in enumerate(masks):
        pixels[mask] = 0.35 * pixels[mask] + 0.65 * np.array(tints[i])
    side = sample.image.shape[0] * _ZOOM
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize(
        (side, side), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(picture)
    for i, name in enumerate(names):
        if isinstance(annotation, Instances):
            x0, y0, x1, y1 = (annotation.boxes[i] * _ZOOM).tolist()
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=tints[i], width=2)
            _write_label(draw, side, (x0 + x1) / 2, (y0 + y1) / 2, name)
        else:
            x, y = _label_position(masks[i])
            _write_label(draw, side, x * _ZOOM, y * _ZOOM, name)
    return picture


def contact_sheet(path: str | Path, *, size: int = 64, seed: int = 0) -> None:
    """Writes a picture of some samples of every split: image beside annotation, class names written
    in.
    """
    side = size * _ZOOM
    sheet = Image.new(
        "RGB", (2 * side * _SCENES_PER_ROW, (side + _HEADING) * len(_COUNTS)), "white"
    )
    for row, (name, split) in enumerate(_COUNTS):
        dataset = shapes_dataset(name, split, size=size, count=_SCENES_PER_ROW, seed=seed)
        top = row * (side + _HEADING)
        ImageDraw.Draw(sheet).text(
            (6, top + 3), f"{name}, {split}", "black", ImageFont.load_default(14)
        )
        for column in range(len(dataset)):
            sample = dataset[column]
            image = Image.fromarray(sample.image).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(image, (2 * side * column, top + _HEADING))
            sheet.paste(_overlay(sample, dataset.spec), (2 * side * column + side, top + _HEADING))
    sheet.save(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m dataseg_hf.data.shapes OUT.png")
    contact_sheet(sys.argv[1])
