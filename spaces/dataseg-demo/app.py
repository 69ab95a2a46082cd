"""Demo of a DaTaSeg checkpoint: one model, any vocabulary, three tasks.

The checkpoint brings its own code. DATASEG_MODEL names it, a folder or an id on the Hub; without
it, `outputs/shapes` is taken, where the first example trains to. Of `dataseg_hf` only the two
modules imported below are needed: publishing puts them into the Space.
"""

import html
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image
from transformers import Pipeline, pipeline

from dataseg_hf.data.coco_format import coco_annotations, coco_categories, coco_file
from dataseg_hf.pictures.overlay import segments_overlay
from dataseg_hf.prediction.segments import (
    Segment,
    cropped,
)

os.environ.setdefault("GRADIO_RUN_HISTORY", "False")  # nothing is kept, not even in the browser

HERE = Path(__file__).parent
DEFAULT_MODEL = Path("outputs/shapes")
TASKS = ["panoptic", "semantic", "instance"]
NOTHING = "nothing"

MAX_MEGABYTES = 20  # of a file
MAX_PIXELS = 50_000_000  # of an image, before it is decoded
LONGEST_SIDE = 1280  # larger images are reduced
MAX_WORDS, LONGEST_WORD = 100, 60
MAX_SEGMENTS = 40  # shown; the best ones
OPACITY = 0.6  # of a segment
MAX_WAITING = 20  # in the queue
KEPT_SECONDS = 600  # uploads and results

OTHER_SIZE = 4  # times the size of the training images, or a part of it: then the user is warned
NMS = 0.7  # docs/evaluation.md, "Repeated objects"

INTRODUCTION = (
    "# DaTaSeg\nOne segmentation model for many datasets: choose a task, and the words to segment "
    "by."
)
NO_MODEL = """# DaTaSeg
No model to show yet: {reason}

Train the first example, which takes minutes on a laptop and needs no download, then start the demo
again:

    make cotrain
    make demo

Or set `DATASEG_MODEL` to the folder or Hub id of another checkpoint (in a Space: Settings,
Variables).
"""

# A file that is too large is refused before the image input sees it, whose own refusal leaves
# errors in the console.
HEAD = """<script>
for (const kind of ["change", "drop"]) document.addEventListener(kind, event => {
    const files = [...((event.dataTransfer ?? event.target).files ?? [])];
    if (files.every(file => file.size <= LIMIT)) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    if (kind == "change") event.target.value = "";
    document.querySelector("#too-large").click();
}, true);
</script>""".replace("LIMIT", str(MAX_MEGABYTES * 10**6))


# --- pages ----------------------------------------------------------------------------------------


def build_demo(model: str | Path | None) -> gr.Blocks:
    """The page for a checkpoint (folder or Hub id); for none, or a broken one, a page that says how
    to get one.
    """
    if model is None:
        return message_page(f"there is no folder `{DEFAULT_MODEL}`.")
    try:
        segmenter = pipeline("dataseg-segmentation", model=str(model), trust_remote_code=True)
    except Exception as error:
        # whatever a checkpoint and its code may raise: the page must not stay blank
        reason = html.escape(" ".join(str(error).split())[:300])
        return message_page(f"`{model}` cannot be loaded ({type(error).__name__}: {reason}).")
    return demo_page(segmenter, str(model))


def message_page(reason: str) -> gr.Blocks:
    """Why there is no model, and how to get one."""
    with gr.Blocks(title="DaTaSeg", analytics_enabled=False) as page:
        gr.Markdown(NO_MODEL.format(reason=reason))
    return page


