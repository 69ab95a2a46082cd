"""Demo of a DaTaSeg checkpoint: one model, any vocabulary, three tasks.

A checkpoint on the Hub brings its own code. DATASEG_MODEL names it, a folder or an id on the Hub;
without it, the small model for photographs in the project's own `checkpoints/` is taken. Of
`dataseg_hf` only a few modules are needed then: publishing puts them into the Space.
"""

import html
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

sys.path.insert(0, str(Path(__file__).parent))  # also where this file is not the program itself

from demo_about import about_model, example_rows, known_words, unlike_training
from demo_inputs import MAX_WORDS, InputError
from demo_results import NMS, Choices, Result, segmented
from demo_turns import MAX_WAITING
from gradio.utils import get_upload_folder
from transformers import Pipeline, pipeline

os.environ.setdefault("GRADIO_RUN_HISTORY", "False")  # nothing is kept, not even in the browser

HERE = Path(__file__).parent
DEFAULT_MODEL = Path("checkpoints/photos-small")
NOTHING = "nothing"

MAX_MEGABYTES = 20  # of a file
KEPT_SECONDS = 600  # uploads and results

NO_MODEL = """# DaTaSeg
No model to show yet: {reason}

In a clone of the project, `make demo` shows the small model for photographs that is kept there. Or
train the first example, which takes minutes on a laptop and needs no download, and show that:

    make cotrain
    DATASEG_MODEL=outputs/shapes make demo

`DATASEG_MODEL` is the folder or Hub id of any checkpoint (in a Space: Settings, Variables).
"""
TOO_LARGE = f"A file may have {MAX_MEGABYTES} MB at most: reduce the image."
NOTHING_FOUND = "Nothing was found with such a score: lower the minimum score."

# problems are shown without a request to the queue, and are no endpoints
QUIET = {"api_visibility": "private", "queue": False}
# not preprocessed, so that this app says what is wrong with a file
SEGMENTING = {"preprocess": False, "concurrency_id": "model", "concurrency_limit": 1}
# on a phone, what came of it may be out of sight
INTO_VIEW = """() => setTimeout(() => document.querySelector(".problem, .result .image-container")
    ?.scrollIntoView({block: "nearest", behavior: "smooth"}), 100)"""


# --- pages ----------------------------------------------------------------------------------------


def build_demo(model: str | Path | None) -> gr.Blocks:
    """The page for a checkpoint (folder or Hub id); for none, or a broken one, a page that says how
    to get one.
    """
    if model is None:
        return message_page(f"there is no folder `{DEFAULT_MODEL}`.")
    try:
        segmenter = pipeline("dataseg-segmentation", model=str(model), trust_remote_code=True)
    except Exception as error:  # whatever a checkpoint and its code raise: the page is never blank
        reason = html.escape(" ".join(str(error).split())[:300])
        return message_page(f"`{model}` cannot be loaded ({type(error).__name__}: {reason}).")
    return DemoPage(segmenter, str(model)).blocks


def message_page(reason: str) -> gr.Blocks:
    """Why there is no model, and how to get one."""
    with gr.Blocks(title="DaTaSeg", analytics_enabled=False) as page:
        gr.Markdown(NO_MODEL.format(reason=reason))
    return page


class ResultView:
    """Where one result is shown: picture to hover over, legend, downloads, table."""

    def __init__(self, title: str, visible: bool) -> None:
        self.title = title
        with gr.Column(visible=visible, min_width=300, elem_classes="result") as self.column:
            self.segments = gr.AnnotatedImage(label=title, format="png", show_legend=False)
            with gr.Column(visible=False) as self.details:
                self.legend = gr.HTML(padding=False)
                with gr.Row():
                    self.picture = gr.DownloadButton("Picture (PNG)", size="sm", min_width=120)
                    self.coco = gr.DownloadButton("COCO json", size="sm", min_width=120)
                self.table = gr.Dataframe(
                    headers=["segment", "score", "area", "share"],
                    column_widths=["37%", "21%", "21%", "21%"],
                    label="Found (areas in pixels)",
                    interactive=False,
                    wrap=True,
                )
        files = [self.picture, self.coco]
        self.outputs = [self.segments, self.details, self.legend, self.table, *files]

    def shown(self, result: Result, task: str, folder: Path) -> dict[Any, Any]:
        """The updates that show a result, whose files are written into a folder."""
        picture, coco = result.save(folder)
        return {
            self.segments: gr.update(value=result.named_picture(), label=f"{self.title}: {task}"),
            self.details: gr.update(visible=True),
            self.legend: result.legend(),
            self.table: result.table(),
            self.picture: picture,
            self.coco: coco,
        }

    def emptied(self) -> dict[Any, Any]:
        """The updates that show none."""
        return {self.segments: None, self.details: gr.update(visible=False)}


