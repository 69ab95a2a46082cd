"""Average precision and recall of scored instances, masks or boxes: COCO's rules, matched by
hotcoco.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.masks import boxes_of_masks
from ..data.sample import Instances, Segments
from .rle import Masks, mask_annotations
from .validation import check_class_ids, check_labels, check_segments

MAX_DETS = 100
"""Best predictions per image and class that count, if not said otherwise (pycocotools'
`params.maxDets[2]`).
"""
FEWER_DETS = (1, 10)
"""Further limits at which recall is given."""

ImageId: TypeAlias = int | str
IouType: TypeAlias = Literal["segm", "bbox"]
ApState: TypeAlias = dict[str, dict[ImageId, "ImageRecord"]]


class Predictions(TypedDict, total=False):
    """Scored instances of one image.

    `scores` float [K] and `label_ids` int [K] always; `masks`, bool [K, H, W] or K RLE dicts, for
    `segm`; `boxes`, [K, 4] xyxy in pixels, for `bbox`. Instances may overlap. Masks are small,
    medium or large by their own area, also beside boxes: the way of Detectron2 and mmdetection,
    which take the boxes out before pycocotools would go by them.
    """

    masks: Masks
    boxes: ArrayLike
    scores: ArrayLike
    label_ids: ArrayLike


class InstanceTruth(TypedDict, total=False):
    """True instances of one image: `label_ids` int [M], `masks` or `boxes` as in `Predictions`, and
    where there are crowds `iscrowd` [M]. Boxes with masks beside them are small, medium or large by
    the area of their mask.
    """

    masks: Masks
    boxes: ArrayLike
    label_ids: ArrayLike
    iscrowd: ArrayLike


class ImageRecord(TypedDict):
    """One image as COCO keeps it: height and width, and annotations without ids (boxes as xywh,
    masks as RLE).
    """

    size: tuple[int, int]
    truth: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


class ApCurves(NamedTuple):
    """`precision` float64 [10 IoU thresholds 0.50, 0.55, ..., 0.95; 101 recalls 0, 0.01, ..., 1; C;
    4 areas; 3 limits] and `recall` float64 [10, C, 4, 3]; -1 where undefined. Areas: all, small,
    medium, large. Limits: 1, 10, `max_dets`.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    max_dets: int = MAX_DETS


class AveragePrecision:
    """COCO's AP and AR over masks (`segm`) or boxes (`bbox`), equal to pycocotools'.

    The best `max_dets` predictions per image and class count, 11 or more, as with the limits 1, 10
    and `max_dets` in pycocotools' `params.maxDets`. (Its `summarize` gives -1 for `ap` unless that
    is 100; `eval["precision"]` holds the numbers.)

    `state`: `images`, image id -> ImageRecord. Equal scores in different images are ranked in the
    order of the image ids, as in pycocotools, so that the result does not depend on which process
    saw which image.
    """

    def __init__(
        self, labels: Sequence[str], iou_type: IouType = "segm", max_dets: int = MAX_DETS
    ) -> None:
        if max_dets <= FEWER_DETS[-1]:
            raise ValueError(f"max_dets: must be above {FEWER_DETS[-1]}, not {max_dets}")
        self.max_dets = max_dets
        if iou_type not in ("segm", "bbox"):
            raise ValueError(f"iou_type: '{iou_type}' is not one of 'segm', 'bbox'")
        self.labels = check_labels(labels)
        self.iou_type: IouType = iou_type
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.state: ApState = {"images": {}}

    def update(
        self,
        predictions: Predictions,
        truth: Instances | InstanceTruth,
        image_size: tuple[int, int],
        image_id: ImageId,
    ) -> None:
        """Add the image `image_id` of `image_size` (height, width).

        Raises:
            ValueError: for an image that was added before, parts of unequal length, masks of
                another size, truth without masks for `segm`, classes out of range, scores or boxes
                that are not finite, boxes that are not xyxy.
        """
        size = (int(image_size[0]), int(image_size[1]))
        num_classes = len(self.labels)
        record: ImageRecord = {
            "size": size,
            "truth": _truth_annotations(_as_truth(truth), size, num_classes, self.iou_type),
            "predictions": _predicted_annotations(predictions, size, num_classes, self.iou_type),
        }
        self.merge({"images": {image_id: record}})

    def merge(self, other_state: ApState) -> None:
        """Add the images of another AveragePrecision.

        Raises:
            ValueError: for other classes or another IoU type, and an image that was added before.
        """
        if set(other_state) != {"images"}:
            raise ValueError(
                f"merge: expected a state with the key 'images', got {sorted(other_state)}"
            )
        shape_key = {"segm": "segmentation", "bbox": "bbox"}[self.iou_type]
        for image_id, record in other_state["images"].items():
            if image_id in self.state["images"]:
                raise ValueError(
                    f"image {image_id} was added before; each image must be scored once"
                )
            for annotation in record["truth"] + record["predictions"]:
                if shape_key not in annotation or annotation["category_id"] >= len(self.labels):
                    raise ValueError(
                        f"merge: the state is not of a {self.iou_type} metric with "
                        f"{len(self.labels)} classes"
                    )
        self.state["images"].update(other_state["images"])

    def compute(self) -> dict[str, Any]:
        """Results as described in `average_precision`."""
        return average_precision(self.curves(), self.labels)

    def curves(self) -> ApCurves:
        """Precision and recall of all images, from which `average_precision` takes its means."""
        return precision_and_recall(
            self.state["images"], len(self.labels), self.iou_type, self.max_dets
        )


