"""The scores of a linear probe as JSON and as a Markdown page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..files.writing import replace_file
from ..metrics.report import nan_as_null
from .report import cell, table
from .scorers import SCORERS

Strides: TypeAlias = tuple[int, ...]


@dataclass
class ProbeScores:
    """What the probes of a vocabulary reach on a held-out set.

    Args:
        name: of the set.
        images: their number.
        settings: strength of the regularization and balance of the classes, by the strides whose
            maps a probe sees.
        scores: what `MeanIoU` computes, by those strides.
        pixel_shares: of each class among the labeled training pixels, 0..1.
        model: IoU by class of the model to compare with.
    """

    name: str
    images: int
    settings: dict[Strides, tuple[float, float]]
    scores: dict[Strides, dict[str, Any]]
    pixel_shares: dict[str, float]
    model: Mapping[str, float] | None = None

    @property
    def best(self) -> Strides:
        """The strides with the largest mean IoU."""
        return max(self.scores, key=lambda strides: _or_least(self.scores[strides]["miou"]))

    def ious(self, strides: Strides) -> dict[str, float]:
        """IoU by class."""
        per_class = self.scores[strides]["per_class"]
        return {label: values["iou"] for label, values in per_class.items()}

    def shortfalls(self) -> list[tuple[str, float]]:
        """Each class that the set shows or a probe predicts, and by how much the model is above the
        best probe, the lowest first; without a model the classes in their order.
        """
        best = self.ious(self.best)
        if self.model is None:
            return [(label, math.nan) for label, iou in best.items() if not math.isnan(iou)]
        gains = {label: self.model.get(label, math.nan) - iou for label, iou in best.items()}
        known = [(label, gain) for label, gain in gains.items() if not math.isnan(gain)]
        return sorted(known, key=lambda item: item[1])


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def strides_text(strides: Strides) -> str:
    """`8`, or `8+16`."""
    return "+".join(map(str, strides))


def combination_table(results: Sequence[ProbeScores]) -> list[str]:
    """A Markdown table with the mean IoU of each combination of strides on each set, and of the
    model.
    """
    header = ["strides", *(f"{scores.name}/miou" for scores in results)]
    rows = [
        [strides_text(strides), *(cell(scores.scores[strides]["miou"]) for scores in results)]
        for strides in results[0].scores
    ]
    if any(scores.model is not None for scores in results):
        rows.append(["model", *(cell(_model_miou(scores)) for scores in results)])
    return table(header, rows)


def _model_miou(scores: ProbeScores) -> float:
    """Mean IoU over the classes that have one, as `MeanIoU` takes it."""
    known = [iou for iou in (scores.model or {}).values() if not math.isnan(iou)]
    return sum(known) / len(known) if known else math.nan


def write_probe(results: Sequence[ProbeScores], summary: Mapping[str, Any], folder: Path) -> None:
    """`probe.json`: the summary, and by combination of strides `results` as `{set}/{metric}`; by
    set `strength`, `balance`, the `best` combination and `per_class`. `report.md`: tables of it.

    What is undefined is null.
    """
    content = {
        **summary,
        "results": {
            strides_text(strides): {
                f"{scores.name}/{key}": value
                for scores in results
                for key, value in SCORERS["miou"].values(scores.scores[strides]).items()
            }
            for strides in results[0].scores
        },
        "sets": {scores.name: _set_as_json(scores) for scores in results},
    }
    replace_file(folder / "probe.json", json.dumps(nan_as_null(content), indent=1) + "\n")
    lines = [f"# Linear probe of a {summary['backbone']}", "", *combination_table(results)]
    for scores in results:
        lines += ["", f"## {scores.name}", "", *_class_table(scores)]
    replace_file(folder / "report.md", "\n".join(lines) + "\n")


def _set_as_json(scores: ProbeScores) -> dict[str, Any]:
    return {
        "images": scores.images,
        "strength": {strides_text(s): strength for s, (strength, _) in scores.settings.items()},
        "balance": {strides_text(s): balance for s, (_, balance) in scores.settings.items()},
        "best": strides_text(scores.best),
        "training_pixels": scores.pixel_shares,
        "per_class": {strides_text(strides): scores.ious(strides) for strides in scores.scores},
        "model": scores.model,
    }


def _class_table(scores: ProbeScores) -> list[str]:
    """IoU of each class by strides, the model's beside it, sorted by how far it falls short."""
    ious = {strides: scores.ious(strides) for strides in scores.scores}
    header = ["class", "training pixels", *map(strides_text, ious)]
    if scores.model is not None:
        header += ["model", f"model - {strides_text(scores.best)}"]
    rows = []
    for label, gain in scores.shortfalls():
        row = [label, f"{scores.pixel_shares[label]:.2%}"]
        row += [cell(of_strides[label]) for of_strides in ious.values()]
        if scores.model is not None:
            row += [cell(scores.model[label]), f"{gain:+.4f}"]
        rows.append(row)
    return table(header, rows)
