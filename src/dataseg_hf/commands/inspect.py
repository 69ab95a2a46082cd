"""Check the datasets of a run before it starts, and draw them.

Prints the mix, what every dataset holds and what is wrong with it, and writes a contact sheet of
each to OUTPUT_DIR/contact_sheets.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.inspection import Inspection, inspect_dataset
from ..data.name_checks import held_out_contradictions
from ..data.problems import Problem
from ..data.sample import SampleDataset, SampleStream
from ..model.configuration_dataseg import DaTaSegConfig
from ..output_folder import CONTACT_SHEETS, check_addition
from ..pictures.contact_sheet import contact_sheet, samples_at
from ..settings.datasets import MixRow, load_source, mix_table, resolve_mix, training_mix
from ..settings.model import embed, run_text_encoder
from ..settings.run import ConfigError, RunConfig, expand, parse_run_config
from .options import OptionParser, report_error
from .ready_configs import config_file, with_config_files

IMAGES_ON_SHEET = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when there is no problem, 1 when there is one, 2 for settings that cannot
    work.
    """
    try:
        options, settings = parse_options(arguments)
        config = parse_run_config(with_config_files(settings), config_file("shapes"))
        output_dir = check_addition(expand(config.output_dir, "output_dir"), "output_dir")
        with redirect_stdout(sys.stderr):  # what readers print
            report = inspect_all(config, options.check, output_dir)
    except (ConfigError, argparse.ArgumentError) as error:
        report_error(error)
        return 2
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(report.text(output_dir))
    return 1 if report.problems else 0


def parse_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options of this command, and the rest, which are settings of the run."""
    parser = OptionParser(
        prog="dataseg inspect",
        description="Check the datasets of a run and draw them.",
        epilog="All settings of a run (see dataseg cotrain --help) may be given too, such as "
        "--config FILE.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "--check",
        type=number_or_all,
        default=100,
        metavar="N|all",
        help="images of each dataset to load; default 100. `all` also embeds every category name",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return parser.parse_known_args(arguments)


def number_or_all(text: str) -> int | None:
    """A positive number, None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a positive number or 'all'")
    return int(text)


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


if __name__ == "__main__":
    sys.exit(main())
