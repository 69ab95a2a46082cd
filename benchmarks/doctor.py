"""How many of the label doctor's first suggestions are right, on held-out scenes of the embedded
world with planted faults: objects left out, classes changed, boxes and masks moved.

    python -m benchmarks.doctor --models outputs/shapes

Each kind of fault hits 5 % of the objects. Precision at 100: the share of a kind's first 100
suggestions that name a planted fault of this kind; beside it how many were planted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dataseg_hf.data.masks import boxes_of_masks
from dataseg_hf.data.sample import DatasetSpec, Instances, Sample, SampleDataset, Segments
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.prediction.completion import Proposer
from dataseg_hf.prediction.doctor import (
    DOUBT_KINDS,
    Doubt,
    Known,
    Seen,
    doubts,
    embedded,
    words_of_mix,
)
from dataseg_hf.sharing.checkpoint import load_checkpoint

SIZE, SHARE, FIRST = 64, 0.05, 100
SETS = ("shapes_boxes", "shapes_panoptic")
MIX = {name: SHAPES_SPECS[name] for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes")}
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fault:
    """A planted one.

    Args:
        kind: of the doubt that names it.
        place: of the object in the annotation; None for one left out.
        mask: the true one.
    """

    kind: str
    place: int | None
    mask: Mask


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["outputs/shapes"], help="checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and faults")
    parser.add_argument("--count", type=int, default=1000, help="scenes of each set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | set | kind | planted | precision at 100 |\n|---|---|---|---|---|")
    for model in options.models:
        for name in SETS:
            data = shapes_dataset(name, "eval", size=SIZE, count=options.count, seed=options.seed)
            measure(model, name, data, np.random.default_rng(options.seed))


def measure(model_name: str, name: str, data: SampleDataset, rng: np.random.Generator) -> None:
    model, processor = load_checkpoint(model_name)
    words = words_of_mix(name, MIX)
    proposer = replace(
        Proposer.of(model.eval(), processor, name, data.spec, SIZE, 8),
        classes=embedded(words, model),
    )
    spec = replace(data.spec, task=MIX[name].task)
    planted: list[list[Fault]] = []
    found: list[tuple[int, Doubt]] = []
    for batch in proposer.batches(data[index] for index in range(len(data))):
        for sample, proposals in batch:
            faulty, faults = with_faults(sample, spec, rng)
            seen = Seen.of(proposals, words, (SIZE, SIZE))
            found += [
                (len(planted), one) for one in doubts(seen, Known.of(faulty, spec, seen), words)
            ]
            planted.append(faults)
    for kind in DOUBT_KINDS:
        # words of other sets name things that this set does not have to annotate
        ranked = [
            (image, one)
            for image, one in found
            if one.kind == kind and one.segment.label_id < len(spec.classes)
        ]
        ranked.sort(key=lambda pair: -pair[1].score)
        right = [is_planted(one, planted[image]) for image, one in ranked[:FIRST]]
        count = sum(fault.kind == kind for faults in planted for fault in faults)
        print(f"| {model_name} | {name} | {kind} | {count} | {np.mean(right):.2f} |", flush=True)


def is_planted(doubt: Doubt, faults: Sequence[Fault]) -> bool:
    seen = doubt.segment.within(slice(0, SIZE), slice(0, SIZE))
    for fault in faults:
        if fault.kind != doubt.kind or fault.place != doubt.place:
            continue
        same_place = (seen & fault.mask).sum() > 0.5 * (seen | fault.mask).sum()
        if doubt.place is not None or same_place:
            return True
    return False


# --- faults


def with_faults(
    sample: Sample, spec: DatasetSpec, rng: np.random.Generator
) -> tuple[Sample, list[Fault]]:
    """The sample with an annotation of the spec's kind, and what was planted in it."""
    annotation = sample.annotation
    kinds = rng.choice(
        ["", *DOUBT_KINDS],
        len(annotation.class_labels),
        p=[1 - SHARE * len(DOUBT_KINDS), *[SHARE] * len(DOUBT_KINDS)],
    )
    if isinstance(annotation, Segments):
        faulty, faults = in_map(annotation, kinds, spec, rng)
        return replace(sample, annotation=faulty), faults
    boxes, faults = in_boxes(annotation, kinds, spec, rng)
    return replace(sample, annotation=boxes), faults


