"""Complete the annotation of a run's datasets with a model: masks for boxes, points and tags,
objects for maps of classes, held to what is annotated.

Into the output folder go, for each dataset,
    NAME/annotations.json   COCO's instances or panoptic format, with score, source and review
    NAME/maps/*.png         segment ids, of maps of classes
    NAME/dataset.yaml       the entry for `datasets` of a run, ready to paste
    NAME/review.csv         what a person should look at, the most doubtful first
    NAME/contact_sheet.png  some images beside their completed annotation
    NAME/annotations/       with --annotations, files for labeling tools
    NAME/second_layer/      with --second_layer, what the dataset does not say, as maps
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.sample import BadSampleError
from ..errors import ConfigError
from .on_mix import images_of, mix_parser, run_on_mix, writing_for_people
from .options import OptionParser

if TYPE_CHECKING:
    from ..data.sample import DatasetSpec
    from ..files.output_folder import ClaimedFolder
    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.modeling_dataseg import DaTaSegModel
    from ..prediction.completion import CompletedFolder, Proposer, SetRows
    from ..processes import Processes
    from ..settings.entries import TrainEntry
    from ..settings.parts import MixSettings

CONTACT_SHEET, SHOWN_IMAGES = "contact_sheet.png", 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all is done, 2 for options, settings or data that cannot work, 130 after
    Ctrl-C.
    """
    interrupted = "stopped; the same command goes on from here"
    return run_on_mix(option_parser(), arguments, complete, interrupted)


@dataclass(frozen=True)
class Job:
    """What is the same for all datasets.

    Args:
        mix: the datasets of the run, those that are not completed among them.
        output: folder, resolved.
    """

    options: Namespace
    mix: "MixSettings"
    output: Path
    model: "DaTaSegModel"
    processor: "DaTaSegImageProcessor"
    processes: "Processes"


def complete(options: Namespace, mix: "MixSettings", file: str, processes: "Processes") -> None:
    """Complete the chosen datasets, one after the other.

    Raises:
        ConfigError: on all processes, for options, settings and data that cannot work.
        BadSampleError: on all processes, for an image that cannot be read.
    """
    from ..settings.entries import with_default_range
    from ..sharing.checkpoint import load_checkpoint

    entries = mix.entries(options.datasets or ())
    for name, entry in entries.items():
        if entry.completed is not None:
            raise ConfigError(
                f"datasets.{name}.completed: this set is completed already; name the set that it "
                "was made from, or other ones by --datasets"
            )
    output = processes.together(lambda: expanded_output(options), ConfigError)
    model, processor = processes.together(lambda: load_checkpoint(options.model), ConfigError)
    job = Job(options, mix, output, model, processor, processes)
    with ExitStack() as held:
        processes.on_main(
            lambda: held.enter_context(claimed_folder(job, file, entries)), ConfigError
        )
        on_device: Any = model.eval()  # the signature known to type checkers lacks the device
        on_device.to(processes.device)
        for name, entry in entries.items():
            complete_dataset(name, with_default_range(entry, processor.value_range), job)


def expanded_output(options: Namespace) -> Path:
    """The folder that `--output` names.

    Raises:
        ConfigError: for a text that names none.
    """
    from ..files.output_folder import resolved_folder
    from ..settings.paths import expand

    return resolved_folder(expand(options.output, "--output"), "--output")


def claimed_folder(job: Job, file: str, entries: Mapping[str, "TrainEntry"]) -> "ClaimedFolder":
    """The folder of the completion, made or gone on with.

    Raises:
        ConfigError: for a folder with other content.
    """
    from ..prediction.completion.folder import open_completion
    from ..settings.paths import paths_read

    sources = {f"datasets.{name}": entry for name, entry in entries.items()}
    reads = {"--config": file, **paths_read(sources, None, {"--model": job.options.model})}
    decisive = {name: what_decides(entry) for name, entry in entries.items()}
    if job.options.second_layer:
        for name, entry in entries.items():
            layer = layer_of_mix(name, spec_of(name, entry), job.mix)
            decisive[f"{name}/second_layer"] = {"classes": layer.labels, "thing": layer.is_thing}
    return open_completion(job.output, reads, job.model, job.processor, decisive)


def spec_of(name: str, entry: "TrainEntry") -> "DatasetSpec":
    """The spec of an entry.

    Raises:
        ConfigError: for one that is none.
    """
    from ..settings.datasets import source_spec

    return source_spec(entry, f"datasets.{name}")


