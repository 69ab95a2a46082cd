"""Look for mistakes in the annotation of a run's datasets with a model: objects that are missing,
classes that it contradicts, masks and boxes that do not fit; and for images worth annotating next.

Into the output folder go, for each dataset,
    NAME/suggestions.csv    what a person should look at, the surest first of each kind
    NAME/suggestions.json   the same in COCO's instances format, with what the model sees
    NAME/suggestions.png    the first of them, beside what is annotated
    NAME/images.csv         all images, that to annotate next at first
    NAME/annotations/       with --annotations, the suggestions for labeling tools
"""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .on_mix import images_of, mix_parser, run_on_mix, writing_for_people
from .options import OptionParser, positive

if TYPE_CHECKING:
    from ..data.sample import DatasetSpec, Sample, SampleDataset
    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.modeling_dataseg import DaTaSegModel
    from ..prediction.completion import Proposer
    from ..prediction.doctor import Examination, SuggestionFiles, Words
    from ..processes import Processes
    from ..settings.datasets import OnBadSample
    from ..settings.entries import TrainEntry
    from ..settings.parts import MixSettings

SHEET, SHOWN_OF_KIND = "suggestions.png", 4
KEY = "--output"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is done, 2 for options, settings or data that cannot work, 130 after
    Ctrl-C.
    """
    interrupted = "stopped; nothing was written for the set at hand"
    return run_on_mix(option_parser(), arguments, examine, interrupted)


def examine(options: Namespace, mix: "MixSettings", file: str, processes: "Processes") -> None:
    """Look at the chosen datasets, one after the other.

    Raises:
        ConfigError: for several processes, and for options, settings and data that cannot work.
        BadSampleError: for an image that cannot be read.
    """
    from ..files.output_folder import claim_output_folder
    from ..settings.datasets import source_spec
    from ..settings.entries import with_default_range
    from ..settings.paths import expand, paths_read
    from ..sharing.checkpoint import load_checkpoint

    if processes.world_size > 1:
        raise ConfigError(
            "the doctor works in one process; start it without `accelerate launch`, and several "
            "sets at once by `--datasets` and an `--output` each"
        )
    entries = mix.entries(options.datasets or ())
    specs = {name: source_spec(one, f"datasets.{name}") for name, one in mix.datasets.items()}
    sources = {f"datasets.{name}": entry for name, entry in entries.items()}
    reads = {"--config": file, **paths_read(sources, None, {"--model": options.model})}
    output = expand(options.output, KEY)
    model, processor = load_checkpoint(options.model)
    on_device: Any = model.eval()  # the signature known to type checkers lacks the device
    on_device.to(processes.device)
    with claim_output_folder(output, "suggestions", KEY, reads) as claimed:
        for name, entry in entries.items():
            entry = with_default_range(entry, processor.value_range)
            folder = claimed.path / name
            examine_dataset(
                name, entry, specs, mix.on_bad_sample, folder, (model, processor), options
            )


def examine_dataset(
    name: str,
    entry: "TrainEntry",
    specs: Mapping[str, "DatasetSpec"],
    on_bad_sample: "OnBadSample",
    folder: Path,
    model_and_processor: tuple["DaTaSegModel", "DaTaSegImageProcessor"],
    options: Namespace,
) -> None:
    """Look at one dataset and write what was found.

    Raises:
        ConfigError: for a stream, which is read in order only.
    """
    from ..data.sample import SampleStream
    from ..prediction.completion.completed_folder import IMAGES
    from ..prediction.doctor import SuggestionFiles, examined, words_of_mix
    from ..settings.datasets import training_set

    data = training_set(name, entry, on_bad_sample).data
    if isinstance(data, SampleStream):
        raise ConfigError(
            f"datasets.{name}.options.streaming: a stream is not looked at; set it to false"
        )
    model, processor = model_and_processor
    words = words_of_mix(name, specs)
    if model.config.knows_stored_vocabularies_only:
        words = words[:1]
    proposer = proposer_in_words(words, model, processor, data.spec, entry, options.batch_size)
    images = images_of(data, entry)
    samples = named_samples(data, images, on_bad_sample)
    examination = examined(samples, len(data), data.spec, words, proposer, options.most)
    files = SuggestionFiles(folder, images or folder / IMAGES, words)
    with writing_for_people(folder):
        if images is None:
            write_images(data, examination, files.images)
        files.write(examination, options.annotations)
        draw(data, examination, files)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(examination.top.counts.items()))
    print(f"{name}: {len(examination.names)} images: {counts or 'nothing'} to look at")


def proposer_in_words(
    words: Sequence["Words"],
    model: "DaTaSegModel",
    processor: "DaTaSegImageProcessor",
    spec: "DatasetSpec",
    entry: "TrainEntry",
    batch_size: int,
) -> "Proposer":
    """What is asked for all those words: of a dataset's own alone, the vocabulary that the model
    stores for it.

    Raises:
        ConfigError: for names that the model cannot embed.
    """
    from ..prediction.completion import Proposer
    from ..prediction.doctor import embedded

    name, size = words[0].name, entry.image_size
    proposer = Proposer.of(model, processor, name, spec, size, batch_size)
    return proposer if len(words) == 1 else replace(proposer, classes=embedded(words, model))


def named_samples(
    data: "SampleDataset", images: Path | None, on_bad_sample: "OnBadSample"
) -> Iterator[tuple[int, str, "Sample"]]:
    """Row, file name and sample of each image.

    Raises:
        BadSampleError: for one that cannot be used, unless such are left out.
    """
    from ..prediction.completion.rows import SetRows

    rows = SetRows(data, images, on_bad_sample == "skip")
    for row in rows.left({}):
        for index, name, sample in rows.samples([row]):
            yield index, name if images is not None else f"{name}.png", sample


def write_images(data: "SampleDataset", examination: "Examination", folder: Path) -> None:
    """Write the images with suggestions of a set that has none as files."""
    from PIL import Image

    for found in examination.top.by_image():
        target = folder / found[0].name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data[found[0].index].image).save(target)


def draw(data: "SampleDataset", examination: "Examination", files: "SuggestionFiles") -> None:
    """Draw the first suggestions of each kind, where there are any."""
    from ..pictures.suggestions import suggestion_sheet
    from ..prediction.doctor import DOUBT_KINDS

    first = [one for kind in DOUBT_KINDS for one in examination.top.of_kind(kind)[:SHOWN_OF_KIND]]
    if first:
        rows = [(data[one.index], one.doubt) for one in first]
        suggestion_sheet(rows, data.spec, files.labels).save(files.path / SHEET)


def option_parser() -> OptionParser:
    """The options of this command; all others are settings of the run."""
    parser = mix_parser(
        "dataseg doctor",
        "Look for mistakes in the annotation of a run's datasets with a model: objects that are "
        "missing, classes that it contradicts, masks and boxes that do not fit; and for images "
        "worth annotating next.",
        "folder for the suggestions",
    )
    parser.add_argument(
        "--most", type=positive, default=500, metavar="N",
        help="suggestions of each kind that are kept (default %(default)s)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
