"""Exported predictions score the same as in memory, by this package's command line and by
pycocotools.
"""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_evaluation import NORMALIZATION, held_out, only_boxes

from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.data.sample import BadSampleError, Instances, Sample, Segments
from dataseg_hf.evaluation import EvaluationSet
from dataseg_hf.evaluation.annotations import AnnotationSettings
from dataseg_hf.evaluation.export import Exporter, category_ids, ignore_index
from dataseg_hf.evaluation.inference import Inference
from dataseg_hf.evaluation.scoring import Processes, SetResult, score
from dataseg_hf.metrics.files import score_instances, score_panoptic, score_semantic
from dataseg_hf.prediction.annotation_files import ANNOTATION_FORMATS
from dataseg_hf.settings.run import ConfigError
from helpers.noisy_truth import NoisyTruth


def exported(chosen: EvaluationSet, folder: Path, noise: float = 0.6, **options: Any) -> SetResult:
    model: Any = NoisyTruth(chosen, 0.5, 0.25, noise)
    return score(
        model,
        chosen,
        Inference(NORMALIZATION),
        Processes(),
        exporter=Exporter(folder, chosen, **options),
    )


def crowded(chosen: EvaluationSet) -> EvaluationSet:
    """Every second segment or object a crowd, a corner void, ids that are numbers, categories
    numbered anew.
    """

    def load(row: int) -> Sample:
        sample = chosen.data.load(row)
        truth = sample.annotation
        crowd = np.arange(len(truth.class_labels)) % 2 == 1
        if isinstance(truth, Segments):
            segment_map = truth.segment_map.copy()
            segment_map[:9, :9] = -1
            changed: Any = Segments(segment_map, truth.class_labels, crowd)
        else:
            changed = Instances(truth.class_labels, truth.boxes, crowd, truth.masks)
        return replace(sample, annotation=changed, image_id=100 - row)

    spec = replace(
        chosen.data.spec, id_map={7 + 5 * i: i for i in range(len(chosen.data.spec.classes))}
    )
    return replace(chosen, data=replace(chosen.data, spec=spec, load=load))


@pytest.fixture(params=["plain", "crowded"])
def change(request: pytest.FixtureRequest) -> Any:
    return crowded if request.param == "crowded" else lambda chosen: chosen


def files(folder: Path) -> dict[str, Path]:
    return {"gt_json": folder / "truth.json", "pred_json": folder / "predictions.json"}


def test_panoptic_files_score_the_same(tmp_path: Path, change: Any) -> None:
    result = exported(change(held_out("shapes_panoptic", ["pq"], count=12)), tmp_path)
    folder = tmp_path / "panoptic"
    scores = score_panoptic(
        **files(folder), gt_dir=folder / "truth", pred_dir=folder / "predictions"
    )
    np.testing.assert_equal(scores, result.metrics["pq"])
    assert 0.1 < scores["pq"] < 0.9


def test_semantic_files_score_the_same(tmp_path: Path, change: Any) -> None:
    chosen = change(held_out("shapes_semantic", ["miou"], count=12))
    result = exported(chosen, tmp_path)
    folder = tmp_path / "semantic"
    scores = score_semantic(folder / "truth", folder / "predictions", len(result.labels), 255)
    per_class = scores.pop("per_class")
    expected = dict(result.metrics["miou"])
    np.testing.assert_equal(list(per_class.values()), list(expected.pop("per_class").values()))
    np.testing.assert_equal(scores, expected)
    assert 0.1 < scores["miou"] < 0.99


@pytest.mark.parametrize(("metric", "iou_type"), [("mask_ap", "segm"), ("box_ap", "bbox")])
@pytest.mark.parametrize("name", ["shapes_boxes", "shapes_panoptic"])
def test_instance_files_score_the_same(
    tmp_path: Path, change: Any, name: str, metric: Any, iou_type: Any
) -> None:
    result = exported(change(held_out(name, ["mask_ap", "box_ap"], count=12)), tmp_path)
    scores = score_instances(**files(tmp_path / "instance"), iou_type=iou_type)
    np.testing.assert_equal(scores, result.metrics[metric])
    assert 0.1 < scores["ap"] < 0.9
    np.testing.assert_allclose(
        by_pycocotools(tmp_path / "instance", iou_type), scores["ap"], atol=1e-9
    )