def layer_of_mix(name: str, own: "DatasetSpec", mix: "MixSettings") -> "DatasetSpec":
    """The second layer of a dataset: its own classes, and those of the others of the mix.

    Raises:
        ConfigError: for another dataset that has no spec.
    """
    from ..prediction.completion import spec_of_mix

    return spec_of_mix(own, [spec_of(n, other) for n, other in mix.datasets.items() if n != name])


def what_decides(entry: "TrainEntry") -> dict[str, Any]:
    """The settings of an entry on which its completion depends."""
    from ..settings.entries import Source

    decisive = {*Source.model_fields, "image_size"}
    return {key: value for key, value in entry.as_plain().items() if key in decisive}


def complete_dataset(name: str, entry: "TrainEntry", job: Job) -> None:
    """Complete one dataset, or what an earlier call left of it, on all processes together.

    Raises:
        ConfigError: on all processes, for options, settings and data that cannot work.
        BadSampleError: on all processes, for an image that cannot be read.
    """
    from ..prediction.completion import complete_images

    errors = (ConfigError, BadSampleError)
    folder, rows, proposer = job.processes.together(lambda: opened_set(name, entry, job), *errors)
    summaries = complete_images(folder, rows, proposer, job.processes)
    for layer, summary in zip((name, f"{name}, second layer"), summaries, strict=False):
        print(f"{layer}: {summary.text()}")
    has_images = any(summary.images for summary in summaries)
    job.processes.on_main(lambda: add_for_people(folder, job.options, name, has_images), *errors)


def opened_set(
    name: str, entry: "TrainEntry", job: Job
) -> tuple["CompletedFolder", "SetRows", "Proposer"]:
    """Where the completion of a set goes, its images, and what looks at them.

    Raises:
        ConfigError: for a stream, which is read in order only.
    """
    from ..data.sample import SampleStream
    from ..prediction.completion import CompletedFolder, Proposer, SetRows
    from ..settings.datasets import training_set

    skips = job.mix.on_bad_sample == "skip"
    data = training_set(name, entry, job.mix.on_bad_sample).data
    if isinstance(data, SampleStream):
        raise ConfigError(
            f"datasets.{name}.options.streaming: a stream is not completed; set it to false"
        )
    spec, images = data.spec, images_of(data, entry)
    mix = layer_of_mix(name, spec, job.mix) if job.options.second_layer else None
    proposer = Proposer.of(
        job.model, job.processor, name, spec, entry.image_size, job.options.batch_size, mix
    )
    folder = CompletedFolder(job.output / name, spec, images, entry.value_range)
    return folder, SetRows(data, images, skips), proposer


def add_for_people(
    folder: "CompletedFolder", options: Namespace, name: str, has_images: bool
) -> None:
    """Files for labeling tools, where they are asked for, and the contact sheet."""
    from ..prediction.completion.people import PEOPLE, write_for_people

    with writing_for_people(folder.path):
        if options.annotations and (there := write_for_people(folder, options.annotations)):
            kept = ", ".join(there)
            print(f"{folder.path / PEOPLE}: {kept} kept as it is: perhaps corrected by hand")
        if has_images:
            draw(folder.path, name)


def draw(folder: Path, name: str) -> None:
    """Draw some images with their completed annotation, read as training reads it."""
    import yaml

    from ..data.sample import SampleDataset
    from ..pictures.contact_sheet import contact_sheet, samples_at
    from ..prediction.completion.finishing import ENTRY_FILE
    from ..settings.datasets import load_source
    from ..settings.entries import TrainEntry

    (content,) = yaml.safe_load((folder / ENTRY_FILE).read_text())["datasets"].values()
    data = load_source(TrainEntry.model_validate(content), f"datasets.{name}")
    assert isinstance(data, SampleDataset)
    samples = samples_at(data, range(len(data)), SHOWN_IMAGES)
    contact_sheet(samples, data.spec).save(folder / CONTACT_SHEET)


def option_parser() -> OptionParser:
    """The options of this command; all others are settings of the run."""
    parser = mix_parser(
        "dataseg complete",
        "Complete the annotation of a run's datasets with a model: masks for boxes, points and "
        "tags, objects for maps of classes. What is annotated never changes. The same command goes "
        "on where it was stopped.",
        "folder for the completed annotation",
    )
    parser.add_argument(
        "--second_layer", action="store_true",
        help="also write what a dataset does not say, in the words of the whole mix",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
