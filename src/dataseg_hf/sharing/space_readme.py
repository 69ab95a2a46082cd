"""The README of a published Space, which names the model that the Space shows."""

import re
from pathlib import Path

from huggingface_hub import SpaceCard


def space_readme(readme: Path, model: str) -> str:
    """The README of the demo for one model: named below the title and in the metadata, by which the
    Hub lists the Space on the model's page.

    Args:
        readme: of the demo, with metadata and a heading.
        model: id on the Hub.
    """
    card = SpaceCard.load(readme)
    card.data.models = [model]
    shown = f"This Space shows the model [{model}](https://huggingface.co/{model})."
    card.text = re.sub(
        r"^# .*$", lambda title: f"{title[0]}\n\n{shown}", card.text, count=1, flags=re.M
    )
    return str(card)
