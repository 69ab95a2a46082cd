"""Complete the annotation of a run's datasets with a model: masks for boxes, points and tags,
objects for maps of classes, held to what is annotated.

Into the output folder go, for each dataset,
    NAME/annotations.json   COCO's instances or panoptic format, with score, source and review
    NAME/maps/*.png         segment ids, of maps of classes
    NAME/dataset.yaml       the entry for `datasets` of a run, ready to paste
    NAME/review.csv         what a person should look at, the most doubtful first
    NAME/contact_sheet.png  some images beside their completed annotation
"""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.sample import BadSampleError
from ..errors import ConfigError
from ..messages import show_messages
from ..settings.ready_configs import config_file, with_config_files
from .options import OptionParser, positive, report_error

if TYPE_CHECKING:
    from ..data.sample import Sample, SampleDataset
    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.modeling_dataseg import DaTaSegModel
    from ..settings.entries import TrainEntry
    from ..settings.run import RunConfig

CONTACT_SHEET, SHOWN_IMAGES = "contact_sheet.png", 6
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is done, 2 for options, settings or data that cannot work, 130 after
    Ctrl-C.
    """
    parser = option_parser()
    options, rest = parser.parse_known_args(arguments)
    from ..settings.parsing import config_files, file_of_entries, parse_run_config

    show_messages()
    file = ""
    try:
        settings = with_config_files(rest)
        file = file_of_entries(settings)
        config = parse_run_config(settings, config_file("shapes"), parser.option_names())
        complete(options, config, config_files(settings))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, BadSampleError) as error:
        report_error(error, file)
        return 2
    return 0


def complete(options: Namespace, config: "RunConfig", files: Sequence[str]) -> None:
    """Complete the chosen datasets, one after the other.

    Raises:
        ConfigError: for options, settings and data that cannot work.
        BadSampleError: for an image that cannot be read.
    """
    from ..prediction.completion.folder import open_completion
    from ..settings.paths import expand, run_reads
    from ..sharing.checkpoint import load_checkpoint

    names = chosen_datasets(options.datasets, config)
    output = expand(options.output, "--output")
    reads = {**run_reads(config, files), "--model": options.model}
    model, processor = load_checkpoint(options.model)
    entries = {name: config.datasets[name] for name in names}
    plain = {name: entry.as_plain() for name, entry in entries.items()}
    with open_completion(output, reads, model, processor, plain) as claimed:
        for name, entry in entries.items():
            complete_dataset(name, entry, claimed.path, (model, processor), options.batch_size)


def chosen_datasets(names: Sequence[str] | None, config: "RunConfig") -> list[str]:
    """The entries of the mix that are asked for, all by default.

    Raises:
        ConfigError: for one that is not there.
    """
    for name in names or ():
        if name not in config.datasets:
            raise ConfigError(
                f"--datasets: no entry '{name}' in datasets; there are {sorted(config.datasets)}"
            )
    return list(names or config.datasets)


def complete_dataset(
    name: str,
    entry: "TrainEntry",
    output: Path,
    model_and_processor: tuple["DaTaSegModel", "DaTaSegImageProcessor"],
    batch_size: int,
) -> None:
    """Complete one dataset, or what an earlier call left of it.

    Raises:
        ConfigError: for a stream, which is read in order only.
    """
    from ..data.sample import SampleStream
    from ..prediction.completion import CompletedFolder, Proposer, complete_images
    from ..settings.datasets import load_source

    data = load_source(entry, f"datasets.{name}")
    if isinstance(data, SampleStream):
        raise ConfigError(
            f"datasets.{name}.options.streaming: a stream is not completed; set it to false"
        )
    model, processor = model_and_processor
    proposer = Proposer.of(model, processor, name, data.spec, entry.image_size, batch_size)
    folder = CompletedFolder(output / name, data.spec, images_of(entry))
    samples = proposer.proposals(_left(data, folder.journal().done))
    print(f"{name}: {complete_images(folder, samples, len(data)).text()}")
    draw(folder.path, name)


def images_of(entry: "TrainEntry") -> Path | None:
    """The folder of an entry's images; None where they are no files there."""
    from ..settings.paths import expand

    if entry.images is None:
        return None
    return Path(expand(entry.images, "images")).resolve()


def _left(data: "SampleDataset", done: set[str]) -> Iterator["Sample"]:
    """The samples that are not done yet."""
    from ..prediction.completion import image_name

    for index in range(len(data)):
        sample = data[index]
        if image_name(sample) not in done:
            yield sample


def draw(folder: Path, name: str) -> None:
    """Draw some images with their completed annotation, read as training reads it."""
    import yaml

    from ..data.sample import SampleDataset
    from ..pictures.contact_sheet import contact_sheet, samples_at
    from ..prediction.completion.run import ENTRY_FILE
    from ..settings.datasets import load_source
    from ..settings.entries import TrainEntry

    (content,) = yaml.safe_load((folder / ENTRY_FILE).read_text())["datasets"].values()
    data = load_source(TrainEntry.model_validate(content), f"datasets.{name}")
    assert isinstance(data, SampleDataset)
    samples = samples_at(data, range(len(data)), SHOWN_IMAGES)
    contact_sheet(samples, data.spec).save(folder / CONTACT_SHEET)


def option_parser() -> OptionParser:
    """The options of this command; all others are settings of the run."""
    parser = OptionParser(
        prog="dataseg complete",
        description="Complete the annotation of a run's datasets with a model: masks for boxes, "
        "points and tags, objects for maps of classes. What is annotated never changes. The same "
        "command goes on where it was stopped.",
        epilog="All settings of a run (see dataseg cotrain --help) may be given too, such as "
        "--config FILE or --datasets.NAME.image_size 320.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument("--output", required=True, help="folder for the completed annotation")
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries of the mix; all by default"
    )
    parser.add_argument(
        "--batch_size", type=positive, default=8, metavar="N",
        help="images at once (default %(default)s)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