def precision_and_recall(
    images: Mapping[ImageId, ImageRecord],
    num_classes: int,
    iou_type: IouType,
    max_dets: int = MAX_DETS,
) -> ApCurves:
    """COCO's matching of predictions and truth, and what it makes of precision and recall.

    Args:
        images: by image id. num_classes: C. iou_type: `segm` or `bbox`. max_dets: above 10.
    """
    from hotcoco import COCO, COCOeval

    in_order = [
        images[image_id] for image_id in sorted(images, key=lambda key: (isinstance(key, str), key))
    ]
    truth = COCO(_coco_file(in_order, [image["truth"] for image in in_order], num_classes))
    found = COCO(_coco_file(in_order, [image["predictions"] for image in in_order], num_classes))
    evaluation = COCOeval(truth, found, iou_type)
    evaluation.params.maxDets = [*FEWER_DETS, max_dets]
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None  # `accumulate` has filled it
    return ApCurves(evaluation.eval["precision"], evaluation.eval["recall"], max_dets)


def average_precision(curves: ApCurves, labels: Sequence[str]) -> dict[str, Any]:
    """COCO's average precision and average recall.

    Returns:
        A dictionary with these keys; a value is `nan` without truth of that kind.

        - `ap`: mean over the IoU thresholds 0.50, 0.55, ..., 0.95, 101 recalls and the classes that
          occur in the truth;
        - `ap50`, `ap75`: at one threshold;
        - `ap_small`, `ap_medium`, `ap_large`: truth of an area up to 32 x 32, up to 96 x 96, from
          96 x 96 pixels on;
        - `ar1`, `ar10`, `ar100` (the last one named by `max_dets`): recall of the best 1, 10, 100
          predictions per image and class, mean over thresholds and classes;
        - `ar_small`, `ar_medium`, `ar_large`: the recall for truth of those areas;
        - `per_class`: label -> the same.
    """
    precision, recall, max_dets = curves
    result = ap_summary(curves)
    result["per_class"] = {
        label: ap_summary(ApCurves(precision[:, :, [k]], recall[:, [k]], max_dets))
        for k, label in enumerate(labels)
    }
    return result


def instances_from_segments(truth: Segments, is_thing: Sequence[bool]) -> Instances:
    """The thing segments of a panoptic annotation as instances; boxes are tight, their far edges
    one past the mask.

    A segment without pixels keeps an empty mask and the box 0, 0, 0, 0.

    Raises:
        ValueError: if `truth` names a class without a flag in `is_thing`.
    """
    check_segments(truth, len(is_thing))
    things = np.flatnonzero(np.asarray(is_thing, dtype=bool)[truth.class_labels])
    masks = truth.segment_map[None] == things[:, None, None]
    return Instances(
        class_labels=truth.class_labels[things],
        boxes=boxes_of_masks(masks),
        is_crowd=truth.is_crowd[things],
        masks=masks,
    )


def _as_truth(truth: Instances | InstanceTruth) -> InstanceTruth:
    if not isinstance(truth, Instances):
        return truth
    parts: InstanceTruth = {
        "label_ids": truth.class_labels,
        "boxes": truth.boxes,
        "iscrowd": truth.is_crowd,
    }
    return parts if truth.masks is None else parts | {"masks": truth.masks}


