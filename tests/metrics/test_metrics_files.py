"""`python -m dataseg_hf.metrics` on files: the numbers of the library, published numbers, errors by
file and image.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.sample import Segments
from dataseg_hf.metrics import MeanIoU, PanopticQuality, instances_from_segments, semantic_map
from dataseg_hf.metrics.__main__ import main
from helpers.annotation_files import encoded
from helpers.metric_cases import (
    IS_THING,
    LABELS,
    data_folder,
    listed,
    new_metrics,
    published,
    random_images,
    rle_of,
)

CATEGORIES = [
    {"id": 10 * (c + 1), "name": LABELS[c], "isthing": int(IS_THING[c])} for c in range(4)
]
FIRST_ID = 70_000  # of the segments; above what two bytes hold


def write_rgb(path, ids):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def panoptic(tmp_path):
    """Options of a panoptic command on five images, and the metric that the library gives for
    them.
    """
    metric = PanopticQuality(LABELS, IS_THING)
    content = {"gt": [], "pred": []}
    for image_id, truth, pred_map, labels, _ in random_images(1, 5):
        metric.update(pred_map, listed(labels), truth)
        for side, ids, infos in (
            ("gt", truth.segment_map, enumerate(truth.class_labels.tolist())),
            ("pred", pred_map, labels.items()),
        ):
            name = f"{side}/{image_id}.png"
            write_rgb(tmp_path / side / name, np.where(ids >= 0, ids + FIRST_ID, 0))
            segments_info = [
                {"id": i + FIRST_ID, "category_id": CATEGORIES[label]["id"]} for i, label in infos
            ]
            if side == "gt":
                for info, crowd in zip(segments_info, truth.is_crowd, strict=True):
                    info["iscrowd"] = int(crowd)
            content[side].append(
                {"image_id": image_id, "file_name": name, "segments_info": segments_info}
            )
    gt_json = write_json(
        tmp_path / "gt.json", {"categories": CATEGORIES, "annotations": content["gt"]}
    )
    pred_json = write_json(tmp_path / "pred.json", {"annotations": content["pred"][::-1]})
    options = {
        "gt-json": gt_json,
        "gt-dir": tmp_path / "gt",
        "pred-json": pred_json,
        "pred-dir": tmp_path / "pred",
    }
    return options, metric


@pytest.fixture
def semantic(tmp_path):
    metric = MeanIoU([str(label) for label in range(4)])
    for image_id, truth, pred_map, *_ in random_images(2, 5):
        predicted = semantic_map(Segments(pred_map, truth.class_labels, truth.is_crowd))
        metric.update(predicted, semantic_map(truth))
        for side, ids in (("gt", semantic_map(truth)), ("pred", predicted)):
            path = tmp_path / side / f"town/{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(ids < 0, 255, ids).astype(np.uint8)).save(path)
    return {
        "gt-dir": tmp_path / "gt",
        "pred-dir": tmp_path / "pred",
        "num-classes": 4,
        "ignore-index": 255,
    }, metric


@pytest.fixture
def instance(tmp_path):
    metric = new_metrics()["ap"]
    images, annotations, results = [], [], []
    for image_id, truth, pred_map, _, predictions in random_images(3, 5):
        true = instances_from_segments(truth, [True] * 4)
        metric.update(predictions, true, pred_map.shape, image_id)
        images.append({"id": image_id, "height": 12, "width": 16})
        for mask, label, crowd in zip(true.masks, true.class_labels, true.is_crowd, strict=True):
            annotation = {
                "image_id": image_id,
                "category_id": CATEGORIES[label]["id"],
                "iscrowd": int(crowd),
            }
            annotations.append(
                annotation | {"segmentation": text(rle_of(mask)), "area": int(mask.sum())}
            )
        for mask, label, score in zip(
            *(predictions[key] for key in ("masks", "label_ids", "scores")), strict=True
        ):
            result = {"image_id": image_id, "category_id": CATEGORIES[label]["id"], "score": score}
            results.append(result | {"segmentation": text(rle_of(mask))})
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    files = {"gt-json": write_json(tmp_path / "gt.json", content)}
    return files | {
        "pred-json": write_json(tmp_path / "pred.json", results),
        "iou-type": "segm",
    }, metric


def text(rle):
    return rle | {"counts": rle["counts"].decode()}


def arguments(task, options):
    named = {f"--{key.replace('-', '_')}": str(value) for key, value in options.items()}
    return [task, *(part for option in named.items() for part in option)]


def scored(capsys, task, options):
    assert main([*arguments(task, options), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def without_nan(result):
    if isinstance(result, dict):
        return {key: without_nan(value) for key, value in result.items()}
    return None if result != result else result


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_files_give_the_numbers_of_the_library(task, request, capsys):
    options, metric = request.getfixturevalue(task)
    result = scored(capsys, task, options)
    assert result == without_nan(metric.compute())
    keys = {
        "panoptic": "pq sq rq pq_things pq_stuff per_class",
        "semantic": "miou fwiou pixel_acc mean_acc per_class",
        "instance": "ap ap50 ap75 ap_small ap_medium ap_large per_class",
    }
    assert set(keys[task].split()) <= result.keys()


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_the_table_has_totals_and_classes(task, request, capsys):
    options, metric = request.getfixturevalue(task)
    assert main(arguments(task, options)) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    result = metric.compute()
    first = next(iter(result))
    assert lines[0] == [first, f"{result[first]:.4f}"]
    assert [line[0] for line in lines[-4:]] == list(result["per_class"])


def test_published_box_ap_through_the_command_line(capsys):
    folder, numbers = data_folder() / "metric_fixtures/coco_bbox100", published("coco_bbox100")
    files = {
        "gt-json": folder / "sampled_gts_bbox_area.json",
        "pred-json": folder / "sampled_bbox_results.json",
    }
    result = scored(capsys, "instance", files | {"iou-type": "bbox"})
    names = {
        "ap": "AP",
        "ap50": "AP50",
        "ap75": "AP75",
        "ap_small": "APs",
        "ap_medium": "APm",
        "ap_large": "APl",
    }
    names |= {
        "ar1": "AR1",
        "ar10": "AR10",
        "ar100": "AR100",
        "ar_small": "ARs",
        "ar_medium": "ARm",
        "ar_large": "ARl",
    }
    assert {theirs: round(result[ours], 6) for ours, theirs in names.items()} == {
        k: numbers[k] for k in names.values()
    }


def test_published_miou_through_the_command_line(capsys):
    folder, numbers = data_folder() / "metric_fixtures/bdd_sem_seg", published("bdd_sem_seg")
    result = scored(
        capsys, "semantic", {"gt-dir": folder / "gt", "pred-dir": folder / "pred", "num-classes": 3}
    )
    for ours, theirs in (("miou", "mIoU"), ("fwiou", "fIoU"), ("pixel_acc", "pAcc")):
        assert 100 * result[ours] == pytest.approx(numbers[theirs], abs=1e-12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@pytest.mark.parametrize("shapes", [["segmentation"], ["bbox"], ["segmentation", "bbox"]])
def test_photographs_with_polygons_and_crowds_equal_pycocotools(shapes, tmp_path, capsys):
    """COCO's own file, areas of its polygons included, through pycocotools' own route: COCO(file),
    loadRes.
    """
    from pycocotools.coco import COCO

    iou_type = "segm" if "segmentation" in shapes else "bbox"
    content = json.loads((data_folder() / "coco128/instances_train2017_first128.json").read_text())
    crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
    content["images"] = sorted(
        content["images"], key=lambda im: (im["id"] not in crowded, im["id"])
    )[:12]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    rng, results = np.random.default_rng(0), []
    for annotation in content["annotations"]:
        shift = rng.integers(-4, 5, 2)
        mask = np.roll(truth.annToMask(annotation).astype(bool), shift, axis=(0, 1))
        x, y, width, height = annotation["bbox"]
        result = {"image_id": annotation["image_id"], "category_id": annotation["category_id"]}
        result |= {"score": float(rng.integers(0, 20) / 20)}
        result |= (
            {"bbox": [x + float(shift[1]), y + float(shift[0]), width, height]}
            if "bbox" in shapes
            else {}
        )
        results.append(
            result | ({"segmentation": text(rle_of(mask))} if iou_type == "segm" else {})
        )
    if len(shapes) == 2:  # boxes that say another size than their masks, of hits and of misses
        results += [{**r, "score": r["score"] / 2} for r in results]
        results = [
            {**r, "bbox": [*r["bbox"][:2], *rng.uniform(1, 150, 2).tolist()]} for r in results
        ]
    files = {"gt-json": write_json(tmp_path / "gt.json", content)}
    files |= {"pred-json": write_json(tmp_path / "pred.json", results)}
    capsys.readouterr()  # what pycocotools said
    ours = scored(capsys, "instance", files | {"iou-type": iou_type})
    assert totals(ours) == pytest.approx(by_pycocotools(files, iou_type), abs=1e-9)
    assert 0.05 < ours["ap"] < 0.9
    # where one result has no box, pycocotools ends in a KeyError; here all go by their masks
    if len(shapes) == 2:
        capsys.readouterr()
        by_mask = scored(capsys, "instance", without_boxes(files, results, len(results), tmp_path))
        one_missing = scored(capsys, "instance", without_boxes(files, results, 1, tmp_path))
        assert one_missing == by_mask
        assert totals(by_mask)[3:6] != pytest.approx(totals(ours)[3:6], abs=1e-3)


def totals(result):
    return [-1.0 if value is None else value for key, value in result.items() if key != "per_class"]


def by_pycocotools(files, iou_type, max_dets=100):
    """Its twelve numbers, and those of its array where `summarize` looks for 100 predictions
    alone.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(files["gt-json"]))
    evaluation = COCOeval(truth, truth.loadRes(str(files["pred-json"])), iou_type)
    evaluation.params.maxDets = [1, 10, max_dets]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"][..., 0, 2]
    return [precision[precision > -1].mean(), *evaluation.stats[1:].tolist()]


