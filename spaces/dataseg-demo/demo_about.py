"""What the page says of its model: what it knows, where it came from, what it was not shown."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

HERE = Path(__file__).parent
OTHER_SIZE = 4  # times the size of the training images, or a part of it: then the user is warned
MAX_LISTED = 4  # vocabularies and training sets in the two lines on top; all are listed below


def about_model(name: str, config: Any) -> str:
    """HTML on top of the page: what the model is and knows, and where it came from, in two lines.

    Args:
        name: folder or Hub id of the checkpoint; its model card is read for license and origin.
        config: of the model.
    """
    card = card_data(name)
    facts = [trained_on(config)]
    if card.get("base_model"):
        bases = card["base_model"]
        bases = [bases] if isinstance(bases, str) else bases
        facts.append(f"Started from {html.escape(', '.join(map(str, bases)))}.")
    facts.append(f"License: {html.escape(str(card.get('license') or 'not stated'))}.")
    if only_drawn(training_sets(config)):
        facts.append("<strong>Drawn shapes only: not for photographs.</strong>")
    return (
        f"<h1>DaTaSeg <code>{html.escape(name)}</code></h1>"
        f"<p>Panoptic, semantic and instance segmentation by {vocabularies(config)}"
        f"{own_words_too(config)}.</p>"
        f"<p>{' '.join(facts)}</p>"
    )


def card_data(name: str) -> Mapping[str, Any]:
    """The metadata of the checkpoint's model card; empty where there is none to be read."""
    card = Path(name) / "README.md" if Path(name).is_dir() else name
    try:
        return ModelCard.load(card).data.to_dict()
    except Exception:  # no card, no network, broken YAML: the demo works without
        return {}


def vocabularies(config: Any) -> str:
    """HTML: the stored vocabularies, each with its number of names."""
    stored = [
        f"<b>{html.escape(name)}</b> ({len(vocabulary['labels'])} names)"
        for name, vocabulary in config.vocabularies.items()
    ]
    count = "the vocabulary" if len(stored) == 1 else f"{len(stored)} vocabularies:"
    return f"{count} {shortened(stored)}"


def own_words_too(config: Any) -> str:
    """What the first line adds where the model can embed other words."""
    return ", or words of your own" if takes_words(config) else ""


def takes_words(config: Any) -> bool:
    """Whether the model can embed words that it does not store."""
    return (config.text_encoder or {}).get("kind") not in (None, "precomputed")


def trained_on(config: Any) -> str:
    """HTML: the sets of the training."""
    sets = training_sets(config)
    if not sets:
        return "The checkpoint does not say what it was trained on."
    return f"Trained on {shortened([set_text(entry) for entry in sets])}."


def shortened(entries: Sequence[str]) -> str:
    """The first entries, and how many more there are."""
    more = len(entries) - MAX_LISTED
    if more <= 1:
        return ", ".join(entries)
    return f"{', '.join(entries[:MAX_LISTED])} and {more} more"


def set_text(entry: Mapping[str, Any]) -> str:
    """HTML about one set of the training."""
    count = "" if entry.get("images") is None else f"{entry['images']:,} "
    kind = "drawn images" if entry.get("drawn") else "images"
    return html.escape(f"{entry['name']} ({count}{kind}, {entry['annotation']})")


def known_words(config: Any) -> str:
    """HTML: the names of each stored vocabulary."""
    parts = [
        f"<p><b>{html.escape(name)}</b>: {html.escape(', '.join(stored['labels']))}</p>"
        for name, stored in config.vocabularies.items()
    ]
    if not takes_words(config):
        parts.append("<p>Other words have no embedding in this model.</p>")
    elif config.text_encoder["kind"].startswith("hashed"):
        parts.append("<p>Other words are compared by their letters, not by what they mean.</p>")
    else:
        parts.append("<p>Other words are understood as far as its text encoder tells.</p>")
    return "".join(parts)


def example_rows(config: Any) -> list[list[str]]:
    """Image, vocabulary and task of the examples that show what the model knows.

    An example is named after its vocabulary, and what it shows if there are several; a model
    without that vocabulary was not trained on such images.
    """
    files = sorted((HERE / "examples").glob("*.png"))
    named = [(file, file.name.partition(".")[0]) for file in files]
    return [
        [str(file), vocabulary, "instance" if vocabulary.endswith("boxes") else "panoptic"]
        for file, vocabulary in named
        if vocabulary in config.vocabularies
    ]


def training_sets(config: Any) -> list[Mapping[str, Any]]:
    """What the checkpoint says it was trained on; checkpoints of earlier versions say nothing."""
    return list(getattr(config, "training_sets", None) or [])


def only_drawn(sets: Sequence[Mapping[str, Any]]) -> bool:
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
            f"one has {size[0]} x {size[1]}. What it says of a photograph means nothing."
        )
    if max(size) * OTHER_SIZE < min(sides):
        return (
            f"The image has {size[0]} x {size[1]} pixels, those of the training had {min(sides)}: "
            "it is enlarged, and results may be poor."
        )
    return None
