"""What `dataseg inspect` finds in the datasets of a run: a report, and a contact sheet of each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.inspection import inspect_dataset
from ..data.inspection_report import Inspection
from ..data.name_checks import held_out_contradictions
from ..data.problems import Problem
from ..data.sample import SampleDataset, SampleStream
from ..errors import ConfigError
from ..files.output_folder import CONTACT_SHEETS
from ..model.configuration_dataseg import DaTaSegConfig
from ..pictures.contact_sheet import contact_sheet, samples_at
from ..settings.datasets import MixRow, load_source, mix_table, resolve_mix, training_mix
from ..settings.model import embed, run_text_encoder
from ..settings.run import RunConfig

IMAGES_ON_SHEET = 6


@dataclass(frozen=True)
class Report:
    """What an inspection found.

    Args:
        mix: the resolved mix, empty where a dataset is.
        inspections: of all datasets.
        sheets: the contact sheet of each, None where no image of it can be used.
    """

    mix: Sequence[MixRow]
    inspections: Sequence[Inspection]
    sheets: Sequence[Path | None]

    @property
    def problems(self) -> int:
        """Number of problems in all datasets."""
        return sum(len(found.problems) for found in self.inspections)

    def text(self, output_dir: Path) -> str:
        """For people."""
        parts = [mix_table(self.mix)] if self.mix else []
        parts += [found.text() for found in self.inspections]
        parts.append(f"{self.problems} problems; contact sheets in {output_dir / CONTACT_SHEETS}")
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "mix": [asdict(row) for row in self.mix],
            "datasets": [
                {**found.as_dict(), "contact_sheet": None if sheet is None else str(sheet)}
                for found, sheet in zip(self.inspections, self.sheets, strict=True)
            ],
            "problems": self.problems,
        }


def inspect_all(config: RunConfig, check: int | None, output_dir: Path) -> Report:
    """Load, check and draw all datasets of a run.

    Args:
        check: images of each dataset to load; None loads all and embeds every category name.
    """
    mix, datasets = load(config)
    num_queries = config.model.get("num_queries", DaTaSegConfig.num_queries)
    inspections = [
        inspect_dataset(name, data, check, config.num_workers, num_queries)
        for name, data in datasets
    ]
    add_faults_of_names(config, dict(datasets), inspections, embed_names=check is None)
    sheets = [
        draw(data, found, output_dir)
        for (_, data), found in zip(datasets, inspections, strict=True)
    ]
    return Report(mix, inspections, sheets)


def load(config: RunConfig) -> tuple[list[MixRow], list[tuple[str, SampleDataset | SampleStream]]]:
    """The resolved mix, empty where a dataset is, and all datasets by the key of their entry."""
    members = training_mix(config, on_bad_sample="collect")
    datasets = [(f"datasets.{member.name}", member.data) for member in members]
    for name, entry in config.evaluation.items():
        key = f"evaluation.{name}"
        datasets.append((key, load_source(entry, key, on_bad_sample="collect")))
    return resolve_mix(members) if all(member.size != 0 for member in members) else [], datasets


def add_faults_of_names(
    config: RunConfig,
    datasets: Mapping[str, SampleDataset | SampleStream],
    inspections: Sequence[Inspection],
    embed_names: bool,
) -> None:
    """Add held-out names that contradict those of training, and, if asked, names that cannot be
    embedded.
    """
    encoder = run_text_encoder(config) if embed_names else None
    for found in inspections:
        kind, _, name = found.name.partition(".")
        if kind == "evaluation":
            trained = datasets.get(f"datasets.{config.evaluation[name].vocabulary}")
            found.problems += map(Problem, held_out_contradictions(trained, datasets[found.name]))
        if encoder is not None:
            try:
                embed(encoder, datasets[found.name].spec.labels, found.name)
            except ConfigError as error:
                found.problems.append(Problem(str(error)))


def draw(data: SampleDataset | SampleStream, found: Inspection, output_dir: Path) -> Path | None:
    """Write the contact sheet of a dataset; None where no image of it can be used."""
    samples = samples_at(data, found.usable, IMAGES_ON_SHEET)
    if not samples:
        return None
    path = output_dir / CONTACT_SHEETS / f"{found.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(samples, data.spec, found.ignored_as).save(path)
    return path
