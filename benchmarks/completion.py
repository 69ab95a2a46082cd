"""How good completed annotation is: masks from boxes, and objects from maps of classes, on held-out
scenes of the embedded world, of which everything is known.

    python -m benchmarks.completion --models outputs/shapes

Boxes: mean IoU with the true masks, and the shares that reach 0.5 and 0.75, of the box itself, of
the completion, and of OpenCV's GrabCut from the same box, if `opencv-python-headless` is installed.
Maps of classes: PQ of things, with the true class of every pixel given, of connected parts and of
the completion. Beside them the CPU seconds that a method takes for all images, without the network,
and the rank correlation of a completion's score with its true IoU.

    python -m benchmarks.completion --models checkpoints/photos-small --photos val
    python -m benchmarks.completion --models outputs/photos --photos boxes

    python -m benchmarks.completion --models checkpoints/photos-small --photos cost

takes COCO photographs of $DATASEG_DATA instead: the held-out ones with the things of their panoptic
maps, or those that the config `photos` trains on with their boxes only, with their polygons. `cost`
compares the CPU seconds of completing 20 boxes an image, at 640 x 480, with those of prediction.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label as connected
from scipy.stats import spearmanr

from dataseg_hf.data.masks import boxes_of_masks
from dataseg_hf.data.sample import DatasetSpec, Instances, Sample, SampleDataset, Segments
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.metrics import PanopticQuality, semantic_map
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.model.tasks_dataseg import get_task
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.completion import (
    Proposer,
    complete_boxes,
    complete_sample,
    split_into_objects,
)
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import Source
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.ready_configs import config_file
from dataseg_hf.sharing.checkpoint import load_checkpoint

Masks = Sequence[NDArray[np.bool_]]
SIZE, PHOTO_SIZE, LARGE = 64, 384, (480, 640)
GRABCUT_STEPS, GRABCUT_SIDE = 5, 384  # larger images are reduced for it: it takes seconds for each


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["outputs/shapes"], help="checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("--count", type=int, help="scenes of each set, 120 by default")
    parser.add_argument(
        "--photos", choices=["val", "boxes", "cost"], help="COCO photographs instead"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for model in options.models:
        print(f"## {model}\n")
        if options.photos == "cost":
            measure_cost(model, photographs("val"))
            continue
        if options.photos:
            photos = photographs(options.photos)
            measure_boxes(photos, proposed(model, photos, PHOTO_SIZE))
            continue
        boxes = shapes_dataset(
            "shapes_boxes", "eval", size=SIZE, count=options.count, seed=options.seed
        )
        measure_boxes(boxes, proposed(model, boxes))
        maps = shapes_dataset(
            "shapes_semantic", "eval", size=SIZE, count=options.count, seed=options.seed
        )
        measure_maps(maps, proposed(model, maps))


def photographs(which: str) -> SampleDataset:
    """COCO photographs with masks of their objects."""
    config = parse_run_config([], config_file("photos"))
    if which == "val":
        source: Source = config.evaluation["coco_val"]
    else:
        boxes = config.datasets["coco_boxes"]
        source = boxes.model_copy(update={"spec": "coco_instances"})
    data = load_source(source, "photos")
    assert isinstance(data, SampleDataset)
    return replace(data, load=partial(with_objects, load=data.load, spec=data.spec))


def with_objects(row: Any, load: Any, spec: DatasetSpec) -> Sample:
    """A sample with the things of its map, or its objects, crowds left out."""
    sample: Sample = load(row)
    annotation = sample.annotation
    if isinstance(annotation, Segments):
        masks = annotation.segment_map == np.arange(len(annotation.class_labels))[:, None, None]
        kept = np.array(spec.is_thing)[annotation.class_labels] & masks.any((1, 2))
        annotation = Instances(
            annotation.class_labels, boxes_of_masks(masks), annotation.is_crowd, masks
        ).select(kept)
    return replace(sample, annotation=annotation.select(~annotation.is_crowd))


def proposed(
    name: str, data: SampleDataset, size: int = SIZE
) -> list[tuple[Sample, ImageProposals]]:
    """The images of a set with a model's proposals in the set's words."""
    model, processor = load_checkpoint(name)
    proposer = Proposer.of(model.eval(), processor, data.spec.name, data.spec, size, 8)
    batches = proposer.batches(data[index] for index in range(len(data)))
    return [one for batch in batches for one in batch]


# --- boxes


def measure_boxes(data: SampleDataset, found: Sequence[tuple[Sample, ImageProposals]]) -> None:
    print("| boxes | mean IoU | above 0.5 | above 0.75 | CPU seconds |\n|---|---|---|---|---|")
    scores: list[float] = []
    methods: dict[str, Callable[[Sample, ImageProposals], Masks]] = {
        "the box": the_box,
        "completed": partial(completed, scores=scores),
    }
    try:
        import cv2
    except ImportError:
        print("(no GrabCut: opencv-python-headless is not installed)")
    else:
        methods["GrabCut"] = partial(grab_cut, cv2=cv2)
    for name, method in methods.items():
        started, ious = time.process_time(), []
        for sample, proposals in found:
            masks = method(sample, proposals)
            ious += [iou(*pair) for pair in zip(masks, objects_of(sample).masks, strict=True)]
        seconds = time.process_time() - started
        shares = " | ".join(f"{(np.array(ious) >= least).mean():.3f}" for least in (0.5, 0.75))
        print(f"| {name} | {np.mean(ious):.3f} | {shares} | {seconds:.1f} |")
        if name == "completed":
            correlation = spearmanr(scores, ious)[0]
    print(f"\n{len(ious)} objects; rank correlation of score and IoU {correlation:.2f}\n")


def the_box(sample: Sample, _: ImageProposals) -> Masks:
    masks = []
    for box in objects_of(sample).boxes:
        left, top, right, bottom = box.round().astype(int).tolist()
        masks.append(np.zeros(sample.image.shape[:2], bool))
        masks[-1][top:bottom, left:right] = True
    return masks


def completed(sample: Sample, proposals: ImageProposals, scores: list[float]) -> Masks:
    objects = objects_of(sample)
    height, width = sample.image.shape[:2]
    done = complete_boxes(proposals, sample.image, objects.boxes, objects.class_labels)
    scores += [one.score or 0.0 for one in done.segments]
    return [one.within(slice(0, height), slice(0, width)) for one in done.segments]


def grab_cut(sample: Sample, _: ImageProposals, cv2: Any) -> Masks:
    height, width = sample.image.shape[:2]
    factor = min(1.0, GRABCUT_SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = cv2.resize(
        np.ascontiguousarray(sample.image[..., ::-1]), size, interpolation=cv2.INTER_AREA
    )
    masks = []
    for box in objects_of(sample).boxes:
        left, top, right, bottom = (box * factor).round().astype(int).tolist()
        state = np.zeros(size[::-1], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        place = (left, top, right - left, bottom - top)
        cv2.setRNGSeed(0)
        try:
            cv2.grabCut(image, state, place, *models, GRABCUT_STEPS, cv2.GC_INIT_WITH_RECT)
        except cv2.error:  # a box that is all of the image, or too small
            state[top:bottom, left:right] = cv2.GC_FGD
        found = ((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)).astype(np.uint8)
        whole = cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)
        masks.append(whole.astype(bool))
    return masks


def objects_of(sample: Sample) -> Any:
    assert isinstance(sample.annotation, Instances)
    return sample.annotation


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def measure_cost(name: str, data: SampleDataset) -> None:
    """CPU seconds an image, the least of three repeats of all images in turn."""
    model, processor = load_checkpoint(name)
    proposer = Proposer.of(model.eval(), processor, data.spec.name, data.spec, LARGE[1], 4)
    samples = [with_boxes(data[index], np.random.default_rng(index)) for index in range(16)]
    seconds: dict[str, list[float]] = {"predicted": [], "completed": []}
    for _ in range(3):
        for what, spent in seconds.items():
            started = time.process_time()
            for batch in proposer.batches(iter(samples)):
                for sample, proposals in batch:
                    if what == "predicted":
                        get_task("instance").predict(proposals, LARGE, Thresholds(0.5))
                    else:
                        complete_sample(sample, data.spec, proposals)
            spent.append((time.process_time() - started) / len(samples))
    predicted, completed = (min(spent) for spent in seconds.values())
    print(f"{predicted:.3f} s predicted, {completed:.3f} s completed: {completed / predicted:.2f}")


def with_boxes(sample: Sample, rng: np.random.Generator) -> Sample:
    """The image at 640 x 480 with 20 boxes at random places."""
    height, width = LARGE
    image = np.asarray(Image.fromarray(sample.image).resize((width, height)))
    middles, sides = rng.uniform(0, 1, (20, 2)), rng.uniform(0.05, 0.4, (20, 2))
    corners = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1).clip(0, 1)
    boxes = (corners * [width, height, width, height]).astype(np.float32)
    objects = Instances(rng.integers(0, 10, 20), boxes, np.zeros(20, bool))
    return replace(sample, image=image, annotation=objects)


# --- maps of classes


def measure_maps(data: SampleDataset, found: Sequence[tuple[Sample, ImageProposals]]) -> None:
    print("| maps of classes | PQ of things | SQ | RQ | CPU seconds |\n|---|---|---|---|---|")
    for name, split in (("connected parts", connected_parts), ("completed", split_by_model)):
        metric = PanopticQuality(data.spec.labels, data.spec.is_thing)
        seconds = 0.0
        for sample, proposals in found:
            assert isinstance(sample.annotation, Segments)
            class_map = semantic_map(sample.annotation)
            started = time.process_time()
            ids, segments = np.zeros(class_map.shape, np.int32), list[dict[str, int]]()
            for label in np.unique(class_map[class_map >= 0]).tolist():
                parts: Masks = [class_map == label]
                if data.spec.is_thing[label]:
                    parts = split(proposals, class_map, label)
                for part in parts:
                    segments.append({"id": len(segments) + 1, "label_id": label})
                    ids[part] = len(segments)
            seconds += time.process_time() - started
            metric.update(ids, segments, sample.annotation)
        result = metric.compute()
        values = " | ".join(f"{result[key]:.3f}" for key in ("pq_things", "sq_things", "rq_things"))
        print(f"| {name} | {values} | {seconds:.1f} |")
    print()


def connected_parts(_: ImageProposals, class_map: NDArray[Any], label: int) -> Masks:
    numbers, count = connected(class_map == label, np.ones((3, 3), dtype=int))
    return [numbers == number for number in range(1, count + 1)]


def split_by_model(proposals: ImageProposals, class_map: NDArray[Any], label: int) -> Masks:
    return [mask for mask, _ in split_into_objects(proposals, class_map, label)]


if __name__ == "__main__":
    main()
