"""Check the datasets of a run before it starts, and draw them.

python examples/inspect_data.py --config examples/configs/photos.yaml --output_dir outputs/photos
python examples/inspect_data.py --config FILE --check all --json > report.json

Prints the mix, what every dataset holds and what is wrong with it, and writes a contact sheet of
each to OUTPUT_DIR/contact_sheets. All settings of examples/cotrain.py may be overridden;
`--num_workers` loads in parallel.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataseg_hf.data.inspection import inspect_dataset
from dataseg_hf.data.inspection_report import Inspection
from dataseg_hf.data.name_checks import held_out_contradictions
from dataseg_hf.data.problems import Problem
from dataseg_hf.data.sample import SampleDataset, SampleStream
from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.output_folder import CONTACT_SHEETS, check_addition
from dataseg_hf.pictures.contact_sheet import contact_sheet, samples_at
from dataseg_hf.settings.datasets import MixRow, load_source, mix_table, resolve_mix, training_mix
from dataseg_hf.settings.model import embed, run_text_encoder
from dataseg_hf.settings.run import ConfigError, RunConfig, expand, parse_run_config

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "shapes.yaml"
IMAGES_ON_SHEET = 6


def main() -> int:
    """Exit code 0 when there is no problem, 1 when there is one, 2 for settings that cannot
    work.
    """
    try:
        options, settings = parse_options(sys.argv[1:])
        config = parse_run_config(settings, DEFAULT_CONFIG)
        output_dir = check_addition(expand(config.output_dir, "output_dir"), "output_dir")
        with redirect_stdout(sys.stderr):  # what readers print
            mix, datasets = load(config)
            num_queries = config.model.get("num_queries", DaTaSegConfig.num_queries)
            inspections = [
                inspect_dataset(name, data, options.check, config.num_workers, num_queries)
                for name, data in datasets
            ]
            add_faults_of_names(
                config, dict(datasets), inspections, embed_names=options.check is None
            )
            sheets = [
                draw(data, found, output_dir)
                for (_, data), found in zip(datasets, inspections, strict=True)
            ]
    except (ConfigError, argparse.ArgumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    problems = sum(len(found.problems) for found in inspections)
    if options.json:
        print(json.dumps(report(mix, inspections, sheets), indent=2))
    else:
        print(
            *([mix_table(mix)] if mix else []), *(found.text() for found in inspections), sep="\n\n"
        )
        print(f"\n{problems} problems; contact sheets in {output_dir / CONTACT_SHEETS}")
    return 1 if problems else 0


def parse_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of this script, and the rest, which are settings of the run."""
    parser = argparse.ArgumentParser(
        description="Check the datasets of a run and draw them.",
        epilog="All settings of examples/cotrain.py (see its --help) may be given too, such as "
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
    return parser.parse_known_args(list(arguments))


def number_or_all(text: str) -> int | None:
    """A positive number, None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a positive number or 'all'")
    return int(text)


def load(config: RunConfig) -> tuple[list[MixRow], list[tuple[str, SampleDataset | SampleStream]]]:
    """The resolved mix, empty where a dataset is, and all datasets by the key of their entry."""
    members = training_mix(config, on_bad_sample="collect")
    datasets = [(f"datasets.{member.name}", member.data) for member in members]
    for name, entry in config.evaluation.items():
        datasets.append(
            (
                f"evaluation.{name}",
                load_source(entry, f"evaluation.{name}", on_bad_sample="collect"),
            )
        )
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


def report(
    mix: Sequence[MixRow], inspections: Sequence[Inspection], sheets: Sequence[Path | None]
) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "mix": [asdict(row) for row in mix],
        "datasets": [
            {**found.as_dict(), "contact_sheet": None if sheet is None else str(sheet)}
            for found, sheet in zip(inspections, sheets, strict=True)
        ],
        "problems": sum(len(found.problems) for found in inspections),
    }


if __name__ == "__main__":
    sys.exit(main())
