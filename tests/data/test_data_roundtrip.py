"""Annotation files -> reader -> augmentation -> targets: no visible segment is invented, lost or
renamed.

What must come out is worked out here from the annotation as it was drawn, pixel by pixel: pixel i
of n shows pixel floor((i + 1/2) N / n) of the N before (nearest neighbor, the window cut out and
flipped after that).
"""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, SampleDataset
from dataseg_hf.data.transforms import Augmentation, augment
from helpers.annotation_files import rgb_of, save, write_json

RAW_IDS = [3, 7, 40, 41, 200]  # 40 and 41 are one class, 200 is void
CLASS_OF = {3: 2, 7: 0, 40: 1, 41: 1}
CLASSES = tuple(ClassInfo(name, name != "sky") for name in ("cat", "sky", "dog"))
ONCE = settings(max_examples=25, deadline=None)


def spec(task: str) -> DatasetSpec:
    return DatasetSpec("random", task, CLASSES, CLASS_OF, frozenset({200}))


# --- the augmentation, and what it did


class Recorder(np.random.Generator):
    """Random numbers that are noted: the offsets of the crop (top, left), the ranges they came
    from, the flip.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.ranges: list[int] = []
        self.offsets: list[int] = []
        self.coin = 0.0

    def integers(self, high: int) -> int:
        self.ranges.append(high)
        self.offsets.append(int(super().integers(high)))
        return self.offsets[-1]

    def random(self) -> float:
        self.coin = super().random()
        return self.coin


class View(NamedTuple):
    """The window that an augmentation showed: size (height, width) of the scaled image, of the
    window, its offset.
    """

    scaled: tuple[int, int]
    shown: tuple[int, int]
    offset: tuple[int, int]
    flip: bool

    def of_map(self, values: NDArray) -> NDArray:
        rows, columns = (
            # in whole numbers, exactly
            [(2 * (first + i) + 1) * before // (2 * scaled) for i in range(shown)]
            for before, scaled, shown, first in zip(
                values.shape, self.scaled, self.shown, self.offset, strict=True
            )
        )
        window = values[np.ix_(rows, columns)]
        return window[:, ::-1] if self.flip else window


class Settings(NamedTuple):
    size: int
    scale_range: tuple[float, float]
    seed: int


augmentations = st.builds(
    Settings,
    st.integers(1, 40),
    st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)).map(lambda pair: (min(pair), max(pair))),
    st.integers(0, 2**32),
)


def targets_and_view(data: SampleDataset, chosen: Settings) -> tuple[dict[str, NDArray], View]:
    """The labels of the one image, without padding, after a check that padding holds nothing."""
    assert (data.problems, len(data)) == ([], 1)
    rng = Recorder(chosen.seed)
    seen = augment(data[0], Augmentation(chosen.size, chosen.scale_range, horizontal_flip=0.5), rng)
    height, width = seen.image.shape[:2]
    scaled = (rng.ranges[0] - 1 + height, rng.ranges[1] - 1 + width)
    view = View(scaled, (height, width), (rng.offsets[0], rng.offsets[1]), rng.coin < 0.5)
    batch = collate(
        [seen],
        canvas=chosen.size,
        task=data.spec.task,
        normalization=Normalization((0, 0, 0), (1, 1, 1)),
    )
    labels = {key: value.numpy() for key, value in batch["labels"][0].items()}
    for key, padding in (("segment_map", -1), ("masks", 0)):
        if key in labels:
            assert (labels[key][..., height:, :] == padding).all()
            assert (labels[key][..., :, width:] == padding).all()
            labels[key] = labels[key][..., :height, :width]
    return labels, view


def visible(parts: list[tuple], view: View) -> list[tuple]:
    """Parts (what it is, its mask) as (what it is, the pixels of it that are seen), sorted,
    invisible ones left out.
    """
    seen = [(*rest, view.of_map(mask)) for *rest, mask in parts]
    return sorted((*rest, mask.tobytes()) for *rest, mask in seen if mask.any())


def segments_of(labels: dict[str, NDArray]) -> list[tuple]:
    """The same of targets with a segment map; every index of the map must be a segment and the
    reverse.
    """
    count = len(labels["class_labels"])
    assert set(np.unique(labels["segment_map"])) - {-1} == set(range(count))
    masks = [labels["segment_map"] == i for i in range(count)]
    return sorted(
        (int(c), mask.tobytes()) for c, mask in zip(labels["class_labels"], masks, strict=True)
    )


@contextmanager
def folder_with_image(size: tuple[int, ...]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        save(Path(name) / "images/a.png", np.zeros((*size, 3), np.uint8))
        yield Path(name)


sizes = st.tuples(st.integers(2, 24), st.integers(2, 24))


# --- a segment per pixel


class Panoptic(NamedTuple):
    ids: NDArray[np.int64]
    segments: list[tuple[int, int, bool]]  # id, category, is crowd


@st.composite
def panoptic_annotations(draw: st.DrawFn) -> Panoptic:
    ids = draw(st.lists(st.integers(1, 2**24 - 1), min_size=1, max_size=12, unique=True))
    places = draw(hnp.arrays(np.int64, sizes, elements=st.integers(0, len(ids))))
    id_map = np.array([0, *ids])[places]
    present = [i for i in ids if (id_map == i).any()]
    return Panoptic(
        id_map, [(i, draw(st.sampled_from(RAW_IDS)), draw(st.booleans())) for i in present]
    )


@ONCE
@given(panoptic_annotations(), augmentations)
def test_panoptic(annotation, chosen):
    with folder_with_image(annotation.ids.shape) as folder:
        save(folder / "maps/a.png", rgb_of(annotation.ids))
        infos = [
            {"id": i, "category_id": c, "iscrowd": int(crowd)}
            for i, c, crowd in annotation.segments
        ]
        path = write_json(folder / "a.json", {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": infos}],
        })  # fmt: skip
        data = read_coco_panoptic(spec("panoptic"), folder / "images", folder / "maps", path)
        labels, view = targets_and_view(data, chosen)
    targets = [
        (CLASS_OF[c], annotation.ids == i)
        for i, c, crowd in annotation.segments
        if c in CLASS_OF and not crowd
    ]
    assert segments_of(labels) == visible(targets, view)


@ONCE
@given(hnp.arrays(np.uint8, sizes, elements=st.sampled_from(RAW_IDS)), augmentations)
def test_semantic(ids, chosen):
    with folder_with_image(ids.shape) as folder:
        save(folder / "maps/a.png", ids)
        data = read_image_png(
            spec("semantic"), folder / "images", folder / "maps", image_suffix=".png"
        )
        labels, view = targets_and_view(data, chosen)
    raw_of_class = {2: [3], 0: [7], 1: [40, 41]}
    assert segments_of(labels) == visible(
        [(c, np.isin(ids, raw)) for c, raw in raw_of_class.items()], view
    )


# --- objects, which may overlap


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Down the columns, zeros first."""
    lengths = [(value, len(list(run))) for value, run in itertools.groupby(mask.T.ravel().tolist())]
    return [length for _, length in ([(False, 0)] if lengths[0][0] else []) + lengths]


