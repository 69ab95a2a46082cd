"""The ready configs of published benchmarks, on tiny files in their layouts: never the data itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import rgb_of, save, write_json
from checkpoint_models import checkpoint_model, checkpoint_processor
from example_scripts import EXAMPLES, main_of
from noisy_truth import NoisyTruth

from dataseg_hf.checkpoint import save_checkpoint
from dataseg_hf.evaluation.export import Exporter
from dataseg_hf.evaluation.inference import Inference
from dataseg_hf.evaluation.run import evaluation_set
from dataseg_hf.evaluation.scoring import Processes, SetResult, score
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.metrics.files import score_instances, score_panoptic
from dataseg_hf.run_config import ConfigError

CONFIGS = EXAMPLES / "configs"
SIDE = 64


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def objects365(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images as the authors' file lists them: polygons beside boxes, file names that begin with no folder."""
    monkeypatch.setenv("OBJECTS365", str(tmp_path))
    images, annotations = [], []
    for number, (image_id, version) in enumerate([(215264, 1), (908726, 2)]):
        name = f"patch{4 + number}/objects365_v{version}_{image_id:08d}.jpg"
        save(tmp_path / "val" / name, noise(number))
        images.append({"id": image_id, "file_name": f"images/v{version}/{name}", "height": SIDE, "width": SIDE,
                       "license": 5, "url": ""})  # fmt: skip
        for place, (category, x, y, w, h) in enumerate([(1, 4, 4, 20, 30), (93, 10, 10, 40, 40), (365, 50, 2, 8, 8)]):
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append({
                "id": 10 * number + place + 1, "image_id": image_id, "category_id": category, "iscrowd": 0,
                "bbox": [x, y, w, h], "area": w * h, "segmentation": [polygon],
            })  # fmt: skip
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 366)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(tmp_path / "o365_instance_seg_val.json", content)
    return tmp_path


@pytest.fixture
def ade20k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images as Mask2Former's preparation leaves them: ids are words, category ids one less than in the PNGs."""
    monkeypatch.setenv("ADE20K", str(tmp_path))
    (tmp_path / "ade20k_panoptic_val").mkdir()
    images, annotations = [], []
    for number in (1, 2):
        name = f"ADE_val_{number:08d}"
        save(tmp_path / f"images/validation/{name}.jpg", noise(number))
        ids = np.full((SIDE, SIDE), 7 + 256 * 300)  # wall
        ids[:20], ids[30:50, 5:20], ids[30:50, 30:45], ids[60:] = 12, 500, 501, 0  # sky, two beds, void
        save(tmp_path / f"ade20k_panoptic_val/{name}.png", rgb_of(ids))
        infos = [(7 + 256 * 300, 0), (12, 2), (500, 7), (501, 7)]
        images.append({"id": name, "file_name": f"{name}.jpg", "height": SIDE, "width": SIDE})
        annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": [
            {"id": i, "category_id": c, "iscrowd": 0, "area": int((ids == i).sum()), "bbox": [0, 0, 1, 1]}
            for i, c in infos]})  # fmt: skip
    categories = [{"id": number, "name": f"class {number}", "isthing": 0} for number in range(150)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(tmp_path / "ade20k_panoptic_val.json", content)
    return tmp_path


def score_of_the_truth(config: str, name: str, noise: float = 0.0, export: Path | None = None) -> SetResult:
    """What the truth, disturbed or not, gets through a config; small, so that its masks need no resizing."""
    overrides = [f"--evaluation.{name}.image_size", str(SIDE), f"--evaluation.{name}.batch_size", "2"]
    settings = read_held_out(str(CONFIGS / config), overrides)
    chosen = evaluation_set(name, settings.evaluation[name], EvaluationOptions("m"), settings, checkpoint_model())
    model: Any = NoisyTruth(chosen, 0.5, 0.25, noise)
    exporter = None if export is None else Exporter(export, chosen)
    return score(model, chosen, Inference([0.5] * 3, [0.25] * 3), Processes(), exporter=exporter)


def test_objects365_truth_scores_one(objects365: Path) -> None:
    result = score_of_the_truth("objects365_instances.yaml", "objects365_instances")
    assert result.images == 2
    assert len(result.labels) == 365
    values = result.values()
    assert (values["mask_ap"], values["box_ap"]) == pytest.approx((1, 1))
    per_class = result.metrics["mask_ap"]["per_class"]
    assert {label for label, row in per_class.items() if row["ap"] == pytest.approx(1)} == {
        "person", "dog", "table tennis"
    }  # fmt: skip


def test_ade20k_truth_scores_one(ade20k: Path) -> None:
    result = score_of_the_truth("ade20k_weak_panoptic.yaml", "ade20k_weak_panoptic")
    values = result.values()
    assert (values["pq"], values["pq_things"], values["pq_stuff"]) == pytest.approx((1, 1, 1))
    assert (values["miou"], values["mask_ap"]) == pytest.approx((1, 1))
    per_class = result.metrics["pq"]["per_class"]
    assert {label: row["tp"] for label, row in per_class.items() if row["tp"]} == {"wall": 2, "sky": 2, "bed": 4}


def test_exported_predictions_fit_the_original_files(objects365: Path, ade20k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = score_of_the_truth("objects365_instances.yaml", "objects365_instances", 0.6, out)
    original = objects365 / "o365_instance_seg_val.json"
    for iou_type, metric in (("segm", "mask_ap"), ("bbox", "box_ap")):
        scores = score_instances(original, out / "instances/predictions.json", iou_type)  # type: ignore[arg-type]
        for key in ("ap", "ap50", "ap75"):
            assert scores[key] == result.metrics[metric][key]  # type: ignore[index]
        assert 0 < scores["ap"] < 1
    result = score_of_the_truth("ade20k_weak_panoptic.yaml", "ade20k_weak_panoptic", 0.6, out)
    original = ade20k / "ade20k_panoptic_val.json"
    predictions = {"pred_json": out / "panoptic/predictions.json", "pred_dir": out / "panoptic/predictions"}
    scores = score_panoptic(original, ade20k / "ade20k_panoptic_val", **predictions)
    assert [scores[key] for key in ("pq", "sq", "rq")] == [result.metrics["pq"][key] for key in ("pq", "sq", "rq")]
    assert 0 < scores["pq"] < 1


@pytest.mark.parametrize(
    ("config", "name", "keys"),
    [("objects365_instances.yaml", "objects365_instances", {"mask_ap", "box_ap50"}),
     ("ade20k_weak_panoptic.yaml", "ade20k_weak_panoptic", {"pq", "pq_things", "miou", "mask_ap"})],
)  # fmt: skip
def test_the_command_runs_them(
    objects365: Path,
    ade20k: Path,
    config: str,
    name: str,
    keys: set[str],
    tmp_path: Path,
) -> None:
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--config", str(CONFIGS / config), "--output_dir",
                 str(tmp_path / "out"), f"--evaluation.{name}.image_size", str(SIDE), "--flip", "--export"]  # fmt: skip
    assert main_of("evaluate")(arguments) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {f"{name}/{key}" for key in keys} <= results["results"].keys()
    assert len(results["images"][name]) == 2


@pytest.mark.parametrize("config", ["objects365_instances.yaml", "ade20k_weak_panoptic.yaml"])
def test_without_the_data_the_variable_is_named(config: str) -> None:
    settings = read_held_out(str(CONFIGS / config))
    ((name, entry),) = settings.evaluation.items()
    with pytest.raises(ConfigError, match=rf"^evaluation\.{name}\.images: .* names an environment variable"):
        evaluation_set(name, entry, EvaluationOptions("m"), settings, checkpoint_model())