def in_boxes(
    truth: Instances, kinds: NDArray, spec: DatasetSpec, rng: np.random.Generator
) -> tuple[Instances, list[Fault]]:
    assert truth.masks is not None
    labels, boxes = truth.class_labels.copy(), truth.boxes.copy()
    for place in np.flatnonzero(kinds == "class").tolist():
        labels[place] = (labels[place] + rng.integers(1, len(spec.classes))) % len(spec.classes)
    for place in np.flatnonzero(kinds == "shape").tolist():
        boxes[place] = moved_box(boxes[place], rng)
    kept = kinds != "missing"
    places = np.cumsum(kept) - 1
    faults = [
        Fault(kind, int(places[number]) if kept[number] else None, truth.masks[number])
        for number, kind in enumerate(kinds.tolist())
        if kind
    ]
    return Instances(labels, boxes, truth.is_crowd).select(kept), faults


def moved_box(box: NDArray, rng: np.random.Generator) -> NDArray:
    """A box of 0.7 to 1.4 times the size, elsewhere: an IoU of 0.1 to 0.5 with the true one."""
    while True:
        size = (box[2:] - box[:2]) * rng.uniform(0.7, 1.4, 2)
        center = (box[:2] + box[2:]) / 2 + (box[2:] - box[:2]) * rng.uniform(-0.6, 0.6, 2)
        other = np.clip(np.concatenate([center - size / 2, center + size / 2]), 0, SIZE)
        low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
        common = np.clip(high - low, 0, None).prod()
        areas = [float((one[2:] - one[:2]).prod()) for one in (box, other)]
        if 0.1 < common / (sum(areas) - common) < 0.5:
            return other.astype(np.float32)


def in_map(
    truth: Segments, kinds: NDArray, spec: DatasetSpec, rng: np.random.Generator
) -> tuple[Segments, list[Fault]]:
    """Things that are left out or moved leave the largest stuff of the image behind."""
    things = [label for label, thing in enumerate(spec.is_thing) if thing]
    labels, segment_map = truth.class_labels.copy(), truth.segment_map.copy()
    areas = np.bincount(segment_map[segment_map >= 0], minlength=len(labels))
    is_stuff = ~np.array(spec.is_thing)[labels]
    ground = int(np.where(is_stuff, areas, -1).argmax())
    faults = []
    for place, kind in enumerate(kinds.tolist()):
        if not kind or is_stuff[place] or not areas[place]:
            continue
        mask = truth.segment_map == place
        if kind == "class":
            others = [label for label in things if label != labels[place]]
            labels[place] = rng.choice(others)
        else:
            segment_map[mask] = ground
        if kind == "shape":
            moved = moved_mask(mask, rng) & (segment_map >= 0) & is_stuff[segment_map]
            segment_map[moved] = place
        faults.append(Fault(kind, None if kind == "missing" else place, mask))
    return Segments(segment_map, labels, truth.is_crowd), faults


def moved_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask elsewhere: an IoU of 0.1 to 0.5 with the true one."""
    left, top, right, bottom = boxes_of_masks(mask[None])[0].astype(int).tolist()
    for _ in range(100):
        by = [round(side * rng.uniform(-0.6, 0.6)) for side in (bottom - top, right - left)]
        rows, columns = (one + step for one, step in zip(mask.nonzero(), by, strict=True))
        inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
        moved = np.zeros_like(mask)
        moved[rows[inside], columns[inside]] = True
        if 0.1 < (moved & mask).sum() / (moved | mask).sum() < 0.5:
            return moved
    return mask  # so small that every step leaves it


if __name__ == "__main__":
    main()
