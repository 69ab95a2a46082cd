"""Segment images, small or large, and write what was found.

Into the output folder go
    overlays/NAME.png   the image with its segments and a legend
    ids/NAME.png        panoptic: segment ids as in COCO's panoptic PNGs; semantic: category ids,
                        0 = none
    predictions.json    COCO: the panoptic format for panoptic (its PNGs are in ids/), the
                        instances format otherwise
    annotations/        with --annotations: files for labeling tools (see docs/evaluation.md)
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from ..ending import EndingSignals
from ..errors import ConfigError
from ..files.lock import FolderLock
from ..files.output_folder import check_output_folder, claim_output_folder
from ..model.image_reading_dataseg import check_value_range
from ..model.mask_nms_dataseg import DEFAULT_IOU
from ..model.tasks_dataseg import output_tasks
from ..pictures.overlay import segments_overlay, semantic_overlay
from ..prediction.annotation_files import ANNOTATION_FORMATS, LOCAL_FILES
from ..prediction.inputs import find_images, named_images
from ..prediction.results import OVERLAYS, LabelingFiles, ResultWriter
from ..prediction.segments import Segment, id_map
from .options import OptionParser, report_error, share, vocabulary

if TYPE_CHECKING:
    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.vocabularies_dataseg import VocabularyMixin

INTERRUPTED = 130  # what shells give a command that Ctrl-C ended
MIN_TILE = 32  # pixels: the coarsest stride of the backbones


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all images were segmented, 1 when some could not be read, segmented or
    written, 2 for options that cannot work, 130 after Ctrl-C.
    """
    options = parse_options(arguments)
    try:
        prediction = prepare(options)
    except (OSError, ValueError, ImportError) as error:
        report_error(error)
        return 2
    failures: list[str] = []
    try:
        with EndingSignals(), prediction.lock:
            segment_all(prediction, options, failures)
    except KeyboardInterrupt:
        print(f"stopped: {prediction.kept()}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # such as a full disk
        report_error(f"--output: {error}; {prediction.kept()}")
        return 1
    total = len(prediction.sources)
    print(f"{total - len(failures)} of {total} images segmented into {prediction.folder}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


@dataclass(frozen=True)
class Prediction:
    """What is ready when the options are found to work.

    Args:
        folder: of the results, claimed.
        lock: keeps other commands out of it, to be released.
        sources: images by the name of their results.
        labeling: None where no files for labeling tools are wanted.
    """

    folder: Path
    lock: FolderLock
    sources: dict[str, Path]
    model: "VocabularyMixin"
    processor: "DaTaSegImageProcessor"
    writer: ResultWriter
    labeling: LabelingFiles | None

    def kept(self) -> str:
        """What is left of a prediction that does not end."""
        return f"{self.writer.images} images are in {self.folder}"


def prepare(options: argparse.Namespace) -> Prediction:
    """Find the images, load the model and claim the output folder.

    Raises:
        OSError, ValueError, ImportError: if that cannot work.
    """
    from ..settings.paths import expand

    sources = named_images(find_images(options.input))
    inputs = {f"--input ({name})": source for name, source in sources.items()}
    reads = {"--model": options.model, **inputs}
    output = expand(options.output, "--output")
    folder = check_output_folder(output, "predictions", "--output", reads)
    model, processor = load(options)
    if options.value_range is not None:
        processor.value_range = check_value_range(options.value_range)
    claimed = claim_output_folder(folder, "predictions", "--output", reads)
    try:
        vocabulary = model.stored_vocabulary(str(model.config.default_vocabulary))
        writer = ResultWriter(folder, options.task, vocabulary["labels"], vocabulary["is_thing"])
        labeling = None
        if options.annotations:
            style = (options.outlines, options.image_url_prefix)
            categories = writer.categories
            labeling = LabelingFiles(folder, options.annotations, categories, sources, *style)
    except BaseException:
        claimed.lock.release()
        raise
    if claimed.earlier is not None:
        print(f"{folder} held earlier predictions, now in {claimed.earlier}.")
    return Prediction(folder, claimed.lock, sources, model, processor, writer, labeling)


def load(options: argparse.Namespace) -> tuple["VocabularyMixin", "DaTaSegImageProcessor"]:
    """The model with the wanted vocabulary, on the accelerator if there is one, and its processor.

    Raises:
        ValueError: for a vocabulary that the model cannot use; the message names the option.
        ImportError: without the package of the runtime.
    """
    model, processor = (load_torch if options.runtime == "torch" else load_graph)(options)
    if options.vocabulary is not None:
        try:
            model.set_vocabulary(model.parse_vocabulary(options.vocabulary))
        except ValueError as error:
            raise ValueError(f"--vocabulary: {error}") from error
    return model, processor


def load_torch(options: argparse.Namespace) -> tuple["VocabularyMixin", "DaTaSegImageProcessor"]:
    """A checkpoint's model, on the accelerator if there is one, and its processor.

    Raises:
        ConfigError: for an export, and as `load_checkpoint`.
    """
    import torch

    from ..sharing.checkpoint import load_checkpoint
    from ..sharing.runtimes import is_export

    if is_export(options.model):
        raise ConfigError(f"--model: {options.model} is an export; add --runtime onnx or openvino")
    model, processor = load_checkpoint(options.model)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    moved: Any = model.eval()  # the signature known to type checkers lacks the device
    return moved.to(device), processor


def load_graph(options: argparse.Namespace) -> tuple["VocabularyMixin", "DaTaSegImageProcessor"]:
    """What an export's graph predicts with, and the processor.

    Raises:
        ConfigError, ImportError, ValueError: as `open_export` and `Export.load`.
    """
    from ..sharing.runtimes import open_export

    return open_export(options.model).load(options.runtime, options.precision)


def segment_all(prediction: Prediction, options: argparse.Namespace, failures: list[str]) -> None:
    """Write the results of all images, and say so where nothing is found.

    Args:
        failures: takes a line for each image that cannot be read, or not be segmented.

    Raises:
        OSError: where the results cannot be written; those of earlier images are.
    """
    from ..model.thresholds_dataseg import Thresholds
    from ..prediction.nothing_found import BestProposal
    from ..prediction.tiling import segment_image

    segments = 0
    best = BestProposal(prediction.writer.task)
    tile = prediction.processor.size["longest_edge"] if options.tile == 0 else options.tile
    thresholds = Thresholds(
        options.threshold, options.mask_threshold, options.overlap_threshold, options.nms
    )
    with closing(prediction.writer), closed(prediction.labeling):
        for name, source in tqdm(prediction.sources.items(), unit="image"):
            what = "read"
            try:
                image = prediction.processor.read_image(source)
                what = "segmented"
                found = segment_image(
                    prediction.model,
                    prediction.processor,
                    image,
                    options.task,
                    thresholds,
                    tile,
                    options.tile_overlap,
                    best.add,
                )
            except Exception as error:  # one image, whatever is wrong with it, ends nothing
                failures.append(f"not {what}: {source}: {failure_of(error)}")
                continue
            segments += len(found)
            write(prediction, name, image, found)
    if prediction.writer.images and not segments:
        print(best.note(prediction.writer.images, thresholds))


def closed(labeling: LabelingFiles | None) -> AbstractContextManager[object]:
    """Closes the files for labeling tools, where there are any."""
    return nullcontext() if labeling is None else closing(labeling)


def failure_of(error: Exception) -> str:
    """One line on an image that could not be segmented, at most 500 letters."""
    known = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
    kind = "" if isinstance(error, known) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:500]


def write(
    prediction: Prediction, name: str, image: Image.Image, segments: Sequence[Segment]
) -> None:
    """All results of one image."""
    source, size = prediction.sources[name], (image.height, image.width)
    prediction.writer.add(name, source.name, size, segments)
    names = prediction.writer.names
    if prediction.writer.task.sums_proposals:
        classes = id_map(segments, [segment.label_id + 1 for segment in segments], size) - 1
        picture = semantic_overlay(image, classes, names)
    else:
        picture = segments_overlay(image, segments, names)
    (prediction.folder / OVERLAYS).mkdir(exist_ok=True)
    picture.save(prediction.folder / OVERLAYS / f"{name}.png")
    if prediction.labeling is not None:
        prediction.labeling.add(name, source, size, segments)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(
        prog="dataseg predict", description="Segment images with a DaTaSeg model."
    )
    parser.add_argument(
        "--model",
        required=True,
        help="folder of a checkpoint, or its id on the Hub; with --runtime, a folder of `dataseg "
        "export`",
    )
    parser.add_argument(
        "--input", required=True, nargs="+", help="image files, folders of them, or patterns"
    )
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument(
        "--task",
        default="panoptic",
        choices=output_tasks(),
        help="default %(default)s",
    )
    parser.add_argument(
        "--vocabulary",
        type=vocabulary,
        help="a vocabulary of the model, or words with commas; its default otherwise",
    )
    add_runtime_options(parser)
    add_threshold_options(parser)
    add_image_options(parser)
    add_annotation_options(parser)
    options = parser.parse_args(arguments)
    if options.runtime == "torch" and options.precision is not None:
        parser.error("argument --precision: chooses a graph of an export; add --runtime")
    if not 0 <= options.tile_overlap < 1:
        parser.error(
            f"argument --tile_overlap: must lie in 0..1, below 1, got {options.tile_overlap}"
        )
    if options.tile is not None and options.tile != 0 and options.tile < MIN_TILE:
        parser.error(f"argument --tile: must be at least {MIN_TILE} pixels, got {options.tile}")
    return options


def add_runtime_options(parser: OptionParser) -> None:
    """What computes."""
    group = parser.add_argument_group("runtime")
    group.add_argument(
        "--runtime", default="torch", choices=["torch", "onnx", "openvino"],
        help="what computes; onnx (ONNX Runtime) and openvino read a folder of `dataseg export`, "
        "on the CPU (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--precision", choices=["fp32", "int8"],
        help="graph of that folder; int8 where there is one, by default",
    )  # fmt: skip


def add_threshold_options(parser: OptionParser) -> None:
    """What is left out of the results."""
    group = parser.add_argument_group("thresholds")
    group.add_argument(
        "--threshold", type=share, default=0.5, metavar="SCORE",
        help="least score of what is written. panoptic: class probability; instance: class "
        "probability times the mean probability in the mask; semantic: without effect, every pixel "
        "gets a class (0..1, default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--mask_threshold", type=share, default=0.5, metavar="PROBABILITY",
        help="least probability of a pixel of a mask (panoptic, instance; 0..1, default "
        "%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--overlap_threshold", type=share, default=0.8, metavar="SHARE",
        help="least share of its own mask that a segment keeps beside better ones (panoptic; "
        "0..1, default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--nms", type=share, default=DEFAULT_IOU, metavar="IOU",
        help="leave out an object whose mask has a larger IoU than this with a better one of its "
        "category (instance; 0..1, 1 keeps all, default %(default)s)",
    )  # fmt: skip


def add_image_options(parser: OptionParser) -> None:
    """How images are read and cut."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--tile", type=int, nargs="?", const=0, metavar="PIXELS",
        help="segment larger images in windows of so many pixels; without a number, of the model's "
        "image size",
    )  # fmt: skip
    group.add_argument(
        "--tile_overlap",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="share of a window that the next one has too (default %(default)s)",
    )
    group.add_argument(
        "--value_range", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="values that become black and white in images of more than 8 bits; by default those "
        "of training",
    )  # fmt: skip


def add_annotation_options(parser: OptionParser) -> None:
    """The files for labeling tools."""
    group = parser.add_argument_group("files for labeling tools")
    group.add_argument(
        "--annotations", nargs="+", default=[], choices=ANNOTATION_FORMATS, metavar="FORMAT",
        help=f"also write these: {', '.join(ANNOTATION_FORMATS)}",
    )  # fmt: skip
    group.add_argument(
        "--outlines", default="polygons", choices=["polygons", "masks"],
        help="polygons where they tell every pixel and masks elsewhere, or masks alone",
    )  # fmt: skip
    group.add_argument(
        "--image_url_prefix",
        default=LOCAL_FILES,
        metavar="PREFIX",
        help="of Label Studio's image addresses (default %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
