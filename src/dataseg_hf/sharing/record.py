"""What the folder of a run tells of its model, as the files that training left say it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from ..data.sample import DatasetSpec

METRICS = {
    "pq": "PQ",
    "pq_things": "PQ of things",
    "pq_stuff": "PQ of stuff",
    "sq": "SQ",
    "rq": "RQ",
    "miou": "mIoU",
    "fwiou": "frequency-weighted IoU",
    "pixel_acc": "pixel accuracy",
    "mean_acc": "mean accuracy",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "mask_ap75": "mask AP75",
    "mask_ap_small": "mask AP, small",
    "mask_ap_medium": "mask AP, medium",
    "mask_ap_large": "mask AP, large",
    "box_ap": "box AP",
    "box_ap50": "box AP50",
    "box_ap75": "box AP75",
    "box_ap_small": "box AP, small",
    "box_ap_medium": "box AP, medium",
    "box_ap_large": "box AP, large",
}
"""Key of a result, as `evaluation` names it -> what people call it."""


def metric_name(key: str) -> str | None:
    """What people call a key, that of a group of classes (`pq_novel`) too; None for an unknown
    one.
    """
    if key in METRICS:
        return METRICS[key]
    known = [metric for metric in METRICS if key.startswith(f"{metric}_")]
    return f"{METRICS[known[-1]]}, {key[len(known[-1]) + 1 :]}" if known else None


@dataclass(frozen=True)
class Record:
    """What a folder tells. All but the config is empty for a model without a run.

    Args:
        folder: that the files lie in.
        name: of the model, the last part of its repository's id.
        config: of the model.
        settings: `run_config.yaml`.
        mix: `mix.json`, a row per training set.
        results: `all_results.json`.
        starts: `run.json`, one entry per start of the run: more than one if it was resumed.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    mix: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]

    @property
    def scores(self) -> list[tuple[str, str, float]]:
        """(held-out set, metric, value) of every known metric that is defined."""
        split = [
            (*key.rpartition("/")[::2], value) for key, value in self.results.items() if "/" in key
        ]
        return [
            (name, metric, value)
            for name, metric, value in split
            if metric_name(metric) is not None and value is not None
        ]

    @property
    def can_embed(self) -> bool:
        """Whether the model can embed words that it does not store."""
        encoder = self.config.get("text_encoder")
        return encoder is not None and encoder["kind"] in ("hashed_ngrams", "sentence", "hub")

    @property
    def held_out(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings of the held-out sets, by name."""
        return self.settings.get("evaluation") or {}


def read_record(folder: str | Path, repo: str) -> Record:
    """Read the record of a run.

    Args:
        folder: of the run, or of a saved model.
        repo: id that the model is published under.

    Raises:
        ValueError: for a file that cannot be read; the message names it.
    """
    folder = Path(folder)
    return Record(
        folder=folder,
        name=repo.rpartition("/")[2],
        config=read_file(folder / "config.json", {}),
        settings=read_file(folder / "run_config.yaml", {}),
        mix=read_file(folder / "mix.json", []),
        results=read_file(folder / "all_results.json", {}),
        starts=read_file(folder / "run.json", []),
    )


def read_file(file: Path, empty: Any) -> Any:
    """The content of a JSON or YAML file, `empty` if it is missing.

    Raises:
        ValueError: if it is broken.
    """
    try:
        text = file.read_text(encoding="utf-8")
        return yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)
    except FileNotFoundError:
        return empty
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error


def known_spec(name: object) -> "DatasetSpec | None":
    """A dataset that this package describes, by the name of its `spec`."""
    try:
        from ..data.catalog import CATALOG
        from ..data.shapes import SHAPES_SPECS
    except ImportError:  # both need `datasets`, publishing does not: then nothing is known
        return None
    return {**CATALOG, **SHAPES_SPECS}.get(name) if isinstance(name, str) else None


def is_drawn(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the settings is one of the package's own drawn sets: no photographs."""
    spec = known_spec(entry.get("spec"))
    return spec is not None and spec.reader == "shapes" and entry.get("reader") in (None, "shapes")