def by_pycocotools(folder: Path, iou_type: str) -> float:
    with redirect_stdout(StringIO()):
        truth = COCO(str(folder / "truth.json"))
        found = truth.loadRes(str(folder / "predictions.json"))
        evaluation = COCOeval(truth, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_truth_that_is_boxes_only_scores_the_same(tmp_path: Path) -> None:
    chosen = held_out("shapes_boxes", ["mask_ap"], count=12)
    model: Any = NoisyTruth(chosen, 0.5, 0.25, 0.6)
    boxes = replace(chosen, data=only_boxes(chosen.data), metrics=["box_ap"])
    result = score(
        model, boxes, Inference(NORMALIZATION), Processes(), exporter=Exporter(tmp_path, boxes)
    )
    scores = score_instances(**files(tmp_path / "instance"), iou_type="bbox")
    np.testing.assert_equal(scores, result.metrics["box_ap"])
    assert (
        "segmentation"
        not in json.loads((tmp_path / "instance/truth.json").read_text())["annotations"][0]
    )


# --- files for labeling tools

ALL_FORMATS = AnnotationSettings(ANNOTATION_FORMATS)


def objects(folder: Path) -> COCO:
    with redirect_stdout(StringIO()):
        return COCO(str(folder / "annotations/coco_instances.json"))


def test_panoptic_segments_as_annotations(tmp_path: Path) -> None:
    chosen = crowded(held_out("shapes_panoptic", ["pq"], count=3))
    exported(chosen, tmp_path, annotations=ALL_FORMATS)
    folder = tmp_path / "panoptic"
    index = objects(folder)
    listed = json.loads((folder / "predictions.json").read_text())
    assert index.dataset["images"] == listed["images"]
    assert index.dataset["categories"] == listed["categories"]
    assert not all(category["isthing"] for category in listed["categories"])
    for entry in listed["annotations"]:
        rgb = np.asarray(Image.open(folder / "predictions" / entry["file_name"])).astype(int)
        ids = rgb[:, :, 0] + 256 * rgb[:, :, 1]
        found = index.imgToAnns[entry["image_id"]]
        for annotation, info in zip(found, entry["segments_info"], strict=True):
            assert annotation["category_id"] == info["category_id"]
            assert np.array_equal(index.annToMask(annotation), ids == info["id"])
            assert chosen.threshold <= annotation["score"] <= 1
    assert sorted(path.name for path in (folder / "annotations/labelme").iterdir()) == [
        "100.json",
        "98.json",
        "99.json",
    ]


def test_semantic_maps_as_annotations(tmp_path: Path) -> None:
    chosen = held_out("shapes_semantic", ["miou"], count=2)
    exported(chosen, tmp_path, for_metrics=False, annotations=ALL_FORMATS)
    assert [path.name for path in (tmp_path / "semantic").iterdir()] == ["annotations"]
    index = objects(tmp_path / "semantic")
    for image in index.dataset["images"]:
        masks = [index.annToMask(annotation) for annotation in index.imgToAnns[image["id"]]]
        assert np.array_equal(sum(masks), np.ones((image["height"], image["width"])))
    assert "score" not in index.dataset["annotations"][0]


def test_instances_from_the_threshold_on_as_annotations(tmp_path: Path) -> None:
    chosen = replace(held_out("shapes_boxes", ["mask_ap"], count=3), threshold=0.8)
    exported(chosen, tmp_path, annotations=ALL_FORMATS)
    results = json.loads((tmp_path / "instance/predictions.json").read_text())
    sure = [result for result in results if result["score"] >= 0.8]
    annotations = objects(tmp_path / "instance").dataset["annotations"]
    assert len(results) > len(sure) == len(annotations) > 0
    for result, annotation in zip(sure, annotations, strict=True):
        assert (result["score"], result["category_id"]) == (
            annotation["score"],
            annotation["category_id"],
        )
        assert mask_utils.area(result["segmentation"]) == annotation["area"]


def test_annotations_name_the_image_file(tmp_path: Path) -> None:
    chosen = held_out("shapes_panoptic", ["pq"], count=1)
    sample = chosen.data[0]
    Image.fromarray(sample.image).save(tmp_path / "a.png")
    rows = Dataset.from_dict({"image": [str(tmp_path / "a.png")]})
    exported(
        replace(chosen, data=replace(chosen.data, rows=rows, load=lambda row: sample)),
        tmp_path / "out",
        annotations=ALL_FORMATS,
    )
    (file,) = (tmp_path / "out/panoptic/annotations/labelme").iterdir()
    assert (file.parent / json.loads(file.read_text())["imagePath"]).samefile(tmp_path / "a.png")


def test_names_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    chosen = held_out("shapes_panoptic", ["pq"], count=1)
    data = replace(
        chosen.data, load=lambda row: replace(chosen.data.load(row), file_name="a\1.png")
    )
    with pytest.raises(
        BadSampleError, match=r"cannot be exported: file name 'a.x01\.png' has the character"
    ):
        exported(
            replace(chosen, data=data),
            tmp_path / "a",
            annotations=AnnotationSettings(("cvat_xml",)),
        )
    classes = (replace(chosen.data.spec.classes[0], name="\1"), *chosen.data.spec.classes[1:])
    data = replace(chosen.data, spec=replace(chosen.data.spec, classes=classes))
    with pytest.raises(
        ConfigError, match=r"--annotations: shapes_panoptic: category name '.x01' has the character"
    ):
        exported(
            replace(chosen, data=data),
            tmp_path / "b",
            annotations=AnnotationSettings(("label_studio",)),
        )


def test_category_ids_are_the_datasets_own(tmp_path: Path) -> None:
    exported(crowded(held_out("shapes_panoptic", ["pq", "mask_ap"], count=2)), tmp_path)
    for kind in ("panoptic", "instance"):
        truth = json.loads((tmp_path / kind / "truth.json").read_text())
        assert [category["id"] for category in truth["categories"]] == [
            7 + 5 * i for i in range(12)
        ]
        assert [category["isthing"] for category in truth["categories"]] == [1] * 8 + [0] * 4
        assert [image["id"] for image in truth["images"]] == [100, 99]
    used = {
        entry["category_id"]
        for entry in json.loads((tmp_path / "instance/predictions.json").read_text())
    }
    assert used <= {7 + 5 * i for i in range(8)}


def test_categories_without_a_number_of_their_own_are_counted() -> None:
    assert category_ids(CATALOG["coco_panoptic"])[79:81] == [90, 92]
    assert category_ids(CATALOG["ade20k_panoptic"]) == list(range(150))
    assert category_ids(CATALOG["pascal_voc_boxes"]) == list(range(1, 21))  # words
    spec = CATALOG["camvid"]
    merged = replace(spec, id_map={**spec.id_map, 12: 3})  # two raw ids for one class
    assert category_ids(merged) == list(range(1, 12))


def test_many_classes_take_16_bits(tmp_path: Path) -> None:
    chosen = held_out("shapes_panoptic", ["miou"], count=1)
    assert ignore_index(chosen.data.spec) == 255
    spec = CATALOG["objects365_boxes"]
    assert ignore_index(spec) == 65535
    exporter = Exporter(
        tmp_path, replace(chosen, data=replace(chosen.data, spec=replace(spec, task="semantic")))
    )
    exporter._semantic("truth", chosen.data[0], np.array([[364, -1], [255, 0]]))
    values = np.asarray(Image.open(tmp_path / "semantic/truth/shapes_panoptic_eval_00000.png"))
    assert values.tolist() == [[364, 65535], [255, 0]]


def test_an_image_id_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    chosen = held_out("shapes_panoptic", ["pq"], count=1)
    data = replace(chosen.data, load=lambda row: replace(chosen.data.load(row), image_id="../a"))
    with pytest.raises(
        ValueError, match=r"image \.\./a: cannot be exported: file name '\.\./a\.png' must be"
    ):
        exported(replace(chosen, data=data), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_images_of_one_id_are_refused(tmp_path: Path) -> None:
    chosen = held_out("shapes_panoptic", ["pq"], count=2)
    data = replace(chosen.data, load=lambda row: replace(chosen.data.load(row), image_id="a"))
    with pytest.raises(
        ValueError, match=r"dataset 'shapes_panoptic': image ids \['a'\] occur twice"
    ):
        exported(replace(chosen, data=data), tmp_path)
