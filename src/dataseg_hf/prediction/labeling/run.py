"""Labeling all images of a folder, batch by batch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ...data.readers.images import read_rgb
from ...data.sample import BadSampleError
from ...files.writing import replace_file
from ..teachers import Teacher
from .annotation import AnnotationFiles
from .entry import ENTRY_FILE, dataset_entry, entry_text, write_image_list
from .folder import LabelingFolder
from .journal import Batch
from .summary import SUMMARY_FILE, Summary


def label_images(
    teacher: Teacher, folder: LabelingFolder, images: Mapping[str, Path], batch_size: int
) -> Summary:
    """Label the images that have no labels yet, and write the files of all.

    Batches are cut from the sorted names, so that a labeling that was stopped goes on with the same
    batches and gives the same files. Images that could not be read are tried again, last.

    Args:
        teacher: of the labels.
        folder: as it was opened for them.
        images: by name, their path below the folder of images without the ending.
        batch_size: images at once.
    """
    journal, settings = folder.journal, folder.settings
    files = AnnotationFiles(folder.path, teacher.kind, settings.names, settings.is_thing)
    pending = [name for name in sorted(images) if name not in journal.done]
    pending.sort(key=lambda name: name in journal.unread)
    done = len(images) - len(pending)
    with tqdm(total=len(images), initial=done, unit="image") as bar:
        for first in range(0, len(pending), batch_size):
            batch = {name: images[name] for name in pending[first : first + batch_size]}
            journal.add(_labeled(teacher, files, batch, settings.images))
            bar.update(len(batch))
    files.finish(journal.entries())
    return _finished(folder, images)


def _labeled(
    teacher: Teacher, files: AnnotationFiles, images: Mapping[str, Path], root: str
) -> Batch:
    """Label some images and write their maps."""
    pixels: dict[str, NDArray[np.uint8]] = {}
    unread: dict[str, str] = {}
    for name, path in images.items():
        try:
            pixels[name] = read_rgb(path, path)
        except BadSampleError as error:
            unread[name] = " ".join(str(error).split())
    found = teacher.label([Image.fromarray(one) for one in pixels.values()])
    done = [
        files.add(name, images[name].relative_to(root).as_posix(), pixels[name].shape[:2], labels)
        for name, labels in zip(pixels, found, strict=True)
    ]
    return Batch(done, unread)


def _finished(folder: LabelingFolder, images: Mapping[str, Path]) -> Summary:
    """Write the entry and the summary."""
    labeled = sorted(folder.journal.done)
    listed = len(labeled) < len(images) and write_image_list(folder.path, labeled)
    entry = dataset_entry(folder, listed)
    replace_file(folder.path / ENTRY_FILE, entry_text(folder.path.name, entry))
    summary = Summary.of(folder.settings, folder.journal)
    replace_file(folder.path / SUMMARY_FILE, json.dumps(summary.as_dict(), indent=2) + "\n")
    return summary