class Objects(NamedTuple):
    size: tuple[int, int]
    masks: list[NDArray[np.bool_]]
    categories: list[int]
    crowd: list[bool]


@st.composite
def object_annotations(draw: st.DrawFn) -> Objects:
    size = draw(sizes)
    count = draw(st.integers(0, 6))
    return Objects(
        size,
        [draw(hnp.arrays(bool, size)) for _ in range(count)],
        draw(st.lists(st.sampled_from(RAW_IDS), min_size=count, max_size=count)),
        draw(st.lists(st.booleans(), min_size=count, max_size=count)),
    )


def instances_json(folder: Path, size: tuple[int, int], annotations: list[dict]) -> Path:
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    entries = [{"id": i, "image_id": 1, **entry} for i, entry in enumerate(annotations)]
    return write_json(folder / "a.json", {"images": [image], "annotations": entries})


def box_of(mask: NDArray) -> list[int]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [0, 0, 1, 1]
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]


@ONCE
@given(object_annotations(), augmentations)
def test_instances(objects, chosen):
    with folder_with_image(objects.size) as folder:
        entries = [
            {
                "category_id": category,
                "iscrowd": int(crowd),
                "bbox": box_of(mask),
                "segmentation": {"size": objects.size, "counts": run_lengths(mask)},
            }
            for mask, category, crowd in zip(
                objects.masks, objects.categories, objects.crowd, strict=True
            )
        ]
        path = instances_json(folder, objects.size, entries)
        labels, view = targets_and_view(
            read_coco_instances(spec("instance"), folder / "images", path), chosen
        )
    drawn = [
        (CLASS_OF[category], crowd, mask)
        for mask, category, crowd in zip(
            objects.masks, objects.categories, objects.crowd, strict=True
        )
        if category in CLASS_OF
    ]
    masks = labels["masks"].astype(bool)
    rows = zip(labels["class_labels"].tolist(), labels["is_crowd"].tolist(), masks, strict=True)
    assert sorted((c, crowd, mask.tobytes()) for c, crowd, mask in rows) == visible(drawn, view)


class Box(NamedTuple):
    left: float
    top: float
    width: float
    height: float


quarters = st.integers(0, 100).map(lambda n: n / 4)
lengths = st.integers(1, 100).map(lambda n: n / 4)
boxes = st.builds(Box, quarters, quarters, lengths, lengths)


@ONCE
@given(sizes, st.lists(boxes, max_size=6), augmentations)
def test_boxes(size, drawn, chosen):
    drawn = [box for box in drawn if box.left < size[1] and box.top < size[0]]
    classes = tuple(ClassInfo(f"class {i}", True) for i in range(6))
    one_class_each = DatasetSpec(
        "random", "boxes", classes, {10 + i: i for i in range(6)}, outside="clip"
    )
    with folder_with_image(size) as folder:
        path = instances_json(
            folder,
            size,
            [{"category_id": 10 + i, "bbox": list(box)} for i, box in enumerate(drawn)],
        )
        labels, view = targets_and_view(
            read_coco_instances(one_class_each, folder / "images", path), chosen
        )
    found = dict(zip(labels["class_labels"].tolist(), labels["boxes"] * chosen.size, strict=True))
    assert len(found) == len(labels["class_labels"]), "no box comes out twice"
    assert set(found) <= set(range(len(drawn)))
    for i, box in enumerate(drawn):
        edges = []
        for axis, (start, length) in enumerate([(box.left, box.width), (box.top, box.height)]):
            side = 1 - axis  # x lies along the width
            factor = view.scaled[side] / size[side]
            low, high = (
                min(edge, size[side]) * factor - view.offset[side]
                for edge in (start, start + length)
            )
            if view.flip and axis == 0:
                low, high = view.shown[side] - high, view.shown[side] - low
            edges.append((max(low, 0), min(high, view.shown[side])))
        seen = min(high - low for low, high in edges)
        if abs(seen) < 1e-3:
            continue  # a sliver that may be rounded away
        assert (i in found) == (seen > 0)
        if i in found:
            (left, right), (top, bottom) = edges
            assert found[i] == pytest.approx([left, top, right, bottom], abs=1e-3)
