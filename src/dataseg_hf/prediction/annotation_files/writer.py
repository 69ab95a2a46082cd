"""Annotation files of many images, in several formats at once, with memory that does not grow with
the images.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ...files.writing import replaced
from .coco_instances import coco_entry, coco_file
from .cvat_xml import check_xml_text, cvat_entry, cvat_file
from .image import AnnotatedImage, AnnotationStyle
from .label_studio import label_studio_entry, label_studio_file, labeling_setup
from .labelme import labelme_file

AnnotationFormat: TypeAlias = Literal["coco_instances", "labelme", "cvat_xml", "label_studio"]
ANNOTATION_FORMATS: tuple[AnnotationFormat, ...] = get_args(AnnotationFormat)
"""Named as the readers are."""

LABELME_FOLDER = "labelme"
LABELING_SETUP = "label_studio_setup.xml"


@dataclass(frozen=True)
class _OneFile:
    """A format with one file for all images, made of one line of text for each of them."""

    name: str
    entry: Callable[[AnnotatedImage, AnnotationStyle, int], str]
    whole: Callable[[Iterable[str], AnnotationStyle], Iterator[str]]


_ONE_FILE: Mapping[AnnotationFormat, _OneFile] = {
    "coco_instances": _OneFile(
        "coco_instances.json", lambda image, style, _: coco_entry(image, style), coco_file
    ),
    "cvat_xml": _OneFile("cvat.xml", cvat_entry, cvat_file),
    "label_studio": _OneFile(
        "label_studio.json",
        lambda image, style, _: label_studio_entry(image, style),
        lambda entries, _: label_studio_file(entries),
    ),
}


class AnnotationWriter:
    """Writes the annotation files of a folder; several processes may share the images.

    `coco_instances.json`, `cvat.xml` and `label_studio.json` (with `label_studio_setup.xml`) have
    all images, and are there once `finish` has run; `labelme/NAME.json` is written at once. No file
    is ever half written under its name.

    Args:
        folder: where the files go; made if it is not there.
        formats: which files.
        style: categories, and how masks are told.
        rank: of this process.

    Raises:
        ValueError: for a category name that XML cannot hold.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[AnnotationFormat],
        style: AnnotationStyle,
        rank: int = 0,
    ) -> None:
        self.folder, self.formats, self.style = folder, tuple(dict.fromkeys(formats)), style
        self.empty_segments = 0
        """Segments without a pixel, which are left out."""
        self._pieces = {
            name: _piece(folder, name, rank) for name in self.formats if name in _ONE_FILE
        }
        if "cvat_xml" in self.formats or "label_studio" in self.formats:
            for category in style.categories:
                check_xml_text(category.name, "category name")
        self._begun = False

    def targets(self) -> list[Path]:
        """The files and folders that will be written."""
        names = [
            LABELME_FOLDER if name == "labelme" else _ONE_FILE[name].name for name in self.formats
        ]
        return [
            self.folder / name
            for name in (*names, *([LABELING_SETUP] if "label_studio" in self.formats else []))
        ]

    def check(self, file_names: Iterable[str]) -> None:
        """Refuse what would lose work: files that would be written over, and images that cannot be
        named.

        Args:
            file_names: of the images.

        Raises:
            FileExistsError: where the files of an earlier run are, which people may have corrected
                since.
            ValueError: for a file name that one of the formats cannot hold.
        """
        for path in self.targets():
            if path.is_dir() and not any(path.iterdir()):
                continue
            if path.exists():
                raise FileExistsError(
                    f"{path} is there, perhaps corrected by hand; move it, or choose another folder"
                )
        if "cvat_xml" in self.formats:
            for file_name in file_names:
                check_xml_text(file_name, "file name")

    def add(self, index: int, image: AnnotatedImage) -> None:
        """Write an image.

        Args:
            index: its place among all images; each process adds its own in ascending order.
            image: with its segments.

        Raises:
            ValueError: for a file name that XML cannot hold.
        """
        kept = [segment for segment in image.segments if segment.mask.any()]
        self.empty_segments += len(image.segments) - len(kept)
        image = replace(image, segments=kept)
        self._begin()
        for name, piece in self._pieces.items():
            entry = _ONE_FILE[name].entry(image, self.style, index)
            with piece.open("a", encoding="utf-8", newline="") as lines:
                lines.write(f"{index} {entry}\n")
        if "labelme" in self.formats:
            target = self.folder / LABELME_FOLDER / f"{image.name}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            with replaced(target) as file:
                file.write(labelme_file(image, self.style, target))

    def _begin(self) -> None:
        """Drop what a killed run left, before the first image; a writer without images and `finish`
        leaves no trace.
        """
        if not self._begun:
            self.folder.mkdir(parents=True, exist_ok=True)
            for piece in self._pieces.values():
                piece.write_text("")
            self._begun = True

    def finish(self, processes: int = 1) -> None:
        """Write the files that have all images, from what so many processes added; to be called by
        one of them.
        """
        self._begin()
        for name in self._pieces:
            pieces = [_piece(self.folder, name, rank) for rank in range(processes)]
            # a process may have had no image
            pieces = [piece for piece in pieces if piece.exists()]
            with replaced(self.folder / _ONE_FILE[name].name) as file:
                file.writelines(_ONE_FILE[name].whole(_Entries(pieces), self.style))
            for piece in pieces:
                piece.unlink()
        if "label_studio" in self.formats:
            with replaced(self.folder / LABELING_SETUP) as file:
                file.write(labeling_setup(self.style))


class _Entries:
    """The lines of all processes in the order of the images; may be gone through several times."""

    def __init__(self, pieces: Sequence[Path]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[str]:
        with ExitStack() as stack:
            files = [
                stack.enter_context(piece.open(encoding="utf-8", newline="\n"))
                for piece in self.pieces
            ]
            for line in heapq.merge(*files, key=lambda line: int(line.split(" ", 1)[0])):
                yield line.split(" ", 1)[1].removesuffix("\n")


def _piece(folder: Path, name: str, rank: int) -> Path:
    return folder / f"{name}.unfinished-{rank}"
