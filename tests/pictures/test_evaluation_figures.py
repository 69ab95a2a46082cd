"""Confusion matrices and precision-recall curves as pictures: of few classes, of many, of none."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dataseg_hf.evaluation.report import cell, table
from dataseg_hf.metrics.instances import ApCurves
from dataseg_hf.pictures.figures import draw_confusion, draw_precision_recall


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: object, **options: object) -> None:
        figures.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def curves(classes: int, present: list[int]) -> ApCurves:
    """Precision 1 up to recall `1 / (place + 1)` for each present class, at every threshold."""
    precision = np.full((10, 101, classes, 4, 3), -1.0)
    for place, label_id in enumerate(present):
        precision[:, :, label_id] = (np.arange(101) <= 100 / (place + 1))[:, None, None]
    return ApCurves(precision, np.full((10, classes, 4, 3), -1.0))


def test_rows_of_a_confusion_matrix_are_shares_of_the_truth(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    """By hand: of 4 cats 3 are cats and 1 a dog; of 2 dogs 1 is no class; no bird is true or
    predicted.
    """
    confusion = np.array([[3, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    draw_confusion(confusion, ["cat", "dog", "bird"], tmp_path / "a.png")
    axes = drawn[0].axes[0]
    assert axes.images[0].get_array().tolist() == [[75, 25], [0, 50]]  # type: ignore[union-attr]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog"]
    assert {text.get_text() for text in axes.texts} == {"75", "25", "50"}
    assert Image.open(tmp_path / "a.png").size[0] > 300


def test_a_class_that_is_only_predicted_has_a_column(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_confusion(np.array([[1, 3, 0], [0, 0, 0]]), ["cat", "dog"], tmp_path / "a.png")
    assert drawn[0].axes[0].images[0].get_array().tolist() == [[25, 75]]  # type: ignore[union-attr]


def test_many_classes_are_not_written_out(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_confusion(
        np.eye(60, 61, dtype=np.int64), [f"class {i}" for i in range(60)], tmp_path / "a.png"
    )
    assert len(drawn[0].axes[0].texts) == 0
    assert len(drawn[0].axes[0].get_yticklabels()) == 60


def test_curves_of_single_classes_and_their_mean(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_precision_recall(curves(3, [2, 0]), ["cat", "dog", "bird"], "masks", tmp_path / "a.png")
    left, right = drawn[0].axes
    assert [line.get_label() for line in right.lines] == ["bird: 1.000", "cat: 0.505"]
    assert left.lines[0].get_label() == "IoU 0.50: AP 0.752"  # (101 + 51) / 202
    assert left.get_title() == "masks: mean of 2 classes"


def test_of_many_classes_the_best_and_worst_are_named(tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"class {i}" for i in range(20)]
    draw_precision_recall(curves(20, list(range(20))), names, "masks", tmp_path / "a.png")
    named = [str(line.get_label()).split(":")[0] for line in drawn[0].axes[1].lines]
    assert [name for name in named if not name.startswith("_")] == names[:6] + names[-6:]
    assert len(named) == 20


def test_without_truth_there_are_no_curves(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_precision_recall(curves(2, []), ["cat", "dog"], "boxes", tmp_path / "a.png")
    assert [len(axes.lines) for axes in drawn[0].axes] == [0, 0]
    assert (tmp_path / "a.png").is_file()


def test_cells_of_a_table() -> None:
    assert [cell(3), cell(0.5), cell(float("nan"))] == ["3", "0.5000", "-"]
    assert table(["class", "iou"], [["a|b", "1"]]) == [
        "| class | iou |",
        "|---|---|",
        "| a\\|b | 1 |",
    ]
