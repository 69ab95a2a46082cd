"""Speed and memory of the metrics against the reference algorithms, in one run on the same images
in memory.

    python benchmarks/metrics.py [--images 200] [--salt 0.01]

PQ against panopticapi's algorithm and mean IoU against the per-image computation of `evaluate`'s
mean_iou (`peers.py`), AP of masks and of boxes against pycocotools itself, which gets the same RLE
and boxes, and encoding masks against its encoding. Times are CPU seconds of this one thread, both
sides in turn; PQ and mIoU image by image, AP over all images (the faster of two runs each). The
results of both sides must agree. Memory: the size of a metric's state after half of the images and
after all of them.
"""

import argparse
import contextlib
import gc
import io
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import PanopticTotals, add_panoptic_image, mean_iou_areas
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dataseg_hf.metrics import AveragePrecision, MeanIoU, PanopticQuality
from dataseg_hf.metrics.panoptic import panoptic_counts
from dataseg_hf.metrics.rle import mask_annotations

HEIGHT, WIDTH, CLASSES, THINGS = 480, 640, 133, 80
COCO_STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def seconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def scene(rng: np.random.Generator, salt: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Segment numbers of truth and prediction, int64 [H, W]: 10 to 60 wavy cells, then displaced,
    with wrong patches on 2 % of the area, and the share `salt` of all pixels drawn at random.
    """
    count = int(rng.integers(10, 60))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    y, x = y + 6 * np.sin(x / 13) + 3 * np.sin(x / 5), x + 6 * np.sin(y / 17) + 3 * np.cos(y / 4)
    nearest, true = np.full(y.shape, np.inf, dtype=np.float32), np.zeros(y.shape, dtype=np.int64)
    for number in range(count):
        distance = (y - rng.uniform(0, HEIGHT)) ** 2 + (x - rng.uniform(0, WIDTH)) ** 2
        true[distance < nearest] = number
        nearest = np.minimum(nearest, distance)
    pred = np.roll(true, rng.integers(-8, 9, 2), axis=(0, 1))
    patches = (rng.random((HEIGHT // 8, WIDTH // 8)) < 0.02).repeat(8, 0).repeat(8, 1)
    pred[patches] = (pred[patches] + 1) % count
    if salt:
        for numbers in (true, pred):
            noisy = rng.random(numbers.shape) < salt
            numbers[noisy] = rng.integers(0, count, np.count_nonzero(noisy))
    return true, pred


class Panoptic:
    """Ids of three bytes, void, a crowd; a tenth of the predicted segments has another class."""

    name, bar = "PQ, panopticapi's algorithm", 3

    def __init__(self) -> None:
        self.ours = PanopticQuality(
            [str(c) for c in range(CLASSES)], [c < THINGS for c in range(CLASSES)]
        )
        self.theirs = PanopticTotals()

    def image(
        self, rng: np.random.Generator, true: NDArray[np.int64], pred: NDArray[np.int64]
    ) -> tuple[float, float]:
        """Seconds of ours and of theirs."""
        count = int(max(true.max(), pred.max())) + 1
        ids = 1 + rng.choice(256**3 - 1, count, replace=False)
        ids[0] = 0  # void
        labels = rng.integers(0, CLASSES, count)
        renamed = np.where(rng.random(count) < 0.1, rng.integers(0, CLASSES, count), labels)
        true_infos, pred_infos = (
            [
                {
                    "id": int(ids[n]),
                    "category_id": int(of[n]),
                    "label_id": int(of[n]),
                    "iscrowd": crowd and int(n == 1),
                }
                for n in np.unique(numbers)
                if n
            ]
            for numbers, of, crowd in ((true, labels, 1), (pred, renamed, 0))
        )
        true_ids, pred_ids = ids[true], ids[pred]
        return (
            seconds(
                lambda: self.ours.add(
                    panoptic_counts(pred_ids, pred_infos, true_ids, true_infos, CLASSES)
                )
            ),
            seconds(
                lambda: add_panoptic_image(self.theirs, true_ids, true_infos, pred_ids, pred_infos)
            ),
        )

    def check(self) -> None:
        """Equal results, to the rounding of theirs."""
        result = self.ours.compute()
        assert np.allclose(
            (result["pq"], result["sq"], result["rq"]),
            self.theirs.quality(range(CLASSES)),
            rtol=1e-13,
        )


class Semantic:
    """133 classes, 8-bit maps, the value 255 ignored."""

    name, bar = "mIoU, evaluate's algorithm", 10

    def __init__(self) -> None:
        self.ours = MeanIoU([str(c) for c in range(CLASSES)], ignore_index=255)
        self.theirs = np.zeros((3, CLASSES))

    def image(
        self, rng: np.random.Generator, true: NDArray[np.int64], pred: NDArray[np.int64]
    ) -> tuple[float, float]:
        """Seconds of ours and of theirs."""
        labels = rng.integers(0, CLASSES, max(true.max(), pred.max()) + 1)
        labels[0] = 255
        true_map = labels[true].astype(np.uint8)
        pred_map = np.where(labels[pred] == 255, 0, labels[pred]).astype(np.uint8)

        def theirs() -> None:
            self.theirs += mean_iou_areas(pred_map, true_map, CLASSES, 255)

        return seconds(lambda: self.ours.update(pred_map, true_map)), seconds(theirs)

    def check(self) -> None:
        """Equal results."""
        right, pred, true = self.theirs
        union = pred + true - right
        assert np.isclose(
            self.ours.compute()["miou"], (right[union > 0] / union[union > 0]).mean(), rtol=1e-13
        )


class Instances:
    """100 predictions per image, up to 20 objects of 80 classes, as RLE or boxes; pycocotools gets
    the same as JSON.
    """

    bar = 3

    def __init__(self, iou_type: str) -> None:
        self.iou_type = iou_type
        self.name = f"AP {iou_type}, pycocotools"
        self.ours = AveragePrecision(
            [str(c) for c in range(THINGS)], "segm" if iou_type == "segm" else "bbox"
        )

    def times(self, images: list[dict[str, Any]]) -> tuple[float, float]:
        """Seconds of ours and of theirs; all images at once, the faster of two runs each, in
        turn.
        """
        runs = []
        for _ in range(2):
            gc.collect()  # what the other side left behind is not this side's work
            ours = seconds(lambda: self.score(images))
            gc.collect()
            runs.append((ours, seconds(lambda: self.their_score(images))))
        return min(ours for ours, _ in runs), min(theirs for _, theirs in runs)

    def score(self, images: list[dict[str, Any]]) -> None:
        """By our metric."""
        self.ours.reset()
        for image_id, image in enumerate(images):
            self.ours.update(image["predictions"], image["truth"], (HEIGHT, WIDTH), image_id)
        self.result = self.ours.compute()

    def their_score(self, images: list[dict[str, Any]]) -> None:
        """By pycocotools, from dicts as `json.load` gives them."""
        truth = COCO()
        annotations = list(their_annotations(images, "truth"))
        truth.dataset = {
            "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(len(images))],
            "annotations": [
                annotation | {"id": n} for n, annotation in enumerate(annotations, start=1)
            ],
            "categories": [{"id": c} for c in range(THINGS)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            unused = {"segm": "bbox", "bbox": "segmentation"}[self.iou_type]
            found = their_annotations(images, "predictions")
            results = [
                {key: value for key, value in result.items() if key != unused} for result in found
            ]
            evaluation = COCOeval(truth, truth.loadRes(results), self.iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        self.their_stats = evaluation.stats

    def check(self) -> None:
        """Equal results."""
        assert np.allclose(
            [self.result[key] for key in COCO_STATS], self.their_stats[:6], atol=1e-9
        )


def their_annotations(images: list[dict[str, Any]], side: str) -> Iterator[dict[str, Any]]:
    """COCO's annotations of truth or predictions."""
    for image_id, image in enumerate(images):
        part = image[side]
        for n, (rle, (x0, y0, x1, y1)) in enumerate(
            zip(part["masks"], part["boxes"].tolist(), strict=True)
        ):
            annotation = {
                "image_id": image_id,
                "category_id": int(part["label_ids"][n]),
                "segmentation": rle,
            }
            annotation["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            if side == "truth":
                area = float(coco_mask.area(rle))
                yield annotation | {"iscrowd": int(part["iscrowd"][n]), "area": area}
            else:
                yield annotation | {"score": float(part["scores"][n])}


def encoding_times(masks: NDArray[np.bool_]) -> tuple[float, float]:
    """Seconds of ours and of pycocotools for bool masks [M, H, W] to RLE."""
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    times = (
        seconds(lambda: ours.extend(mask_annotations(masks, len(masks), (HEIGHT, WIDTH), "masks"))),
        seconds(
            lambda: theirs.extend(
                coco_mask.encode(np.asfortranarray(m, dtype=np.uint8)) for m in masks
            )
        ),
    )
    assert [annotation["segmentation"] for annotation in ours] == theirs
    return times


def instances(rng: np.random.Generator) -> dict[str, Any]:
    """Truth and predictions of one image: wavy discs; predictions are found near objects, or
    anywhere.
    """
    count, found = int(rng.integers(1, 20)), 100
    places = np.stack(
        [rng.uniform(0, HEIGHT, count), rng.uniform(0, WIDTH, count), rng.uniform(6, 120, count)], 1
    )
    labels = rng.integers(0, THINGS, count)
    source = rng.integers(0, count, found)
    near = rng.random(found) < 0.6
    anywhere = np.stack(
        [rng.uniform(0, HEIGHT, found), rng.uniform(0, WIDTH, found), rng.uniform(6, 120, found)], 1
    )
    pred_places = np.where(
        near[:, None], places[source] * rng.normal(1, 0.03, (found, 3)), anywhere
    )
    pred_labels = np.where(near, labels[source], rng.integers(0, THINGS, found))
    truth = shapes(rng, places) | {
        "label_ids": labels,
        "iscrowd": (rng.random(count) < 0.05).astype(np.int64),
    }
    predictions = shapes(rng, pred_places) | {
        "label_ids": pred_labels,
        "scores": rng.random(found).round(3),
    }
    return {"truth": truth, "predictions": predictions}


def shapes(rng: np.random.Generator, places: NDArray[np.float64]) -> dict[str, Any]:
    """`masks` (RLE) and `boxes` (xyxy) of discs at (y, x, radius) whose rims wave."""
    masks, boxes = [], []
    for y, x, radius in places:
        angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        rim = radius * (1 + 0.15 * np.sin(angle * rng.integers(2, 7)) + rng.normal(0, 0.02, 60))
        polygon = (
            np.stack([x + rim * np.cos(angle), y + rim * np.sin(angle)], axis=1).ravel().tolist()
        )
        rle = coco_mask.frPyObjects([polygon], HEIGHT, WIDTH)[0]
        left, top, width, height = coco_mask.toBbox(rle)
        masks.append(rle)
        boxes.append([left, top, left + width, top + height])
    return {"masks": masks, "boxes": np.array(boxes)}


def report(name: str, ours: float, theirs: float, images: int, bar: float) -> None:
    """One line: time per image of both, how many times as fast, and the least that is promised."""
    print(
        f"{name:<30} ours {1e3 * ours / images:6.2f} ms per image, theirs "
        f"{1e3 * theirs / images:6.2f}: "
        f"{theirs / ours:5.1f} times as fast (promised: {bar})"
    )


def main() -> None:
    """Make the images, time both sides, compare the results, print ratios and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument(
        "--salt", type=float, default=0.0, help="share of single pixels that are noise, 0 to 1"
    )
    options = parser.parse_args()
    images = options.images
    rng = np.random.default_rng(0)
    memory: dict[str, list[int]] = {}
    for contestant in (Panoptic(), Semantic()):
        times = []
        for number in range(images):
            times.append(contestant.image(rng, *scene(rng, options.salt)))
            if number + 1 in (images // 2, images):
                memory.setdefault(contestant.name, []).append(
                    len(pickle.dumps(contestant.ours.state))
                )
        contestant.check()
        ours, theirs = (sum(side) for side in zip(*times, strict=True))
        report(contestant.name, ours, theirs, images, contestant.bar)
    pictures = [instances(rng) for _ in range(images)]
    for iou_type in ("segm", "bbox"):
        ap = Instances(iou_type)
        for number in (images // 2, images):
            ours, theirs = ap.times(pictures[:number])
            memory.setdefault(ap.name, []).append(len(pickle.dumps(ap.ours.state)))
        ap.check()
        report(ap.name, ours, theirs, images, ap.bar)
    decoded = (coco_mask.decode(picture["predictions"]["masks"]) for picture in pictures[:20])
    times = [
        encoding_times(np.ascontiguousarray(masks.transpose(2, 0, 1)).astype(bool))
        for masks in decoded
    ]
    ours, theirs = (sum(side) for side in zip(*times, strict=True))
    report("100 masks to RLE, pycocotools", ours, theirs, len(times), 1)
    for name, (half, full) in memory.items():
        print(
            f"{name:<30} state {half / 1e3:,.0f} kB after {images // 2} images, {full / 1e3:,.0f} "
            f"kB after {images}"
        )


if __name__ == "__main__":
    main()
