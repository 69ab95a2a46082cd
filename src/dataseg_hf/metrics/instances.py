"""Average precision of scored instances, masks or boxes, by pycocotools' COCOeval."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.sample import Instances, Segments
from .validation import check_class_ids, check_labels, check_segments

MAX_DETECTIONS = 100
"""Predictions per image that count, of all classes together (COCO's rule)."""

ApState: TypeAlias = dict[str, list["ImageRecord"]]
IouType: TypeAlias = Literal["segm", "bbox"]


class Predictions(TypedDict, total=False):
    """Scored instances of one image.

    `scores` float [K] and `label_ids` int [K] always; `masks`, bool [K, H, W] or K RLE dicts of pycocotools, for
    `segm`; `boxes`, [K, 4] xyxy in pixels, for `bbox`. Instances may overlap.
    """

    masks: NDArray[np.bool_] | Sequence[dict[str, Any]]
    boxes: ArrayLike
    scores: ArrayLike
    label_ids: ArrayLike


class ImageRecord(TypedDict):
    """One image as COCO keeps it: height and width, and annotations without ids (boxes as xywh, masks as RLE)."""

    size: tuple[int, int]
    truth: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


class MaskAP:
    """COCO's AP family over masks (`segm`) or boxes (`bbox`).

    `state`: `images`, one ImageRecord per image. Equal scores in different images are ranked in the order of the
    images, as in pycocotools: shards that are merged in another order can differ where scores tie.
    """

    def __init__(self, labels: Sequence[str], iou_type: IouType = "segm") -> None:
        if iou_type not in ("segm", "bbox"):
            raise ValueError(f"iou_type: '{iou_type}' is not one of 'segm', 'bbox'")
        self.labels = check_labels(labels)
        self.iou_type: IouType = iou_type
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.state: ApState = {"images": []}

    def update(self, predictions: Predictions, truth: Instances, image_size: tuple[int, int]) -> None:
        """Add one image of `image_size` (height, width); the 100 best predictions of all classes count.

        Raises:
            ValueError: for parts of unequal length, masks of another size, truth without masks for `segm`, classes out
                of range, scores or boxes that are not finite, boxes that are not xyxy.
        """
        size = (int(image_size[0]), int(image_size[1]))
        num_classes = len(self.labels)
        record: ImageRecord = {
            "size": size,
            "truth": _truth_annotations(truth, size, num_classes, self.iou_type),
            "predictions": _predicted_annotations(predictions, size, num_classes, self.iou_type),
        }
        self.state["images"].append(record)

    def merge(self, other_state: ApState) -> None:
        """Append the images of another MaskAP with the same classes and IoU type."""
        if set(other_state) != {"images"}:
            raise ValueError(f"merge: expected a state with the key 'images', got {sorted(other_state)}")
        shape_key = {"segm": "segmentation", "bbox": "bbox"}[self.iou_type]
        for record in other_state["images"]:
            for annotation in record["truth"] + record["predictions"]:
                if shape_key not in annotation or annotation["category_id"] >= len(self.labels):
                    raise ValueError(
                        f"merge: the state is not of a {self.iou_type} metric with {len(self.labels)} classes"
                    )
        self.state["images"] = self.state["images"] + other_state["images"]

    def compute(self) -> dict[str, Any]:
        """Results as described in `average_precision`."""
        return average_precision(self.state["images"], self.labels, self.iou_type)


def average_precision(images: Sequence[ImageRecord], labels: Sequence[str], iou_type: IouType) -> dict[str, Any]:
    """COCO's average precision.

    Returns:
        `ap`: mean over the IoU thresholds 0.50, 0.55, ..., 0.95, 101 recalls and the classes that occur in the truth;
        `ap50`, `ap75`: at one threshold; `ap_small`, `ap_medium`, `ap_large`: truth of an area up to 32 * 32, up to
        96 * 96, from 96 * 96 pixels on; `per_class`: label -> the same six. `nan` without truth of that kind.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        truth = _coco(images, [image["truth"] for image in images], len(labels))
        predictions = _coco(images, [image["predictions"] for image in images], len(labels))
        evaluation = COCOeval(truth, predictions, iou_type)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]
    result = _summary(precision)
    result["per_class"] = {label: _summary(precision[:, :, [k]]) for k, label in enumerate(labels)}
    return result


def instances_from_segments(truth: Segments, is_thing: Sequence[bool]) -> Instances:
    """The thing segments of a panoptic annotation as instances; boxes are tight, their far edges one past the mask.

    A segment without pixels keeps an empty mask and the box 0, 0, 0, 0.

    Raises:
        ValueError: if `truth` names a class without a flag in `is_thing`.
    """
    check_segments(truth, len(is_thing))
    things = np.flatnonzero(np.asarray(is_thing, dtype=bool)[truth.class_labels])
    masks = truth.segment_map[None] == things[:, None, None]
    return Instances(
        class_labels=truth.class_labels[things],
        boxes=_boxes_of(masks),
        is_crowd=truth.is_crowd[things],
        masks=masks,
    )


def _truth_annotations(
    truth: Instances, size: tuple[int, int], num_classes: int, iou_type: IouType
) -> list[dict[str, Any]]:
    count = len(truth.class_labels)
    check_class_ids(truth.class_labels, num_classes, "truth.class_labels")
    if truth.is_crowd.shape != (count,):
        raise ValueError(f"truth.is_crowd: expected shape ({count},) as class_labels, got {truth.is_crowd.shape}")
    if truth.masks is not None:
        _check_masks(truth.masks, count, size, "truth.masks")
    if iou_type == "segm":
        if truth.masks is None:
            raise ValueError("truth.masks: AP of masks needs masks in the truth; use iou_type='bbox' for boxes")
        shapes = _mask_shapes(_encode(truth.masks))
    else:
        shapes = _box_shapes(truth.boxes, count, "truth.boxes")
        if truth.masks is not None:  # COCO sorts an object into small, medium, large by its mask, for boxes too
            shapes = [s | {"area": float(m.sum())} for s, m in zip(shapes, truth.masks, strict=True)]
    return [
        shape | {"category_id": int(label), "iscrowd": int(crowd)}
        for shape, label, crowd in zip(shapes, truth.class_labels, truth.is_crowd, strict=True)
    ]


def _predicted_annotations(
    predictions: Predictions, size: tuple[int, int], num_classes: int, iou_type: IouType
) -> list[dict[str, Any]]:
    shape_key = "masks" if iou_type == "segm" else "boxes"
    missing = [key for key in (shape_key, "scores", "label_ids") if key not in predictions]
    if missing:
        raise ValueError(f"predictions: {missing} missing, needed for iou_type='{iou_type}'")
    scores, label_ids = np.asarray(predictions["scores"], dtype=np.float64), np.asarray(predictions["label_ids"])
    check_class_ids(label_ids, num_classes, "predictions.label_ids")
    count = len(label_ids)
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise ValueError(f"predictions.scores: expected {count} finite numbers as label_ids, got shape {scores.shape}")
    best = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
    if iou_type == "segm":
        shapes = _mask_shapes(_best_masks(predictions["masks"], best, count, size))
    else:
        shapes = _box_shapes(np.asarray(predictions["boxes"]), count, "predictions.boxes")
        shapes = [shapes[i] for i in best]
    return [
        shape | {"category_id": int(label_ids[i]), "score": float(scores[i])}
        for shape, i in zip(shapes, best, strict=True)
    ]


def _best_masks(
    masks: NDArray[np.bool_] | Sequence[dict[str, Any]], best: NDArray[np.int64], count: int, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """The masks at `best` as RLE."""
    if not isinstance(masks, (list, tuple)):
        array = np.asarray(masks)
        _check_masks(array, count, size, "predictions.masks")
        return _encode(array[best])
    if len(masks) != count:
        raise ValueError(f"predictions.masks: {len(masks)} masks for {count} label_ids")
    chosen = [masks[i] for i in best]
    for rle in chosen:
        if not isinstance(rle, dict) or not isinstance(rle.get("counts"), (bytes, str)):
            raise ValueError("predictions.masks: a list must hold RLE dicts as pycocotools.mask.encode returns them")
        if tuple(rle["size"]) != size:
            raise ValueError(f"predictions.masks: RLE of size {tuple(rle['size'])}, the image is {size}")
    return [{"size": list(size), "counts": rle["counts"]} for rle in chosen]


def _check_masks(masks: NDArray[Any], count: int, size: tuple[int, int], name: str) -> None:
    if masks.dtype != np.bool_ or masks.shape != (count, *size):
        raise ValueError(f"{name}: expected bool {(count, *size)}, got {masks.dtype} {masks.shape}")


def _encode(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """RLE of masks [M, H, W]."""
    from pycocotools import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]


def _mask_shapes(rles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    return [{"segmentation": rle, "area": float(coco_mask.area(rle))} for rle in rles]


def _box_shapes(boxes: NDArray[Any], count: int, name: str) -> list[dict[str, Any]]:
    """COCO's xywh boxes of xyxy [count, 4], with their areas."""
    if count == 0 and boxes.size == 0:
        return []
    if boxes.shape != (count, 4) or not np.isfinite(boxes).all():
        raise ValueError(f"{name}: expected {count} finite boxes [{count}, 4], got shape {boxes.shape}")
    corners = boxes.astype(np.float64)
    extent = corners[:, 2:] - corners[:, :2]
    if (extent < 0).any():
        raise ValueError(f"{name}: {boxes[(extent < 0).any(axis=1)][0]} ends before it begins; boxes are xyxy")
    return [
        {"bbox": [*start.tolist(), *side.tolist()], "area": float(side.prod())}
        for start, side in zip(corners[:, :2], extent, strict=True)
    ]


def _boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tight xyxy boxes, float32 [M, 4], of masks [M, H, W]."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if y.size:
            box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1
    return boxes


def _coco(images: Sequence[ImageRecord], annotations: list[list[dict[str, Any]]], num_classes: int) -> Any:
    """A pycocotools COCO object. Annotation ids start at 1: COCOeval reads the id 0 as "not matched"."""
    from pycocotools.coco import COCO

    coco = COCO()
    flat = [annotation | {"image_id": i} for i, group in enumerate(annotations) for annotation in group]
    coco.dataset = {
        "images": [{"id": i, "height": im["size"][0], "width": im["size"][1]} for i, im in enumerate(images)],
        "annotations": [annotation | {"id": n} for n, annotation in enumerate(flat, start=1)],
        "categories": [{"id": k} for k in range(num_classes)],
    }
    coco.createIndex()
    return coco


def _summary(precision: NDArray[np.float64]) -> dict[str, Any]:
    """The six numbers out of precision [10 thresholds, 101 recalls, classes, 4 area ranges], -1 where undefined."""

    def mean(values: NDArray[np.float64]) -> float:
        defined = values[values > -1]
        return float(defined.mean()) if defined.size else float("nan")

    return {
        "ap": mean(precision[..., 0]),
        "ap50": mean(precision[0, ..., 0]),
        "ap75": mean(precision[5, ..., 0]),
        "ap_small": mean(precision[..., 1]),
        "ap_medium": mean(precision[..., 2]),
        "ap_large": mean(precision[..., 3]),
    }
