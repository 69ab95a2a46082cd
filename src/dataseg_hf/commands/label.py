"""Label photographs with an existing model, as a dataset for a mix.

Into the output folder go
    maps/NAME.png       semantic: a class per pixel, 255 = void; panoptic: COCO's segment ids
    annotations.json    COCO's panoptic format, or its instances format with scores
    dataset.yaml        the entry for `datasets` of a run, ready to paste
    summary.json        how much of each class, how much void, how sure; license of the teacher
    contact_sheet.png   some images beside their labels
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ..errors import ConfigError
from ..model.tasks_dataseg import TaskName
from .options import OptionParser, positive, report_error, share, vocabulary

if TYPE_CHECKING:
    from ..prediction.labeling import LabelingFolder, LabelingSettings, Summary
    from ..prediction.teachers import Teacher, TeacherOptions

CONTACT_SHEET, SHOWN_IMAGES = "contact_sheet.png", 6
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all images are labeled, 1 when some could not be read, 2 for options that
    cannot work, 130 after Ctrl-C.
    """
    options = parse_options(arguments)
    try:
        folder, summary, total = label(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except (OSError, ValueError) as error:
        report_error(error)
        return 2
    print(f"{summary.images} of {total} images labeled into {folder.path}")
    print(summary.text())
    print(f"{folder.path / 'dataset.yaml'} is the entry for the datasets of a run.")
    for problem in summary.unread.values():
        print(f"not read: {problem}", file=sys.stderr)
    return 1 if summary.unread else 0


def label(options: argparse.Namespace) -> tuple["LabelingFolder", "Summary", int]:
    """Label the images; returns the folder, what it came to, and the number of images.

    Raises:
        ConfigError: for options that cannot work.
        OSError: for a folder that cannot be written.
        ValueError: for two images of one name.
    """
    from ..data.readers.paths import IMAGE_SUFFIXES, image_files
    from ..prediction.labeling import LabelingFolder, label_images
    from ..prediction.teachers import load_teacher
    from ..settings.paths import expand

    root = Path(expand(options.images, "--images")).resolve()
    if not root.is_dir():
        raise ConfigError(f"--images: {root}: no such folder; check the path")
    images = image_files(root, IMAGE_SUFFIXES)
    if not images:
        raise ConfigError(f"--images: no image in {root} ({', '.join(IMAGE_SUFFIXES)})")
    output = expand(options.output, "--output")
    teacher_name = expand(options.teacher, "--teacher")
    reads: dict[str, str | Path] = {"--images": root, "--teacher": teacher_name}
    LabelingFolder.check(output, reads)
    teacher = load_teacher(teacher_name, teacher_options(options))
    settings = labeling_settings(teacher, teacher_name, root, options)
    folder = LabelingFolder.open(output, settings, reads)
    with folder.lock:
        if folder.journal.done:
            print(f"{len(folder.journal.done)} of {len(images)} images have labels; going on.")
        summary = label_images(teacher, folder, images, options.batch_size)
        draw(folder)
    return folder, summary, len(images)


def teacher_options(options: argparse.Namespace) -> "TeacherOptions":
    """How the teacher is used."""
    from ..prediction.teachers import TeacherOptions

    names = None if options.stuff is None else options.stuff.split(",")
    return TeacherOptions(
        kind=options.task,
        vocabulary=options.vocabulary,
        threshold=options.threshold,
        background=options.background,
        stuff=None if names is None else tuple(name.strip() for name in names if name.strip()),
        image_size=options.image_size,
        image_mean=tuple(options.image_mean),
        image_std=tuple(options.image_std),
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )


def labeling_settings(
    teacher: "Teacher", name: str, images: Path, options: argparse.Namespace
) -> "LabelingSettings":
    """What decides the labels."""
    from ..prediction.labeling import LabelingSettings
    from ..prediction.teachers import stated_license, teacher_digest

    return LabelingSettings(
        teacher=name,
        teacher_digest=teacher_digest(teacher),
        license=stated_license(name),
        images=str(images),
        task=teacher.kind,
        names=teacher.classes.names,
        is_thing=teacher.classes.is_thing,
        threshold=options.threshold,
        background=options.background,
    )


def draw(folder: "LabelingFolder") -> None:
    """Draw some images with their labels, read as training reads them."""
    from ..pictures.contact_sheet import contact_sheet, samples_at
    from ..prediction.labeling import read_entry
    from ..settings.datasets import load_source
    from ..settings.entries import TrainEntry

    if not folder.journal.done:
        return
    source = TrainEntry.model_validate(read_entry(folder))
    data = load_source(source, folder.path.name, on_bad_sample="skip")
    samples = samples_at(data, range(len(folder.journal.done)), SHOWN_IMAGES)
    contact_sheet(samples, data.spec).save(folder.path / CONTACT_SHEET)


# --- options --------------------------------------------------------------------------------------


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(
        prog="dataseg label",
        description="Label photographs with an existing model, as a dataset for a mix. The same "
        "command goes on where it was stopped.",
    )
    parser.add_argument(
        "--teacher", required=True,
        help="folder of a checkpoint, or its id on the Hub (org/name@revision): a semantic, "
        "instance or universal segmentation model or an object detector of transformers, or a "
        "DaTaSeg model",
    )  # fmt: skip
    parser.add_argument(
        "--images", required=True, help="folder of the images, sub-folders included"
    )
    parser.add_argument("--output", required=True, help="folder for the labels")
    add_label_options(parser)
    add_teacher_options(parser)
    return parser.parse_args(arguments)


def add_label_options(parser: OptionParser) -> None:
    """What the labels are."""
    group = parser.add_argument_group("labels")
    group.add_argument(
        "--task", choices=get_args(TaskName),
        help="kind of the labels; by default the first that the teacher can give: panoptic, "
        "semantic or boxes",
    )  # fmt: skip
    group.add_argument(
        "--threshold", type=share, default=0.5, metavar="CONFIDENCE",
        help="least confidence of a label. semantic: of a pixel, void below it; others: of an "
        "object, left out below it (0..1, default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--background", choices=["void", "class"], default="void",
        help="what becomes of a class named background, which means all that the teacher has no "
        "word for (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--stuff", metavar="NAMES",
        help="classes that are not countable, with commas, '' for none; by default as the model or "
        "the catalog of datasets says",
    )  # fmt: skip
    group.add_argument(
        "--vocabulary",
        type=vocabulary,
        help="of a DaTaSeg model: one that is stored in it, or words with commas",
    )


def add_teacher_options(parser: OptionParser) -> None:
    """How the teacher is run."""
    group = parser.add_argument_group("teacher")
    group.add_argument(
        "--batch_size", type=positive, default=4, metavar="N",
        help="images at once, as far as they have one size (default %(default)s)",
    )  # fmt: skip
    group.add_argument("--device", help="of torch, such as cpu or cuda:1; by default the best")
    group.add_argument(
        "--image_size", type=positive, metavar="PIXELS",
        help="resize the longer side to so many pixels and pad to a square, for a checkpoint "
        "without an image processor or instead of it",
    )  # fmt: skip
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--image_{name}", type=float, nargs=3, default=[0.5] * 3, metavar=("R", "G", "B"),
            help=f"with --image_size: {what} of the channels, 0..1 (default 0.5 0.5 0.5)",
        )  # fmt: skip
    group.add_argument(
        "--trust_remote_code", action="store_true",
        help="run the code that comes with the teacher; a DaTaSeg model needs none",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