class DemoPage:
    """The page of a model: an image and choices, and the segments of one task, or of two."""

    def __init__(self, segmenter: Pipeline, name: str) -> None:
        self.segmenter, self.config = segmenter, segmenter.model.config
        self.problems: dict[str, Any] = {}
        kept = (KEPT_SECONDS, KEPT_SECONDS)
        with gr.Blocks(title="DaTaSeg", analytics_enabled=False, delete_cache=kept) as self.blocks:
            gr.HTML(about_model(name, self.config), elem_id="about")
            with gr.Column(elem_id="desk"):
                with gr.Column(elem_id="input"):
                    self._place_image()
                with gr.Column(elem_id="choices"):
                    self._place_choices()
                with gr.Column(elem_id="go"):
                    self.button = gr.Button("Segment", variant="primary")
                    self._place_problem("button")
                with gr.Column(elem_id="more"):
                    self._place_settings()
                with gr.Column(elem_id="result"):
                    self.note = gr.HTML(visible=False, elem_classes="note", padding=False)
                    with gr.Row():
                        self.first = ResultView("Segments", visible=True)
                        self.second = ResultView("Compared with", visible=False)
            self._place_endpoint()
            self._connect()

    def _place_problem(self, place: str) -> None:
        self.problems[place] = gr.HTML(visible=False, elem_classes="problem", padding=False)

    def _place_image(self) -> None:
        self.image = gr.Image(label="Image", sources=["upload", "clipboard"], height=210)
        self._place_problem("image")
        self.examples, self.rows = None, example_rows(self.config)
        if self.rows:
            files = [[file] for file, *_ in self.rows]
            self.examples = gr.Examples(files, [self.image], label="Or try one of these")

    def _place_choices(self) -> None:
        names = list(self.config.vocabularies)
        self.task = gr.Radio(self.segmenter.subtasks, value="panoptic", label="Task")
        self.vocabulary = gr.Dropdown(
            names, value=self.config.default_vocabulary, label="Vocabulary of the model"
        )
        self.words = gr.Textbox(
            label="Or your own words",
            placeholder="cat, dog, grass",
            info=f"Used instead of the vocabulary; up to {MAX_WORDS}, with commas.",
        )
        self._place_problem("words")

    def _place_settings(self) -> None:
        with gr.Accordion("All names it knows", open=False):
            gr.HTML(known_words(self.config))
        with gr.Accordion("More settings", open=False):
            self.other = gr.Radio(
                [NOTHING, *self.segmenter.subtasks], value=NOTHING, label="Compare with"
            )
            self.threshold = gr.Slider(
                0, 1, value=0.5, step=0.05, label="Minimum score of a segment (not for semantic)"
            )
            self.nms = gr.Slider(
                0, 1, value=NMS, step=0.05,
                label="Overlap (IoU) above which an object repeats a better one and is left out "
                "(instance)",
            )  # fmt: skip

    def _place_endpoint(self) -> None:
        """What programs call, with results as data and mistakes as errors."""
        parts = [gr.AnnotatedImage(format="png"), gr.Dataframe(), gr.File(), gr.File()]
        for part in parts:
            part.visible = False
        inputs = [self.image, self.task, self.vocabulary, self.words, self.threshold, self.nms]
        trigger = gr.Button(visible=False)
        trigger.click(self.segment, inputs, parts, api_name="segment", **SEGMENTING)

    def _connect(self) -> None:
        """What happens when."""
        choices = [self.vocabulary, self.words, self.threshold, self.nms]
        shown = [self.note, *self.problems.values(), *self.first.outputs]
        settings = {**SEGMENTING, "api_visibility": "private"}
        triggers = [self.button.click]
        if self.examples is not None:
            picked = self.examples.load_input_event.then(
                lambda chosen: (*self.rows[chosen[0]][1:], ""),  # typed words would win
                self.examples.dataset, [self.vocabulary, self.task, self.words], **QUIET,
            )  # fmt: skip
            triggers.append(picked.then)
        for trigger in triggers:
            done = trigger(self.show, [self.image, self.task, *choices], shown, **settings)
            compared = [self.image, self.other, *choices]
            done.then(self.compare, compared, self.second.outputs, **settings)
            done.then(None, None, None, js=INTO_VIEW, **QUIET)
        self.other.change(
            lambda task: gr.update(visible=task != NOTHING), self.other, self.second.column, **QUIET
        )
        self.image.upload(self._solved, None, self.problems["image"], **QUIET)
        self.words.change(self._solved, None, self.problems["words"], **QUIET)
        too_large = gr.Button(elem_id="too-large", visible="hidden")
        too_large.click(lambda: self._problem(TOO_LARGE), None, self.problems["image"], **QUIET)

    # --- events

    def segment(
        self,
        image: Any,
        task: str,
        vocabulary: str,
        words: str = "",
        threshold: float = 0.5,
        nms: float = NMS,
    ) -> Iterator[tuple[Any, ...]]:
        """Segments of an image, their table, a picture of them with a legend, and COCO json."""
        yield from results(self.segmenter, image, task, vocabulary, words, threshold, nms)

    def show(self, image: Any, task: str, *choices: Any) -> Iterator[dict[Any, Any]]:
        """A result, or the problem beside what caused it."""
        updates = {self.note: gr.update(visible=False)}
        updates |= {problem: self._solved() for problem in self.problems.values()}
        try:
            result = segmented_upload(self.segmenter, image, Choices(task, *choices))
        except InputError as error:
            yield updates | {self.problems[error.place]: self._problem(str(error))}
            return
        notes = [unlike_training(result.image.size, self.config)]
        notes.append(None if result.segments else NOTHING_FOUND)
        text = html.escape(" ".join(filter(None, notes)))
        updates[self.note] = gr.update(value=text, visible=bool(text))
        with tempfile.TemporaryDirectory() as folder:
            yield updates | self.first.shown(result, task, Path(folder))

    def compare(self, image: Any, task: str, *choices: Any) -> Iterator[dict[Any, Any]]:
        """The second result, where there is one; its problems are those of the first."""
        if task == NOTHING:
            yield self.second.emptied()
            return
        try:
            result = segmented_upload(self.segmenter, image, Choices(task, *choices))
        except InputError:
            yield {part: gr.skip() for part in self.second.outputs}
            return
        with tempfile.TemporaryDirectory() as folder:
            yield self.second.shown(result, task, Path(folder))

    def _problem(self, message: str) -> Any:
        return gr.update(value=html.escape(message, quote=False), visible=True)

    def _solved(self) -> Any:
        return gr.update(value="", visible=False)


