"""The linear probe: what it sees, what it learns from, and the command as users start it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from transformers.modeling_outputs import BackboneOutput

from dataseg_hf.commands.probe import main
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.sample import SampleDataset
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.evaluation import probe
from dataseg_hf.evaluation.probe import combinations, probe_vocabulary
from dataseg_hf.evaluation.probe_features import FeatureMaps, cell_counts, joined
from dataseg_hf.evaluation.probe_sets import probe_sets
from dataseg_hf.evaluation.ridge import NormalEquations
from dataseg_hf.metrics.semantic import semantic_map
from dataseg_hf.settings.run import RunConfig
from helpers.run_programs import SETTINGS, environment

CPU = torch.device("cpu")
EVALUATION = {
    name: {"spec": name, "reader": "shapes", "split": "eval", "count": 3, "image_size": 32}
    for name in ("shapes_panoptic", "shapes_semantic", "shapes_open")
}


def settings(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, "output_dir": "unused", "evaluation": EVALUATION, **changes}


class Colors(nn.Module):
    """A backbone whose features are the mean colors of cells of 1 and 4 pixels."""

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        return BackboneOutput(feature_maps=(pixel_values, F.avg_pool2d(pixel_values, 4)))


COLORS = FeatureMaps(Colors(), Normalization([0.5] * 3, [0.25] * 3), CPU)


# --- features and cells


def test_maps_are_known_by_their_stride_and_joined_at_the_finest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    maps, valid = COLORS.of(image, 7, canvas=16)
    assert COLORS.channels(16) == {1: 3, 4: 3}
    assert valid.tolist() == [0.5, 1.0]
    cells = joined([maps[1], maps[4]])
    assert cells.shape == (6, 16, 16)
    torch.testing.assert_close(cells[:3, 5, 9], (torch.from_numpy(image[5, 9]) / 255 - 0.5) / 0.25)
    coarse = cells[3:].reshape(3, 4, 4, 4, 4)[:, 1:-1, 1:3, 1:-1, 1:3].mean((2, 4))
    assert coarse.shape == (3, 2, 2)


def test_cells_count_the_labeled_pixels_of_each_class() -> None:
    class_map = np.random.default_rng(1).integers(-1, 3, (6, 8)).astype(np.int32)
    counts = cell_counts(class_map, classes=3, canvas=8, grid=(2, 2)).view(2, 2, 3)
    for row in range(2):
        for column in range(2):
            cell = class_map[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            found = Counter(cell[cell >= 0].tolist())
            assert counts[row, column].tolist() == [found[c] for c in range(3)]


def test_each_stride_is_probed_alone_and_joined_from_the_coarsest_on() -> None:
    assert combinations((4, 8, 16)) == [(4,), (8,), (16,), (8, 16), (4, 8, 16)]
    assert combinations((8,)) == [(8,)]


# --- what it reaches


def pixels_of(data: SampleDataset) -> tuple[np.ndarray, np.ndarray]:
    """Colors [n, 3] and classes [n] of all labeled pixels."""
    samples = [data[i] for i in range(len(data))]
    classes = np.concatenate([semantic_map(s.annotation).ravel() for s in samples])
    colors = np.concatenate([s.image.reshape(-1, 3) for s in samples]).astype(np.float64)
    return colors[classes >= 0], classes[classes >= 0]


def mean_iou_of_least_squares() -> float:
    """What numpy's least squares from the color of a pixel to its class reaches."""
    train, held_out = (
        pixels_of(shapes_dataset("shapes_panoptic", split, count=count, seed=0))
        for split, count in (("train", 12), ("eval", 4))
    )
    with_one = [np.c_[colors, np.ones(len(colors))] for colors, _ in (train, held_out)]
    solution, *_ = np.linalg.lstsq(with_one[0], np.eye(12)[train[1]], rcond=None)
    predicted = (with_one[1] @ solution).argmax(1)
    ious = []
    for c in set(predicted) | set(held_out[1]):
        union = ((predicted == c) | (held_out[1] == c)).sum()
        ious.append(((predicted == c) & (held_out[1] == c)).sum() / union)
    return float(np.mean(ious))


def test_a_probe_of_colors_reaches_what_least_squares_reaches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "STRENGTHS", (1e-9,))
    monkeypatch.setattr(probe, "BALANCES", (0.0,))
    monkeypatch.setattr(probe, "TRIALS", [(1e-9, 0.0)])
    shapes = {"spec": "shapes_panoptic", "reader": "shapes", "image_size": 64}
    config = RunConfig(
        **settings(
            datasets={"world": {**shapes, "count": 12}},
            evaluation={"world": {**shapes, "count": 4, "split": "eval"}},
        )
    )
    (group,) = probe_sets(config)
    (found,) = probe_vocabulary(group, COLORS, (1, 4), "raise")
    expected = mean_iou_of_least_squares()
    assert expected > 0.15  # colors alone tell much of this world
    assert found.scores[(1,)]["miou"] == pytest.approx(expected, abs=0.005)
    assert found.scores[(4,)]["miou"] != found.scores[(1,)]["miou"]
    assert sum(found.pixel_shares.values()) == pytest.approx(1)
    assert list(found.scores) == [(1,), (4,), (1, 4)]


