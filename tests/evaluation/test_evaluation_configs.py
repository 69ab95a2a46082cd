"""The ready configs of published benchmarks, on tiny files in their layouts: never the data
itself.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from dataseg_hf.data.collate import Normalization
from dataseg_hf.errors import ConfigError
from dataseg_hf.evaluation.export import Exporter
from dataseg_hf.evaluation.inference import Inference
from dataseg_hf.evaluation.run import evaluation_set
from dataseg_hf.evaluation.scoring import Processes, SetResult, score
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.metrics.files import score_instances, score_panoptic
from dataseg_hf.settings.ready_configs import CONFIGS
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.benchmark_files import SIDE, write_ade20k, write_objects365
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.example_scripts import main_of
from helpers.noisy_truth import NoisyTruth

pytestmark = pytest.mark.slow


@pytest.fixture
def objects365(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBJECTS365", str(tmp_path))
    write_objects365(tmp_path)
    return tmp_path


@pytest.fixture
def ade20k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADE20K", str(tmp_path))
    write_ade20k(tmp_path)
    return tmp_path


def score_of_the_truth(
    config: str, name: str, noise: float = 0.0, export: Path | None = None
) -> SetResult:
    """What the truth, disturbed or not, gets through a config; small, so that its masks need no
    resizing.
    """
    overrides = [
        f"--evaluation.{name}.image_size",
        str(SIDE),
        f"--evaluation.{name}.batch_size",
        "2",
    ]
    settings = read_held_out(str(CONFIGS / config), overrides)
    eval_set = evaluation_set(
        name, settings.evaluation[name], EvaluationOptions("m"), settings, checkpoint_model()
    )
    model: Any = NoisyTruth(eval_set, 0.5, 0.25, noise)
    exporter = None if export is None else Exporter(export, eval_set)
    return score(
        model,
        eval_set,
        Inference(Normalization([0.5] * 3, [0.25] * 3)),
        Processes(),
        exporter=exporter,
    )


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
    assert {label: row["tp"] for label, row in per_class.items() if row["tp"]} == {
        "wall": 2,
        "sky": 2,
        "bed": 4,
    }


def test_exported_predictions_fit_the_original_files(
    objects365: Path, ade20k: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = score_of_the_truth("objects365_instances.yaml", "objects365_instances", 0.6, out)
    original = objects365 / "o365_instance_seg_val.json"
    for iou_type, metric in (("segm", "mask_ap"), ("bbox", "box_ap")):
        scores = score_instances(original, out / "instance/predictions.json", iou_type)  # type: ignore[arg-type]
        for key in ("ap", "ap50", "ap75"):
            assert scores[key] == result.metrics[metric][key]  # type: ignore[index]
        assert 0 < scores["ap"] < 1
    result = score_of_the_truth("ade20k_weak_panoptic.yaml", "ade20k_weak_panoptic", 0.6, out)
    original = ade20k / "ade20k_panoptic_val.json"
    predictions = {
        "pred_json": out / "panoptic/predictions.json",
        "pred_dir": out / "panoptic/predictions",
    }
    scores = score_panoptic(original, ade20k / "ade20k_panoptic_val", **predictions)
    assert [scores[key] for key in ("pq", "sq", "rq")] == [
        result.metrics["pq"][key] for key in ("pq", "sq", "rq")
    ]
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
    arguments = [
        "--model",
        str(tmp_path / "model"),
        "--config",
        str(CONFIGS / config),
        "--output_dir",
        str(tmp_path / "out"),
        f"--evaluation.{name}.image_size",
        str(SIDE),
        "--flip",
        "--export",
    ]
    assert main_of("evaluate")(arguments) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {f"{name}/{key}" for key in keys} <= results["results"].keys()
    assert len(results["images"][name]) == 2


@pytest.mark.parametrize("config", ["objects365_instances.yaml", "ade20k_weak_panoptic.yaml"])
def test_without_the_data_the_variable_is_named(config: str) -> None:
    settings = read_held_out(str(CONFIGS / config))
    ((name, entry),) = settings.evaluation.items()
    with pytest.raises(
        ConfigError, match=rf"^evaluation\.{name}\.images: .* names an environment variable"
    ):
        evaluation_set(name, entry, EvaluationOptions("m"), settings, checkpoint_model())