def segmented_upload(segmenter: Pipeline, image: Any, choices: Choices) -> Result:
    """The segments of a file that was uploaded to this app; InputError as of `segmented`."""
    return segmented(segmenter, image, choices, Path(get_upload_folder()).resolve())


def results(segmenter: Pipeline, image: Any, *choices: Any) -> Iterator[tuple[Any, ...]]:
    """What the endpoint gives for an upload and the fields of `Choices`, in their order.

    Raises:
        gr.Error: for what the user can change.
    """
    try:
        result = segmented_upload(segmenter, image, Choices(*choices))
    except InputError as error:
        text = html.escape(str(error), quote=False)
        raise gr.Error(text, print_exception=False) from error
    # the files live until the next step of the iterator, by when they were taken over
    with tempfile.TemporaryDirectory() as folder:
        yield result.masks(), result.table(), *result.save(Path(folder))


# --- starting -------------------------------------------------------------------------------------


def chosen_model() -> str | Path | None:
    """DATASEG_MODEL, or the default folder where it exists: its name must not be looked up on the
    Hub.
    """
    return os.environ.get("DATASEG_MODEL") or (DEFAULT_MODEL if DEFAULT_MODEL.is_dir() else None)


def launch(page: gr.Blocks, **options: Any) -> Any:
    """Serve a page within the limits above; options as of `Blocks.launch`."""
    script = (HERE / "page.js").read_text().replace("LIMIT", str(MAX_MEGABYTES * 10**6))
    return page.queue(max_size=MAX_WAITING).launch(
        max_file_size=f"{MAX_MEGABYTES}mb",
        head=f"<script>{script}</script>",
        css_paths=HERE / "style.css",
        **options,
    )


if __name__ == "__main__":
    launch(build_demo(chosen_model()))