def test_scores_are_divided_by_a_power_of_the_shares_of_pixels() -> None:
    rows = NormalEquations.empty(2, 3, CPU)
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([[1, 0, 0]] * 9 + [[0, 4, 0]] * 4)  # 9 pixels, 16, and none
    rows.add(torch.randn(13, 2, generator=generator), counts)
    solutions = dict(zip(probe.TRIALS, probe.trial_solutions(rows), strict=True))
    plain, half = solutions[(0.1, 0.0)], solutions[(0.1, 0.5)]
    factors = torch.tensor([5 / 3, 5 / 4, 0.0]).double()
    torch.testing.assert_close(half.weight, plain.weight * factors)
    torch.testing.assert_close(half.bias, plain.bias * factors)


def test_the_trial_with_the_best_mean_iou_is_taken() -> None:
    right = torch.cat([torch.eye(2), torch.zeros(2, 1)], dim=1).double()
    confusions = torch.stack([torch.zeros(2, 3).double(), right.flip(0), right, right.flip(0)])
    assert probe.best_trial(confusions, ["a", "b"]) == 2
    assert probe.best_trial(confusions[:1], ["a", "b"]) == 0


# --- the command


def written(folder: Path, content: dict[str, Any]) -> str:
    file = folder / "probe.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.mark.slow
def test_the_command_writes_a_report_beside_that_of_a_model(tmp_path: Path) -> None:
    labels = shapes_dataset("shapes_panoptic", "eval", count=1).spec.labels
    perfect = {"shapes_panoptic": {"miou": {label: {"iou": 1.0} for label in labels}}}
    scores = tmp_path / "results.json"
    scores.write_text(json.dumps({"per_class": perfect}))
    arguments = ["--config", written(tmp_path, settings()), "--strides", "2", "4"]
    arguments += ["--output_dir", str(tmp_path / "probe"), "--model", str(scores)]
    done = subprocess.run(
        [sys.executable, "-m", "dataseg_hf", "probe", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Left out datasets.shapes_boxes: a box per object" in done.stdout
    assert "Left out evaluation.shapes_open: no set of the mix has its names" in done.stdout
    assert "random weights (seed 1)" in done.stdout
    found = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert list(found["results"]) == ["2", "4", "2+4"]
    assert 0 < found["results"]["2+4"]["shapes_semantic/miou"] < 1
    assert found["results"]["2+4"]["shapes_panoptic/miou"] > 0
    per_class = found["sets"]["shapes_panoptic"]["per_class"][
        found["sets"]["shapes_panoptic"]["best"]
    ]
    report = (tmp_path / "probe" / "report.md").read_text()
    assert "| model | 1.0000 | - |" in report
    short = [line for line in report.splitlines() if line.endswith(" |") and "| +" in line]
    assert len(short) == len([iou for iou in per_class.values() if iou is not None])


@pytest.mark.slow
def test_a_checkpoint_is_scored_beside_the_probe(tmp_path: Path) -> None:
    from dataseg_hf.sharing.checkpoint import save_checkpoint
    from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path / "model")
    config = written(tmp_path, settings())
    output = tmp_path / "probe"
    arguments = ["--config", config, "--strides", "4", "--output_dir", str(output)]
    assert main([*arguments, "--model", str(tmp_path / "model")]) == 0
    found = json.loads((output / "probe.json").read_text())["sets"]
    assert all(set(scores["model"]) == set(scores["training_pixels"]) for scores in found.values())


BOXES = {name: SETTINGS["datasets"][name] for name in ("shapes_boxes",)}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"datasets": BOXES}, [], r"error: datasets: a probe learns from a class per pixel, which"),
        ({"evaluation": {}}, [], r"error: evaluation: the settings name no held-out set"),
        (
            {"evaluation": {"open": EVALUATION["shapes_open"]}},
            [],
            r"error: evaluation: none of ['open'] has the names of a training set",
        ),
        ({}, ["--strides", "5"], r"--strides: the backbone has no map of stride 5; choose from [2"),
        ({}, ["--model", "no.json"], r"error: --model: cannot read 'no.json': No such file"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    changes: dict[str, Any],
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "evaluation" in changes:
        changes = {
            **changes,
            "datasets": {k: SETTINGS["datasets"][k] for k in ("shapes_panoptic",)},
        }
    config = written(tmp_path, settings(**changes))
    assert main(["--config", config, "--output_dir", "probe", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "probe").exists()
