"""Demo of a DaTaSeg checkpoint: one model, any vocabulary, three tasks.

The checkpoint brings its own code, so this file needs no other package of the project. DATASEG_MODEL names it, a folder
or an id on the Hub; without it, `outputs/shapes` is taken, where the first example trains to.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from transformers import Pipeline, pipeline

DEFAULT_MODEL = Path("outputs/shapes")
INTRODUCTION = "# DaTaSeg\nOne segmentation model for many datasets: choose a task, and the words to segment by."
NO_MODEL = """# DaTaSeg
No model to show yet: {reason}

Train the first example, which takes minutes on a laptop and needs no download, then start the demo again:

    accelerate launch examples/cotrain.py
    python spaces/dataseg-demo/app.py

Or set `DATASEG_MODEL` to the folder or Hub id of another checkpoint (in a Space: Settings, Variables).
"""


def build_demo(model: str | Path | None) -> gr.Blocks:
    """The page for a checkpoint (folder or Hub id); for none, or a broken one, a page that says how to get one."""
    if model is None:
        return message_page(f"there is no folder `{DEFAULT_MODEL}`.")
    try:
        segmenter = pipeline("dataseg-segmentation", model=str(model), trust_remote_code=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        return message_page(f"`{model}` cannot be loaded ({reason[:300]}).")
    return demo_page(segmenter)


def message_page(reason: str) -> gr.Blocks:
    """Why there is no model, and how to get one."""
    with gr.Blocks(title="DaTaSeg") as page:
        gr.Markdown(NO_MODEL.format(reason=reason))
    return page


def demo_page(segmenter: Pipeline) -> gr.Blocks:
    """Image and choices on the left, segments on the right."""
    config = segmenter.model.config
    with gr.Blocks(title="DaTaSeg") as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="pil", image_mode="RGB", label="Image")
                task = gr.Radio(["panoptic", "semantic", "instance"], value="panoptic", label="Task")
                vocabulary = gr.Dropdown(
                    list(config.vocabularies), value=config.default_vocabulary, label="Vocabulary of the model"
                )
                words = gr.Textbox(
                    label="Or your own words", placeholder="cat, dog, grass", info="Used instead, where given."
                )
                threshold = gr.Slider(0, 1, value=0.5, step=0.05, label="Least score of a segment (not for semantic)")
                button = gr.Button("Segment", variant="primary")
            with gr.Column():
                segments = gr.AnnotatedImage(label="Segments")
                table = gr.Dataframe(headers=["segment", "score", "share of the image"], label="Found")

        def segment(*choices: Any) -> tuple[Any, list[list[Any]]]:
            return segment_image(segmenter, *choices)

        button.click(segment, [image, task, vocabulary, words, threshold], [segments, table], api_name="segment")
    return page


def segment_image(
    segmenter: Pipeline, image: Image.Image | None, task: str, vocabulary: str, words: str, threshold: float
) -> tuple[tuple[Image.Image, list[tuple[np.ndarray, str]]], list[list[Any]]]:
    """The image with its named masks, and a table row per segment; `gr.Error` for what the user can change."""
    if image is None:
        raise gr.Error("Choose an image first.", print_exception=False)
    own_words = [word.strip() for word in words.split(",") if word.strip()]
    try:
        found = segmenter(image, subtask=task, vocabulary=own_words or vocabulary, threshold=threshold)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    total = Counter(segment["label"] for segment in found)
    met: Counter[str] = Counter()
    annotations, rows = [], []
    for segment in found:
        label = segment["label"]
        met[label] += 1
        name = label if total[label] == 1 else f"{label} {met[label]}"
        mask = np.asarray(segment["mask"]) / 255
        annotations.append((mask, name))
        score = "" if segment["score"] is None else f"{segment['score']:.2f}"
        rows.append([name, score, f"{mask.mean():.1%}"])
    return (image, annotations), rows


def chosen_model() -> str | Path | None:
    """DATASEG_MODEL, or the default folder where it exists: its name must not be looked up on the Hub."""
    return os.environ.get("DATASEG_MODEL") or (DEFAULT_MODEL if DEFAULT_MODEL.is_dir() else None)


if __name__ == "__main__":
    build_demo(chosen_model()).launch()
