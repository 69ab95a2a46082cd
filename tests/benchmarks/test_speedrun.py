"""What the speed run reads from a run's folder, and when it calls a model good."""

import json
from pathlib import Path

import pytest
from benchmarks.speedrun import TARGETS, curve, seconds_until_good, table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that is good in two sets after step 2, in all after step 4, and less so after step 6.

    Held-out sets of one step may have lines of their own.
    """
    rows = [f"{step},shapes_boxes,{step * 1.5}" for step in range(1, 7)]
    (tmp_path / "history.csv").write_text("\n".join(["step,dataset,seconds", *rows]))
    panoptic, semantic, boxes = TARGETS
    lines = [
        {"step": 2, panoptic: 0.8, semantic: 0.7},
        {"step": 2, boxes: 0.5},
        {"step": 4, panoptic: 0.7, semantic: 0.58, boxes: 0.58, "other/pq": None},
        {"step": 6, panoptic: 0.9, semantic: 0.9, boxes: 0.1},
    ]
    (tmp_path / "evaluations.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def test_the_curve_has_a_point_for_each_evaluated_step(folder: Path) -> None:
    points = curve(folder)
    assert [(point.step, point.seconds) for point in points] == [(2, 3.0), (4, 6.0), (6, 9.0)]
    assert points[0].metrics == dict(zip(TARGETS, (0.8, 0.7, 0.5), strict=True))


def test_a_model_is_good_when_it_reaches_all_targets_at_once(folder: Path) -> None:
    points = curve(folder)
    assert seconds_until_good(points) == 6.0
    assert seconds_until_good([points[0], points[2]]) is None
    assert "now | 4 | 6 | 0.700 | 0.580 | 0.580" in table({"now": points})