def _truth_annotations(
    truth: InstanceTruth, size: tuple[int, int], num_classes: int, iou_type: IouType
) -> list[dict[str, Any]]:
    if "label_ids" not in truth:
        raise ValueError("truth: ['label_ids'] missing")
    label_ids = np.asarray(truth["label_ids"])
    check_class_ids(label_ids, num_classes, "truth.label_ids")
    count = len(label_ids)
    is_crowd = np.asarray(truth.get("iscrowd", np.zeros(count)))
    if is_crowd.shape != (count,):
        raise ValueError(
            f"truth.iscrowd: expected shape ({count},) as label_ids, got {is_crowd.shape}"
        )
    shapes = (
        mask_annotations(truth["masks"], count, size, "truth.masks") if "masks" in truth else None
    )
    if iou_type == "bbox":
        if "boxes" not in truth:
            raise ValueError("truth: ['boxes'] missing, needed for iou_type='bbox'")
        boxes = _box_annotations(np.asarray(truth["boxes"]), count, "truth.boxes")
        # COCO sorts an object into small, medium, large by its mask, for boxes too
        shapes = (
            boxes
            if shapes is None
            else [b | {"area": s["area"]} for b, s in zip(boxes, shapes, strict=True)]
        )
    elif shapes is None:
        raise ValueError(
            "truth.masks: AP of masks needs masks in the truth; use iou_type='bbox' for boxes"
        )
    for shape, label, crowd in zip(shapes, label_ids.tolist(), is_crowd.tolist(), strict=True):
        shape.update(category_id=label, iscrowd=int(crowd))
    return shapes


def _predicted_annotations(
    predictions: Predictions, size: tuple[int, int], num_classes: int, iou_type: IouType
) -> list[dict[str, Any]]:
    shape_key = "masks" if iou_type == "segm" else "boxes"
    missing = [key for key in (shape_key, "scores", "label_ids") if key not in predictions]
    if missing:
        raise ValueError(f"predictions: {missing} missing, needed for iou_type='{iou_type}'")
    scores, label_ids = (
        np.asarray(predictions["scores"], dtype=np.float64),
        np.asarray(predictions["label_ids"]),
    )
    check_class_ids(label_ids, num_classes, "predictions.label_ids")
    count = len(label_ids)
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise ValueError(
            f"predictions.scores: expected {count} finite numbers as label_ids, got shape "
            f"{scores.shape}"
        )
    if iou_type == "segm":
        shapes = mask_annotations(predictions["masks"], count, size, "predictions.masks")
    else:
        shapes = _box_annotations(np.asarray(predictions["boxes"]), count, "predictions.boxes")
    for shape, label, score in zip(shapes, label_ids.tolist(), scores.tolist(), strict=True):
        shape.update(category_id=label, score=score)
    return shapes


def _box_annotations(boxes: NDArray[Any], count: int, name: str) -> list[dict[str, Any]]:
    """COCO's xywh boxes of xyxy [count, 4], with their areas."""
    if count == 0 and boxes.size == 0:
        return []
    if boxes.shape != (count, 4) or not np.isfinite(boxes).all():
        raise ValueError(
            f"{name}: expected {count} finite boxes [{count}, 4], got shape {boxes.shape}"
        )
    corners = boxes.astype(np.float64)
    extent = corners[:, 2:] - corners[:, :2]
    if (extent < 0).any():
        raise ValueError(
            f"{name}: {boxes[(extent < 0).any(axis=1)][0]} ends before it begins; boxes are xyxy"
        )
    return [
        {"bbox": [*start.tolist(), *side.tolist()], "area": float(side.prod())}
        for start, side in zip(corners[:, :2], extent, strict=True)
    ]


def _coco_file(
    images: Sequence[ImageRecord], annotations: list[list[dict[str, Any]]], num_classes: int
) -> dict[str, Any]:
    """The content of a COCO file. Annotation ids start at 1: 0 stands for "not matched"."""
    placed = (
        (number, annotation) for number, group in enumerate(annotations) for annotation in group
    )
    return {
        "images": [
            {"id": i, "height": im["size"][0], "width": im["size"][1], "file_name": ""}
            for i, im in enumerate(images)
        ],
        "annotations": [
            {**annotation, "image_id": i, "id": n}
            for n, (i, annotation) in enumerate(placed, start=1)
        ],
        "categories": [{"id": k, "name": str(k)} for k in range(num_classes)],
    }


def ap_summary(curves: ApCurves) -> dict[str, Any]:
    """The twelve numbers, means over the classes of the curves."""
    precision, recall, max_dets = curves

    def mean(values: NDArray[np.float64]) -> float:
        defined = values[values > -1]
        return float(defined.mean()) if defined.size else float("nan")

    return {
        "ap": mean(precision[..., 0, -1]),
        "ap50": mean(precision[0, ..., 0, -1]),
        "ap75": mean(precision[5, ..., 0, -1]),
        "ap_small": mean(precision[..., 1, -1]),
        "ap_medium": mean(precision[..., 2, -1]),
        "ap_large": mean(precision[..., 3, -1]),
        "ar1": mean(recall[..., 0, 0]),
        "ar10": mean(recall[..., 0, 1]),
        f"ar{max_dets}": mean(recall[..., 0, 2]),
        "ar_small": mean(recall[..., 1, -1]),
        "ar_medium": mean(recall[..., 2, -1]),
        "ar_large": mean(recall[..., 3, -1]),
    }
