"""What the demo shows of an image: picture with names, legend, table, and files to download."""

import html
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from demo_inputs import (
    InputError,
    checked_share,
    checked_vocabulary,
    parse_words,
    read_image,
    uploaded_file,
)
from demo_kept import MAX_KEPT_BYTES, MAX_KEPT_FILES, keep_newest
from demo_turns import Turns
from PIL import Image
from transformers import Pipeline

from dataseg_hf.data.coco_format import coco_annotations, coco_categories, coco_file
from dataseg_hf.pictures.overlay import category_color, segments_overlay
from dataseg_hf.prediction.segments import Segment, cropped

TURNS = Turns()
MAX_SEGMENTS = 40  # shown; the best ones
OPACITY = 0.6  # of a mask
NMS = 0.7  # docs/evaluation.md, "Repeated objects"

Annotated = tuple[Image.Image, list[tuple[np.ndarray, str]]]
"""What `gr.AnnotatedImage` takes: an image, and masks [H, W] of its size with their titles."""


@dataclass(frozen=True)
class Choices:
    """What a user asks for; in this order the inputs of the endpoint, after the image."""

    task: str
    vocabulary: str | None
    words: str = ""
    threshold: float = 0.5
    nms: float = NMS


@dataclass(frozen=True)
class Result:
    """The segments of an image.

    Args:
        image: as it was segmented, W x H.
        segments: the best first.
        names: of the categories in use.
        is_thing: per category.
    """

    image: Image.Image
    segments: Sequence[Segment]
    names: Sequence[str]
    is_thing: Sequence[bool]

    @property
    def titles(self) -> list[str]:
        """Names of the segments, numbered where one occurs more than once."""
        labels = [self.names[segment.label_id] for segment in self.segments]
        total, met, titles = Counter(labels), Counter[str](), []
        for label in labels:
            met[label] += 1
            titles.append(label if total[label] == 1 else f"{label} {met[label]}")
        return titles

    def masks(self) -> Annotated:
        """The image as it is, and the masks."""
        whole = slice(0, self.image.height), slice(0, self.image.width)
        masks = [segment.within(*whole) * OPACITY for segment in self.segments]
        return self.image, list(zip(masks, self.titles, strict=True))

    def picture(self, legend: bool) -> Image.Image:
        """The image with segments and their names drawn over it."""
        return segments_overlay(
            self.image, self.segments, self.names, titles=self.titles, legend=legend
        )

    def named_picture(self) -> Annotated:
        """The picture without legend, and the masks at its size, to light them up."""
        picture = self.picture(legend=False)
        sized = []
        for mask, title in self.masks()[1]:
            resized = Image.fromarray(mask > 0).resize(picture.size, Image.Resampling.NEAREST)
            sized.append((np.asarray(resized) * OPACITY, title))
        return picture, sized

    def legend(self) -> str:
        """HTML: the title of each segment beside the color that the picture gives it."""
        entries = [
            f'<li data-segment="{number}" tabindex="0">'
            f'<i style="background: rgb{category_color(segment.label_id)}"></i>'
            f"{html.escape(title)}</li>"
            for number, (segment, title) in enumerate(zip(self.segments, self.titles, strict=True))
        ]
        return f'<ul class="segments">{"".join(entries)}</ul>' if entries else ""

    def table(self) -> list[list[Any]]:
        """Title, score, area and share of the image per segment."""
        whole = self.image.width * self.image.height
        return [
            [
                title,
                "" if segment.score is None else f"{segment.score:.2f}",
                segment.area,
                f"{segment.area / whole:.1%}",
            ]
            for segment, title in zip(self.segments, self.titles, strict=True)
        ]

    def save(self, folder: Path) -> tuple[str, str]:
        """Write picture and COCO json into a folder; returns their paths."""
        picture, coco = folder / "segments.png", folder / "segments.json"
        self.picture(legend=True).save(picture)
        coco.write_text(json.dumps(self.coco_content()))
        return str(picture), str(coco)

    def coco_content(self) -> dict[str, Any]:
        """COCO's instances format; the size is the one that was segmented."""
        size = (self.image.height, self.image.width)
        entry = {"id": 1, "file_name": "image", "height": size[0], "width": size[1]}
        annotations = coco_annotations(self.segments, 1, size)
        return coco_file([entry], annotations, coco_categories(self.names, self.is_thing))


def segmented(segmenter: Pipeline, upload: Any, choices: Choices, uploads: Path) -> Result:
    """The segments of an upload.

    Args:
        upload: as Gradio describes a file.
        uploads: folder of the app's uploads and results.

    Raises:
        InputError: for what the user can change.
    """
    file = uploaded_file(upload, uploads)
    words = parse_words(choices.words)
    vocabulary = None if words else checked_vocabulary(choices.vocabulary, segmenter.model)
    threshold = checked_share(choices.threshold, "minimum score")
    nms = checked_share(choices.nms, "overlap")
    if choices.task not in segmenter.subtasks:
        given, tasks = str(choices.task)[:20], ", ".join(segmenter.subtasks)
        raise InputError("button", f"The task must be one of {tasks}, not '{given}'.")
    with TURNS.turn():
        keep_newest(uploads, MAX_KEPT_FILES, MAX_KEPT_BYTES, but=file)
        image = read_image(file, segmenter.image_processor)
        try:
            found = segmenter(
                image,
                subtask=choices.task,
                vocabulary=words or vocabulary,
                threshold=threshold,
                nms=nms,
            )
        except (OSError, ValueError) as error:
            raise InputError("words" if words else "button", str(error)[:500]) from error
    names, is_thing = categories(segmenter, vocabulary, words)
    segments = [
        cropped(np.asarray(one["mask"]) > 0, names.index(one["label"]), one["score"])
        for one in found[:MAX_SEGMENTS]
    ]
    return Result(image, segments, names, is_thing)


def categories(
    segmenter: Pipeline, vocabulary: str | None, words: Sequence[str]
) -> tuple[list[str], list[bool]]:
    """Names and thing flags of the vocabulary in use; typed words are things."""
    if words:
        return list(words), [True] * len(words)
    stored = segmenter.model.config.vocabularies[vocabulary]
    return list(stored["labels"]), list(stored["is_thing"])