def demo_page(segmenter: Pipeline, name: str) -> gr.Blocks:
    """Image and choices on the left, on the right the segments of one task, or of two side by
    side.
    """
    config = segmenter.model.config
    with gr.Blocks(
        title="DaTaSeg", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as page:
        gr.Markdown(INTRODUCTION)
        gr.HTML(about_model(name, config))
        with gr.Accordion("The words it knows", open=False):
            gr.HTML(known_words(config))
        with gr.Row():
            (image, task, other, *rest), button, too_large = choices_column(config)
            with gr.Column(scale=3), gr.Row():
                first = result_column("Segments", visible=True)
                second = result_column("Compared with", visible=False)

        def segment(
            image: Any,
            task: str,
            vocabulary: str,
            words: str = "",
            threshold: float = 0.5,
            nms: float = NMS,
        ) -> Iterator[tuple[Any, ...]]:
            """Segments of an image, their table, a picture of them with a legend, and COCO json."""
            yield from results(segmenter, image, task, vocabulary, words, threshold, nms)

        def compare(
            image: Any, task: str, vocabulary: str, words: str, threshold: float, nms: float
        ) -> Iterator[tuple[Any, ...]]:
            if task == NOTHING:
                yield (None, [], None, None)
            else:
                yield from results(segmenter, image, task, vocabulary, words, threshold, nms)

        def refuse() -> None:
            raise gr.Error(
                f"A file may have {MAX_MEGABYTES} MB at most: reduce the image.",
                print_exception=False,
            )

        # not preprocessed, so that this app says what is wrong with a file
        settings = {"preprocess": False, "concurrency_id": "model", "concurrency_limit": 1}
        done = button.click(
            segment, [image, task, *rest], first[1:], api_name="segment", **settings
        )
        done.success(
            compare, [image, other, *rest], second[1:], api_visibility="private", **settings
        )
        other.change(
            lambda chosen: gr.update(visible=chosen != NOTHING),
            other,
            second[0],
            api_visibility="private",
            queue=False,
        )
        too_large.click(refuse, api_visibility="private")
    return page


def choices_column(config: Any) -> tuple[list[Any], Any, Any]:
    """The column of what a user chooses.

    Returns:
        Image, task, task to compare with, vocabulary, words, least score and overlap; the button to
        segment; the hidden one that says that a file is too large.
    """
    with gr.Column(scale=2):
        image = gr.Image(label="Image", sources=["upload", "clipboard"], height=320)
        task = gr.Radio(TASKS, value="panoptic", label="Task")
        other = gr.Radio([NOTHING, *TASKS], value=NOTHING, label="Compare with")
        vocabulary = gr.Dropdown(
            list(config.vocabularies),
            value=config.default_vocabulary,
            label="Vocabulary of the model",
        )
        words = gr.Textbox(
            label="Or your own words",
            placeholder="cat, dog, grass",
            info=f"Used instead, where given; up to {MAX_WORDS}, with commas.",
        )
        threshold = gr.Slider(
            0, 1, value=0.5, step=0.05, label="Least score of a segment (not for semantic)"
        )
        nms = gr.Slider(
            0, 1, value=NMS, step=0.05,
            label="Overlap (IoU) above which an object repeats a better one and is left out "
                "(instance)",
        )  # fmt: skip
        button = gr.Button("Segment", variant="primary")
        too_large = gr.Button(elem_id="too-large", visible="hidden")
        if example_rows(config):
            examples = gr.Examples(example_rows(config), [image, vocabulary, task])
            # words typed before would be used instead of the example's vocabulary
            examples.load_input_event.then(
                lambda: "", None, words, api_visibility="private", queue=False
            )
    return [image, task, other, vocabulary, words, threshold, nms], button, too_large


def about_model(name: str, config: Any) -> str:
    """HTML: which model this is, and what it was trained on."""
    sets = training_sets(config)
    if not sets:
        trained = "The checkpoint does not say what it was trained on; its card may."
    else:
        trained = f"Trained on {', '.join(map(set_text, sets))}."
    if only_drawn(sets):
        trained += (
            " <b>These are drawn shapes only: in a photograph it names what is not there.</b>"
        )
    return f"<p>Model: <b>{html.escape(name)}</b>. {trained}</p>"


def set_text(entry: dict[str, Any]) -> str:
    """HTML about one set of the training."""
    images = "streamed images" if entry.get("images") is None else f"{entry['images']} images"
    return html.escape(
        f"{entry['name']} ({images} of {entry['image_size']} pixels; {entry['annotation']})"
    )


def known_words(config: Any) -> str:
    """HTML: the names of each stored vocabulary."""
    parts = [
        f"<p><b>{html.escape(name)}</b>: {html.escape(', '.join(stored['labels']))}</p>"
        for name, stored in config.vocabularies.items()
    ]
    encoder = (config.text_encoder or {}).get("kind")
    if encoder in (None, "precomputed"):
        parts.append("<p>Other words have no embedding in this model.</p>")
    elif encoder.startswith("hashed"):
        parts.append("<p>Other words are compared by their letters, not by what they mean.</p>")
    else:
        parts.append("<p>Other words are understood as far as its text encoder tells.</p>")
    return "".join(parts)


def example_rows(config: Any) -> list[list[str]]:
    """Image, vocabulary and task of the examples that show what the model knows.

    An example is named after its vocabulary; a model without that vocabulary was not trained on
    such images.
    """
    files = sorted((HERE / "examples").glob("*.png"))
    return [
        [str(file), file.stem, "instance" if file.stem.endswith("boxes") else "panoptic"]
        for file in files
        if file.stem in config.vocabularies
    ]


def training_sets(config: Any) -> list[dict[str, Any]]:
    """What the checkpoint says it was trained on; checkpoints of earlier versions say nothing."""
    return list(getattr(config, "training_sets", None) or [])


def only_drawn(sets: Sequence[dict[str, Any]]) -> bool:
    """Whether all images of the training were synthetic scenes."""
    return bool(sets) and all(entry.get("drawn") for entry in sets)


def unlike_training(size: tuple[int, int], config: Any) -> str | None:
    """What to tell about an image of a kind or size that the training did not show, or None."""
    sets = training_sets(config)
    if not sets:
        return None
    sides = [entry["image_size"] for entry in sets]
    if only_drawn(sets) and max(size) > OTHER_SIZE * max(sides):
        return (
            f"This model was trained on drawn shapes only, in images of {max(sides)} pixels; this "
            f"one has {size[0]} x "
            f"{size[1]}. What it says of a photograph means nothing."
        )
    if max(size) * OTHER_SIZE < min(sides):
        return (
            f"The image has {size[0]} x {size[1]} pixels, those of the training had {min(sides)}: "
            "it is enlarged, and "
            "results may be poor."
        )
    return None


def result_column(title: str, visible: bool) -> list[Any]:
    """The column of one result: itself, segments to hover over, table, picture and json to
    download.
    """
    with gr.Column(visible=visible, min_width=320) as column:
        segments = gr.AnnotatedImage(label=title, format="png")
        table = gr.Dataframe(
            headers=["segment", "score", "area", "share"],
            column_widths=["43%", "17%", "22%", "18%"],
            label="Found (areas in pixels)",
            interactive=False,
            wrap=True,
        )
        with gr.Row():
            picture = gr.DownloadButton("Picture (PNG)")
            coco = gr.DownloadButton("COCO json")
    return [column, segments, table, picture, coco]


# --- segmenting -----------------------------------------------------------------------------------


def results(
    segmenter: Pipeline,
    upload: Any,
    task: str,
    vocabulary: str | None,
    words: str,
    threshold: float,
    nms: float,
) -> Iterator[tuple[Any, list[list[Any]], str, str]]:
    """Yields once what a result column shows; its files live until the next step, by when they were
    taken over.

    Raises:
        gr.Error: for what the user can change, as text that holds no HTML.
    """
    try:
        image = read_image(uploaded_file(upload), segmenter.image_processor)
        own_words = parse_words(words)
        if not own_words and vocabulary is None:
            raise ValueError("Choose a vocabulary of the model, or type words of your own.")
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ValueError(f"The least score must lie in 0..1, not {threshold!r:.20}.")
        found = segmenter(
            image, subtask=task, vocabulary=own_words or vocabulary, threshold=threshold, nms=nms
        )
    except (OSError, ValueError) as error:
        raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error
    warning = unlike_training(image.size, segmenter.model.config)
    if warning:
        gr.Warning(warning)
    if not found:
        gr.Info("Nothing was found with such a score: lower the least score.")
    names, is_thing = categories(segmenter, vocabulary, own_words)
    segments = [
        cropped(np.asarray(one["mask"]) > 0, names.index(one["label"]), one["score"])
        for one in found[:MAX_SEGMENTS]
    ]
    titles = numbered([names[segment.label_id] for segment in segments])
    with tempfile.TemporaryDirectory() as folder:
        picture, coco = Path(folder) / "segments.png", Path(folder) / "segments.json"
        segments_overlay(image, segments, names).save(picture)
        coco.write_text(json.dumps(coco_content(image, segments, names, is_thing)))
        yield (
            annotated(image, segments, titles),
            table_rows(image, segments, titles),
            str(picture),
            str(coco),
        )


def uploaded_file(upload: Any) -> Path:
    """The file of an upload as Gradio describes it; ValueError for none, or one that was not
    uploaded to this app.
    """
    if upload is None:
        raise ValueError("Choose an image first.")
    path = Path(str(upload.get("path") if isinstance(upload, dict) else None)).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise ValueError("Upload the image: neither files of the server nor addresses are read.")
    return path


def read_image(path: str | Path, image_processor: Any) -> Image.Image:
    """RGB, upright, no larger than is shown, read as in training.

    Raises:
        ValueError: for a file that is no image, or too many pixels; the message is for the user.
    """
    try:
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(
                    f"The image has {file.width} x {file.height} pixels; at most "
                    f"{MAX_PIXELS // 1_000_000} million "
                    "are taken. Reduce it first."
                )
            image = image_processor.read_image(file)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("This file is no image that can be read. Try a JPEG or PNG.") from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image


def parse_words(text: str | None) -> list[str]:
    """The words typed, without repetition; none where nothing was typed.

    Raises:
        ValueError: for too many, too long ones, or none among the commas; the message is for the
            user.
    """
    text = str(text or "")
    words = [" ".join(word.split()) for word in re.split(r"[,;\n]", text)]
    distinct = list(dict.fromkeys(word for word in words if word))
    if text.strip() and not distinct:
        raise ValueError(
            "There is no word between the commas: type some, or leave the field empty."
        )
    if len(distinct) > MAX_WORDS:
        raise ValueError(
            f"These are {len(distinct)} words; at most {MAX_WORDS} are taken. Leave some out."
        )
    for word in distinct:
        if len(word) > LONGEST_WORD:
            raise ValueError(
                f"'{word[:20]}...' is longer than {LONGEST_WORD} letters. Put commas between words."
            )
        if not any(letter.isalnum() for letter in word):
            raise ValueError(f"'{word}' holds no letter or digit: there is nothing to look for.")
    return distinct


def categories(
    segmenter: Pipeline, vocabulary: str | None, words: Sequence[str]
) -> tuple[list[str], list[bool]]:
    """Names and thing flags of the vocabulary in use; typed words are things."""
    if words:
        return list(words), [True] * len(words)
    stored = segmenter.model.config.vocabularies[vocabulary]
    return list(stored["labels"]), list(stored["is_thing"])


def numbered(labels: Sequence[str]) -> list[str]:
    """Labels, numbered where one occurs more than once."""
    total = Counter(labels)
    met: Counter[str] = Counter()
    titles = []
    for label in labels:
        met[label] += 1
        titles.append(label if total[label] == 1 else f"{label} {met[label]}")
    return titles


# --- showing --------------------------------------------------------------------------------------


def annotated(
    image: Image.Image, segments: Sequence[Segment], titles: Sequence[str]
) -> tuple[Image.Image, list[tuple[np.ndarray, str]]]:
    """What `gr.AnnotatedImage` takes."""
    whole = slice(0, image.height), slice(0, image.width)
    return image, [
        (segment.within(*whole) * OPACITY, title)
        for segment, title in zip(segments, titles, strict=True)
    ]


def table_rows(
    image: Image.Image, segments: Sequence[Segment], titles: Sequence[str]
) -> list[list[Any]]:
    """Title, score, area and share of the image per segment."""
    return [
        [
            title,
            "" if segment.score is None else f"{segment.score:.2f}",
            segment.area,
            f"{segment.area / (image.width * image.height):.1%}",
        ]
        for segment, title in zip(segments, titles, strict=True)
    ]


def coco_content(
    image: Image.Image, segments: Sequence[Segment], names: Sequence[str], is_thing: Sequence[bool]
) -> dict[str, Any]:
    """COCO's instances format; the size is the one that was segmented."""
    size = (image.height, image.width)
    entry = {"id": 1, "file_name": "image", "height": size[0], "width": size[1]}
    return coco_file([entry], coco_annotations(segments, 1, size), coco_categories(names, is_thing))


# --- starting -------------------------------------------------------------------------------------


def chosen_model() -> str | Path | None:
    """DATASEG_MODEL, or the default folder where it exists: its name must not be looked up on the
    Hub.
    """
    return os.environ.get("DATASEG_MODEL") or (DEFAULT_MODEL if DEFAULT_MODEL.is_dir() else None)


def launch(page: gr.Blocks, **options: Any) -> Any:
    """Serve a page within the limits above; options as of `Blocks.launch`."""
    return page.queue(max_size=MAX_WAITING).launch(
        max_file_size=f"{MAX_MEGABYTES}mb", head=HEAD, **options
    )


if __name__ == "__main__":
    launch(build_demo(chosen_model()))
