"""Scores of anyone's predictions in files of the standard formats: COCO panoptic, PNGs of classes,
COCO instances.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.readers.paths import inside
from ..data.readers.values import flag, require_key, side
from .inputs import (
    read_class_map,
    read_json,
    read_segment_ids,
    require_id,
    require_list,
    require_number,
)
from .instances import MAX_DETS, AveragePrecision, ImageId, ImageRecord, IouType
from .panoptic import PanopticQuality, panoptic_counts, unlisted_ids
from .rle import mask_annotations, polygons_to_rle
from .semantic import MeanIoU

Progress: TypeAlias = Callable[[Sequence[Any]], Iterable[Any]]
"""Passes the images on, one after the other, and shows how many are done (such as `tqdm`)."""


def score_panoptic(
    gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path, progress: Progress = iter
) -> dict[str, Any]:
    """Panoptic quality of predictions in COCO panoptic format
    (https://cocodataset.org/#format-data).

    Args:
        gt_json: `categories` (id, name, isthing) and `annotations` (image_id, file_name,
            segments_info).
        gt_dir: folder of its PNGs; a pixel's segment id is R + 256 G + 65536 B, 0 is void.
        pred_json: `annotations` as above, one per image of the truth.
        pred_dir: folder of its PNGs.

    Returns:
        As `panoptic_quality`.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for an image in only one of the files, an unknown category, segments that differ
            between JSON and PNG, PNGs of different size; file and image are named.
    """
    content = read_json(gt_json)
    index = _category_index(content, gt_json)
    categories = content["categories"]
    where = f"{gt_json}: categories"
    is_thing = [
        flag(require_key(category, "isthing", where), f"{where}: `isthing`")
        for category in categories
    ]
    metric = PanopticQuality([category["name"] for category in categories], is_thing)
    truth = _by_image(require_list(content, "annotations", gt_json), gt_json)
    predictions = _by_image(require_list(read_json(pred_json), "annotations", pred_json), pred_json)
    _require_same_images(truth, predictions, gt_json, pred_json)
    for image_id in progress(list(truth)):
        true_path, true, true_listed = _panoptic_map(
            truth[image_id], gt_dir, index, f"{gt_json}: image {image_id}"
        )
        path, pred, listed = _panoptic_map(
            predictions[image_id], pred_dir, index, f"{pred_json}: image {image_id}"
        )
        _require_same_size(path, pred, true_path, true)
        try:
            metric.add(panoptic_counts(pred, listed, true, true_listed, len(index)))
        except ValueError as error:
            raise ValueError(f"{path}: image {image_id}: {error}") from error
    return metric.compute()


def score_semantic(
    gt_dir: Path, pred_dir: Path, num_classes: int, ignore_index: int, progress: Progress = iter
) -> dict[str, Any]:
    """Mean IoU of PNGs with a class per pixel; `pred_dir/a/b.png` is the prediction for
    `gt_dir/a/b.png`.

    Args:
        num_classes: C; true values are 0..C-1 or `ignore_index`, predicted ones outside 0..C-1
            count as wrong.
        ignore_index: true value whose pixels are left out.

    Returns:
        As `iou_scores`; the classes are named "0", "1", ...

    Raises:
        FileNotFoundError: for a missing folder or prediction.
        ValueError: for a prediction without truth, PNGs of different size, a true value out of
            range, no PNG at all.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes: must be 1 or more, not {num_classes}")
    metric = MeanIoU([str(label) for label in range(num_classes)], ignore_index)
    truth, predictions = _pngs(gt_dir), _pngs(pred_dir)
    if not truth:
        raise ValueError(f"{gt_dir}: holds no PNG")
    for name in sorted(truth.keys() - predictions.keys()):
        raise FileNotFoundError(
            f"{pred_dir / name}: no such file, the prediction for {truth[name]}"
        )
    for name in sorted(predictions.keys() - truth.keys()):
        raise ValueError(
            f"{predictions[name]}: a prediction without truth, {gt_dir / name} does not exist"
        )
    for name in progress(sorted(truth)):
        pred, true = read_class_map(predictions[name]), read_class_map(truth[name])
        _require_same_size(predictions[name], pred, truth[name], true)
        try:
            metric.update(pred, true)
        except ValueError as error:
            raise ValueError(f"{truth[name]}: {error}") from error
    return metric.compute()


def score_instances(
    gt_json: Path,
    pred_json: Path,
    iou_type: IouType = "segm",
    max_dets: int = MAX_DETS,
    progress: Progress = iter,
) -> dict[str, Any]:
    """Average precision of predictions in COCO's result format
    (https://cocodataset.org/#format-results).

    Args:
        gt_json: COCO instances: `images`, `categories`, `annotations` (`area` decides small,
            medium, large).
        pred_json: a list (or an object with `annotations`) of image_id, category_id, score, and
            `segmentation` or `bbox` [x, y, width, height]. Where every result has a box, masks too
            are small, medium or large by the area of their box, as in pycocotools; where one has
            none (for which pycocotools stops), all are by their mask.
        max_dets: predictions per image and class that count, the best ones.

    Returns:
        As `average_precision`.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for an unknown image or category, a malformed segmentation, box or score; file
            and image are named.
    """
    content = read_json(gt_json)
    index = _category_index(content, gt_json)
    metric = AveragePrecision(
        [category["name"] for category in content["categories"]], iou_type, max_dets
    )
    records: dict[ImageId, ImageRecord] = {}
    for image in require_list(content, "images", gt_json):
        image_id = require_id(image, "id", f"{gt_json}: images")
        where = f"{gt_json}: image {image_id}"
        if image_id in records:
            raise ValueError(f"{where}: listed twice in `images`")
        height, width = (
            side(require_key(image, key, where), f"{where}: `{key}`") for key in ("height", "width")
        )
        size = (height, width)
        records[image_id] = {"size": size, "truth": [], "predictions": []}
    found = read_json(pred_json)
    found = found if isinstance(found, list) else require_list(found, "annotations", pred_json)
    sized_by_box = all(isinstance(entry, dict) and entry.get("bbox") for entry in found)
    entries = [
        (gt_json, n, entry) for n, entry in enumerate(require_list(content, "annotations", gt_json))
    ]
    entries += [(pred_json, n, entry) for n, entry in enumerate(found)]
    for file, number, entry in progress(entries):
        image_id = require_id(entry, "image_id", f"{file}: annotation {number}")
        where = f"{file}: image {image_id}, annotation {number}"
        if image_id not in records:
            raise ValueError(f"{where}: the image is not listed in `images` of {gt_json}")
        record = records[image_id]
        annotation = _shape(entry, iou_type, record["size"], where)
        annotation["category_id"] = _class_of(entry, index, where)
        if file is gt_json:
            annotation["area"] = require_number(
                entry.get("area", annotation["area"]), f"{where}: `area`"
            )
            annotation["iscrowd"] = int(flag(entry.get("iscrowd"), f"{where}: `iscrowd`"))
            record["truth"].append(annotation)
        else:
            if sized_by_box:
                annotation["area"] = _box(entry, where)["area"]
            annotation["score"] = require_number(
                require_key(entry, "score", where), f"{where}: `score`"
            )
            record["predictions"].append(annotation)
    metric.merge({"images": records})
    return metric.compute()


def _category_index(content: Any, file: Path) -> dict[int | str, int]:
    """Class index by category id."""
    categories = require_list(content, "categories", file)
    index: dict[int | str, int] = {}
    for category in categories:
        category_id = require_id(category, "id", f"{file}: categories")
        if not isinstance(require_key(category, "name", f"{file}: category {category_id}"), str):
            raise ValueError(f"{file}: category {category_id}: 'name' must be a word")
        if category_id in index:
            raise ValueError(f"{file}: category {category_id} is listed twice in `categories`")
        index[category_id] = len(index)
    if not index:
        raise ValueError(f"{file}: `categories` is empty")
    return index


def _class_of(entry: Any, index: dict[int | str, int], where: str) -> int:
    category_id = require_id(entry, "category_id", where)
    if category_id not in index:
        raise ValueError(f"{where}: category id {category_id} is not in `categories` of the truth")
    return index[category_id]


def _by_image(annotations: Sequence[Any], file: Path) -> dict[ImageId, Any]:
    by_image: dict[ImageId, Any] = {}
    for annotation in annotations:
        image_id = require_id(annotation, "image_id", f"{file}: annotations")
        if image_id in by_image:
            raise ValueError(
                f"{file}: image {image_id} has two annotations; panoptic format has one"
            )
        by_image[image_id] = annotation
    return by_image


def _require_same_images(
    truth: dict[ImageId, Any], predictions: dict[ImageId, Any], gt_json: Path, pred_json: Path
) -> None:
    for image_id in truth:
        if image_id not in predictions:
            raise ValueError(f"{pred_json}: image {image_id} of {gt_json} has no prediction")
    for image_id in predictions:
        if image_id not in truth:
            raise ValueError(f"{pred_json}: image {image_id} is not in {gt_json}")


def _panoptic_map(
    annotation: Any, folder: Path, index: dict[int | str, int], where: str
) -> tuple[Path, NDArray[np.integer], list[dict[str, Any]]]:
    """Path of the PNG, its segment ids [H, W], and its segments as `panoptic_counts` takes them."""
    path = inside(folder, require_key(annotation, "file_name", where), where)
    listed: dict[int | str, dict[str, Any]] = {}
    for info in require_list(annotation, "segments_info", where):
        segment_id = require_id(info, "id", where)
        if not isinstance(segment_id, int) or segment_id <= 0 or segment_id in listed:
            raise ValueError(
                f"{where}: segment ids must be unique and above 0 (void), not {segment_id!r}"
            )
        label_id = _class_of(info, index, f"{where}, segment {segment_id}")
        is_crowd = flag(info.get("iscrowd"), f"{where}, segment {segment_id}: `iscrowd`")
        listed[segment_id] = {"id": segment_id, "label_id": label_id, "iscrowd": int(is_crowd)}
    try:
        ids = read_segment_ids(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, the PNG of {where}") from error
    segments = list(listed.values())
    unlisted = unlisted_ids(ids, [*segments, {"id": 0}])
    if unlisted:
        raise ValueError(f"{path}: segment ids {unlisted} are not in `segments_info` of {where}")
    return path, ids, segments


def _require_same_size(
    pred_path: Path, pred: NDArray[Any], true_path: Path, true: NDArray[Any]
) -> None:
    if pred.shape != true.shape:
        raise ValueError(
            f"{pred_path} is {pred.shape[0]} x {pred.shape[1]} pixels (height x width), "
            f"but the truth {true_path} is {true.shape[0]} x {true.shape[1]}"
        )


def _pngs(folder: Path) -> dict[str, Path]:
    """The PNGs below `folder`, by relative path."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*.png")
        if path.is_file()
    }


def _box(entry: Any, where: str) -> dict[str, Any]:
    """`bbox`, and its `area`."""
    box = require_list(entry, "bbox", where)
    if (
        len(box) != 4
        or min(numbers := [require_number(value, f"{where}: `bbox`") for value in box][2:]) < 0
    ):
        raise ValueError(
            f"{where}: `bbox` must be [x, y, width, height] with width, height >= 0, not {box}"
        )
    return {"bbox": [float(value) for value in box], "area": numbers[0] * numbers[1]}


def _shape(entry: Any, iou_type: IouType, size: tuple[int, int], where: str) -> dict[str, Any]:
    """`segmentation` as RLE or `bbox`, and its `area`."""
    if iou_type == "bbox":
        return _box(entry, where)
    segmentation = require_key(entry, "segmentation", where)
    if isinstance(segmentation, list):
        if not segmentation or any(
            not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2
            for polygon in segmentation
        ):
            raise ValueError(
                f"{where}: a segmentation needs polygons of 3 or more points [x1, y1, x2, y2, ...]"
            )
        polygons = [
            [require_number(value, f"{where}: `segmentation`") for value in polygon]
            for polygon in segmentation
        ]
        segmentation = polygons_to_rle(polygons, size)
    return mask_annotations([segmentation], 1, size, f"{where}: `segmentation`")[0]