def without_boxes(files, results, count, folder):
    """The files with the boxes of the first results taken out."""
    cut = [
        {k: v for k, v in r.items() if k != "bbox"} if n < count else r
        for n, r in enumerate(results)
    ]
    return {"gt-json": files["gt-json"], "pred-json": write_json(folder / f"{count}.json", cut)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@pytest.mark.parametrize("max_dets", [11, 100, 250, 1000])
def test_more_than_100_predictions_equal_pycocotools(max_dets, tmp_path, capsys):
    """Fields of 270 cells of two classes in two images, found with noise, and as many cells where
    there are none.
    """
    rng = np.random.default_rng(0)
    truth, results = [], []
    for image_id in (1, 2):
        for k in range(270):
            box = [5 + 22 * (k % 18), 5 + 22 * (k // 18), *rng.uniform(8, 16, 2).tolist()]
            category = {"image_id": image_id, "category_id": 1 + k % 2}
            truth.append(
                {
                    **category,
                    "id": len(truth) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
            seen = [
                value + shift
                for value, shift in zip(box, rng.normal(0, 1, 4).tolist(), strict=True)
            ]
            lost = [box[0] + 11, box[1] + 11, 10.0, 10.0]
            results += [{**category, "bbox": b, "score": float(rng.random())} for b in (seen, lost)]
    images = [{"id": i, "file_name": f"{i}.png", "height": 400, "width": 400} for i in (1, 2)]
    content = {
        "images": images,
        "annotations": truth,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    files = {"gt-json": write_json(tmp_path / "gt.json", content)}
    files |= {"pred-json": write_json(tmp_path / "pred.json", results)}
    ours = scored(capsys, "instance", files | {"iou-type": "bbox", "max-dets": str(max_dets)})
    assert totals(ours) == pytest.approx(by_pycocotools(files, "bbox", max_dets), abs=1e-9)
    assert list(ours)[6:9] == ["ar1", "ar10", f"ar{max_dets}"]
    assert (ours[f"ar{max_dets}"] > 0.4) == (max_dets > 100)


def test_limits_of_10_and_below_are_refused(instance, capsys):
    assert main(arguments("instance", instance[0] | {"max-dets": "10"})) == 2
    assert "max_dets: must be above 10, not 10" in capsys.readouterr().err


def edited(path, change):
    content = json.loads(path.read_text())
    write_json(path, change(content) or content)


def first(content):
    return content["annotations"][0]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("gt-json", lambda c: c.pop("categories"), "gt.json: key 'categories' is missing"),
        (
            "gt-json",
            lambda c: first(c).pop("file_name"),
            "gt.json: image 0: key 'file_name' is missing",
        ),
        (
            "gt-json",
            lambda c: c["annotations"].append(first(c)),
            "gt.json: image 0 has two annotations",
        ),
        (
            "gt-json",
            lambda c: c["categories"].append(c["categories"][0]),
            "category 10 is listed twice",
        ),
        ("gt-json", lambda c: c["annotations"].pop(0), "image 0 is not in"),
        (
            "gt-json",
            lambda c: first(c).update(image_id=[1]),
            "'image_id' must be a whole number or a word",
        ),
        ("pred-json", lambda c: c["annotations"].pop(), "pred.json: image 0 of"),
        (
            "pred-json",
            lambda c: first(c).update(file_name="../x.png"),
            "image 4: file name '../x.png' must be a relative",
        ),
        (
            "pred-json",
            lambda c: first(c).update(file_name="pred/9.png"),
            "pred/pred/9.png: no such file, the PNG of",
        ),
        (
            "pred-json",
            lambda c: first(c)["segments_info"][0].update(category_id=77),
            "image 4, segment 70000: category id 77 is not in `categories` of the truth",
        ),
        (
            "pred-json",
            lambda c: first(c)["segments_info"].pop(0),
            "pred/4.png: segment ids [70000] are not in",
        ),
        (
            "pred-json",
            lambda c: first(c)["segments_info"].append({"id": 5, "category_id": 10}),
            "pred/4.png: image 4: pred_segments: segment 5 has no pixel",
        ),
        (
            "pred-json",
            lambda c: first(c)["segments_info"][0].update(id=0),
            "unique and above 0 (void), not 0",
        ),
    ],
)
def test_panoptic_errors_name_file_and_image(panoptic, capsys, file, change, message):
    options, _ = panoptic
    edited(options[file], lambda content: change(content) and None)
    assert_refused(capsys, "panoptic", options, message)


def assert_refused(capsys, task, options, message):
    assert main([*arguments(task, options), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_png_errors_name_the_file(panoptic, capsys):
    options, _ = panoptic
    path = options["pred-dir"] / "pred/0.png"
    for content, message in (
        (
            Image.new("RGB", (16, 11)),
            "pred/pred/0.png is 11 x 16 pixels (height x width), but the truth",
        ),
        (Image.new("L", (16, 12)), "pred/pred/0.png: a panoptic PNG is RGB"),
        (b"no image", "pred/pred/0.png: cannot be read as an image"),
        (encoded(np.zeros((12, 16, 3), np.uint8), "JPEG"), "pred/pred/0.png: JPEG changes ids"),
    ):
        path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
        if message.startswith("pred/pred/0.png is"):
            edited(options["pred-json"], lambda c: c["annotations"][-1].update(segments_info=[]))
        assert_refused(capsys, "panoptic", options, message)


def test_semantic_errors_name_the_file(semantic, capsys):
    options, _ = semantic
    assert_refused(
        capsys, "semantic", options | {"num-classes": 0}, "num_classes: must be 1 or more"
    )
    assert_refused(
        capsys,
        "semantic",
        options | {"num-classes": 2},
        "is neither a class (0..1) nor the ignored 255",
    )
    assert_refused(capsys, "semantic", options | {"gt-dir": "nowhere"}, "nowhere: no such folder")
    path = options["pred-dir"] / "town/3.png"
    Image.new("L", (12, 12)).save(path)
    assert_refused(capsys, "semantic", options, "pred/town/3.png is 12 x 12 pixels")
    Image.new("RGB", (16, 12)).save(path)
    assert_refused(capsys, "semantic", options, "pred/town/3.png: expected one id per pixel")
    Image.new("LA", (16, 12)).save(path)
    assert_refused(capsys, "semantic", options, "pred/town/3.png: expected one id per pixel")
    path.rename(path.with_name("9.png"))
    assert_refused(capsys, "semantic", options, "pred/town/3.png: no such file, the prediction for")
    path.with_name("9.png").rename(path)
    (options["gt-dir"] / "town/3.png").unlink()
    assert_refused(capsys, "semantic", options, "pred/town/3.png: a prediction without truth")


def test_numbers_and_flags_as_text_and_a_byte_order_mark_change_no_score(instance, capsys):
    options, _ = instance
    expected = scored(capsys, "instance", options)
    content = json.loads(options["gt-json"].read_text())
    for image in content["images"]:
        image |= {
            "id": str(image["id"]),
            "height": float(image["height"]),
            "width": str(image["width"]),
        }
    for annotation in content["annotations"]:
        annotation |= {
            "image_id": float(annotation["image_id"]),
            "iscrowd": str(annotation["iscrowd"]),
        }
    options["gt-json"].write_text(json.dumps(content), encoding="utf-8-sig")
    options["pred-json"].write_text(options["pred-json"].read_text(), encoding="utf-16")
    assert scored(capsys, "instance", options) == expected


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "pred-json",
            lambda c: c[0].update(image_id=99),
            "pred.json: image 99, annotation 0: the image is not listed",
        ),
        (
            "pred-json",
            lambda c: c[1].update(category_id=5),
            "annotation 1: category id 5 is not in `categories`",
        ),
        (
            "pred-json",
            lambda c: c[0].update(score="high"),
            "`score` must be finite numbers, not 'high'",
        ),
        ("pred-json", lambda c: c[0].pop("score"), "annotation 0: key 'score' is missing"),
        (
            "pred-json",
            lambda c: c[0]["segmentation"].update(size=[3, 3]),
            "RLE of size (3, 3), the image is (12, 16)",
        ),
        (
            "pred-json",
            lambda c: c[0]["segmentation"].update(counts="0"),
            "run lengths add up to 0 pixels",
        ),
        (
            "pred-json",
            lambda c: c[0].update(segmentation=[[1, 2, 3]]),
            "polygons of 3 or more points",
        ),
        ("pred-json", lambda c: c[0].update(segmentation="mask"), "expected an RLE"),
        ("gt-json", lambda c: c["images"].append(c["images"][0]), "gt.json: image 0: listed twice"),
        (
            "gt-json",
            lambda c: c["images"][0].update(height=0),
            "image 0: `height`: 0 pixels are no size",
        ),
        (
            "gt-json",
            lambda c: c["annotations"][0].update(area=None),
            "`area` must be finite numbers",
        ),
    ],
)
def test_instance_errors_name_file_and_image(instance, capsys, file, change, message):
    options, _ = instance
    edited(options[file], lambda content: change(content) and None)
    assert_refused(capsys, "instance", options, message)


def test_box_errors_name_file_and_image(instance, capsys):
    options, _ = instance
    edited(options["gt-json"], lambda c: c.update(annotations=[]))
    for box, message in (
        ([0, 0, 1], "must be [x, y"),
        ([0, 0, -1, 2], "must be [x, y"),
        ([0, 0, 1, None], "not None"),
    ):
        edited(options["pred-json"], lambda c, box=box: c[0].update(bbox=box))
        assert_refused(capsys, "instance", options | {"iou-type": "bbox"}, message)
    assert_refused(capsys, "instance", options | {"pred-json": "no.json"}, "no.json: no such file")


@pytest.mark.slow
def test_the_module_runs_as_a_command(semantic):
    options, metric = semantic
    command = [sys.executable, "-m", "dataseg_hf.metrics"]
    done = subprocess.run(
        [*command, *arguments("semantic", options), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["miou"] == metric.compute()["miou"]
    done = subprocess.run([*command, "semantic", "--gt_dir", "x"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--pred_dir" in done.stderr
