"""The axis of metrics shows what there is to see."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from dataseg_hf.pictures.curves import draw_curves


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([0.01, 0.03], 0.033),
        ([0.5, 0.7], 0.77),
        ([0.97], 1.0),
        ([0.0, 0.0], 1.0),
        ([None], 1.0),
        ([], 1.0),
    ],
)
def test_the_axis_ends_a_little_above_the_highest_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[float | None], top: float
) -> None:
    limits: list[Any] = []
    save = Figure.savefig

    def saved(figure: Figure, *args: Any, **options: Any) -> None:
        limits.append(figure.axes[1].get_ylim())
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    history = [
        {"step": str(step), "dataset": "a", "loss": "3.5", "learning_rate": "0.1"}
        for step in (1, 2)
    ]
    rows = [
        {"step": step, "a/pq": value, "a/pixel_acc": 0.99}
        for step, value in enumerate(values, start=1)
    ]
    draw_curves(history, rows, tmp_path / "curves.png")
    assert limits == [(0.0, pytest.approx(top))]
    assert (tmp_path / "curves.png").stat().st_size > 1000
