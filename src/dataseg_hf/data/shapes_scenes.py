"""Scenes of the embedded synthetic world, drawn from a seed.

A scene is a background of two to four textured regions (stuff) with two to six colored shapes
(things) that occlude each other. `data.shapes` makes datasets of them.
"""

import math
from collections.abc import Callable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

    Args:
        vertices: float32 [V, 2].
        start: angle of the first vertex, in radians.
        bearings: float32 [V], angle of each vertex from the first one on, ascending from 0.
        normals: float32 [V, 2], unit outward normal of the edge from each vertex to the next.
        distances: float32 [V], of that edge's line from the origin.
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
    """One kind of stuff.

    Args:
        pattern: (rng, size) -> float32 [size, size], about -1 to 1.
        rgb: mean color, 0 to 255.
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
            left = zip(remaining, needed, strict=True)
            if mask.any() and all(np.count_nonzero(r) >= n for r, n in left):
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
