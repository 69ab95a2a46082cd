"""Complete the annotation of a run's datasets with a model: masks for boxes, points and tags,
objects for maps of classes, held to what is annotated.

Into the output folder go, for each dataset,
    NAME/annotations.json   COCO's instances or panoptic format, with score, source and review
    NAME/maps/*.png         segment ids, of maps of classes
    NAME/dataset.yaml       the entry for `datasets` of a run, ready to paste
    NAME/review.csv         what a person should look at, the most doubtful first
    NAME/contact_sheet.png  some images beside their completed annotation
    NAME/annotations/       with --annotations, files for labeling tools
"""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.sample import BadSampleError
from ..errors import ConfigError
from ..messages import show_messages
from ..prediction.annotation_files import ANNOTATION_FORMATS
from ..settings.ready_configs import config_file
from .options import OptionParser, add_config_option, positive, report_error

if TYPE_CHECKING:
    from ..data.sample import Sample, SampleDataset
    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.modeling_dataseg import DaTaSegModel
    from ..settings.datasets import OnBadSample
    from ..settings.entries import TrainEntry
    from ..settings.parts import MixSettings

CONTACT_SHEET, SHOWN_IMAGES = "contact_sheet.png", 6
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is done, 2 for options, settings or data that cannot work, 130 after
    Ctrl-C.
    """
    parser = option_parser()
    options, overrides = parser.parse_known_args(arguments)
    from ..settings.parsing import file_of_entries
    from ..settings.parts import MixSettings, read_part

    show_messages()
    place = ""
    try:
        file = config_file(options.config)
        place = file_of_entries(["--config", file, *overrides])
        mix = read_part(MixSettings, file, overrides, parser.option_names())
        complete(options, mix, file)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, BadSampleError) as error:
        report_error(error, place)
        return 2
    return 0


def complete(options: Namespace, mix: "MixSettings", file: str) -> None:
    """Complete the chosen datasets, one after the other.

    Raises:
        ConfigError: for options, settings and data that cannot work.
        BadSampleError: for an image that cannot be read.
    """
    from ..prediction.completion.folder import open_completion
    from ..settings.entries import with_default_range
    from ..settings.paths import expand, paths_read
    from ..sharing.checkpoint import load_checkpoint

    entries = mix.entries(options.datasets or ())
    sources = {f"datasets.{name}": entry for name, entry in entries.items()}
    reads = {"--config": file, **paths_read(sources, None, {"--model": options.model})}
    output = expand(options.output, "--output")
    model, processor = load_checkpoint(options.model)
    decisive = {name: what_decides(entry) for name, entry in entries.items()}
    with open_completion(output, reads, model, processor, decisive) as claimed:
        for name, entry in entries.items():
            entry = with_default_range(entry, processor.value_range)
            complete_dataset(
                name, entry, mix.on_bad_sample, claimed.path, (model, processor), options
            )


def what_decides(entry: "TrainEntry") -> dict[str, Any]:
    """The settings of an entry on which its completion depends."""
    from ..settings.entries import Source

    decisive = {*Source.model_fields, "image_size"}
    return {key: value for key, value in entry.as_plain().items() if key in decisive}


def complete_dataset(
    name: str,
    entry: "TrainEntry",
    on_bad_sample: "OnBadSample",
    output: Path,
    model_and_processor: tuple["DaTaSegModel", "DaTaSegImageProcessor"],
    options: Namespace,
) -> None:
    """Complete one dataset, or what an earlier call left of it.

    Raises:
        ConfigError: for a stream, which is read in order only.
    """
    from ..data.sample import SampleStream
    from ..prediction.completion import CompletedFolder, Proposer, complete_images
    from ..prediction.completion.people import PEOPLE, write_for_people
    from ..settings.datasets import training_set

    data = training_set(name, entry, on_bad_sample).data
    if isinstance(data, SampleStream):
        raise ConfigError(
            f"datasets.{name}.options.streaming: a stream is not completed; set it to false"
        )
    model, processor = model_and_processor
    proposer = Proposer.of(model, processor, name, data.spec, entry.image_size, options.batch_size)
    images = images_of(data, entry)
    folder = CompletedFolder(output / name, data.spec, images, entry.value_range)
    left = samples_left(data, images, folder.journal().done, on_bad_sample)
    summary = complete_images(folder, proposer.batches(left), len(data))
    print(f"{name}: {summary.text()}")
    if options.annotations and not write_for_people(folder, options.annotations):
        print(f"{folder.path / PEOPLE} is kept as it is: it may have been corrected by hand")
    if summary.images:
        draw(folder.path, name)


def images_of(data: "SampleDataset", entry: "TrainEntry") -> Path | None:
    """The folder of an entry's images; None where they are no files there."""
    from ..settings.paths import expand

    if entry.images is None or not len(data):
        return None
    folder = Path(expand(entry.images, "images")).absolute()
    return None if file_of(data.rows[0], folder) is None else folder


def file_of(row: Any, folder: Path) -> str | None:
    """The path of a row's image below a folder; None where it is no file there."""
    image = row.get("image") if isinstance(row, Mapping) else None
    # links stay as they are: the images of a folder may lie elsewhere
    if not isinstance(image, str) or not Path(image).absolute().is_relative_to(folder):
        return None
    return Path(image).absolute().relative_to(folder).as_posix()


def samples_left(
    data: "SampleDataset", images: Path | None, done: set[str], on_bad_sample: "OnBadSample"
) -> Iterator["Sample"]:
    """The samples that are not done yet, named as their files are.

    Raises:
        BadSampleError: for one that cannot be used, unless such are left out.
    """
    from ..prediction.completion import image_name

    place_of: dict[str, int] = {}
    for index in range(len(data)):
        row = data.rows[index]
        sample = None
        try:
            name = known_name(row, images)
            if name is None:
                sample = data.load(row)
                name = image_name(sample.file_name, sample.image_id, images is not None)
            if place_of.setdefault(name, index) != index:
                raise BadSampleError(
                    f"image {name}: the images {place_of[name]} and {index} of the set are called "
                    "so; give each a name of its own"
                )
            if name in done:
                continue
            sample = data.load(row) if sample is None else sample
        except BadSampleError as error:
            if on_bad_sample != "skip":
                raise
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield sample if images is None else replace(sample, file_name=name)


def known_name(row: Any, images: Path | None) -> str | None:
    """What the annotation will call the image of a row; None where loading it has to tell."""
    from ..prediction.completion import image_name

    if images is not None:
        return file_of(row, images)
    known = row.get("image_id") if isinstance(row, Mapping) else None
    return None if known is None else image_name("", known, has_files=False)


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
        epilog="--datasets.NAME.KEY VALUE overrides a setting of an entry, e.g. "
        "--datasets.shapes_boxes.count 16",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    add_config_option(parser, "datasets")
    parser.add_argument("--output", required=True, help="folder for the completed annotation")
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries of the mix; all by default"
    )
    parser.add_argument(
        "--annotations", nargs="+", metavar="FORMAT", choices=ANNOTATION_FORMATS, default=(),
        help="also write files for labeling tools, what needs a look most first: "
        f"{', '.join(ANNOTATION_FORMATS)}",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", type=positive, default=8, metavar="N",
        help="images at once (default %(default)s)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
