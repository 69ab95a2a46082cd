"""The license of the weights, which only the person who publishes them can choose."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from .provenance import Origin, started_from
from .record import Record, is_drawn

DRAWN_DATA_LICENSE = "apache-2.0"  # of the package, and of the scenes that it draws
CHOICES = (
    "apache-2.0 or mit (any use), cc-by-4.0 (any use, with credit), cc-by-sa-4.0 (what is made of "
    "them keeps the license), cc-by-nc-4.0 (no commercial use), other (terms of your own, which "
    "you add to the repository)"
)


def weights_license(
    record: Record, found: Sequence[Origin], license: str | None = None
) -> str | None:
    """The license to publish the weights under, None if it has to be asked for.

    Args:
        record: of its run. The license that a README.md in its folder states is kept.
        found: what the run started from.
        license: the one that was asked for, which comes first.

    Raises:
        ValueError: for a license that the Hub cannot know by this name, or a broken README.md.
    """
    _check_name(license)
    if license is None:
        license = _stated(record.folder / "README.md")
    if license is None and not found and _is_all_drawn(record.settings):
        license = DRAWN_DATA_LICENSE
    return license


def check_license(settings: Mapping[str, Any], license: str | None) -> None:
    """Refuse a run whose model could not be published at its end, before it is trained.

    Args:
        settings: of the run.
        license: that its model is to be published under.

    Raises:
        ValueError: for a license that is missing, or that the Hub cannot know by this name.
    """
    _check_name(license)
    if license is None and (started_from(settings) or not _is_all_drawn(settings)):
        raise ValueError(f"the weights need a license: {CHOICES}")


def license_request(record: Record, found: Sequence[Origin]) -> str:
    """Why the model cannot be published without a license, and what there is to choose from."""
    data = [f"{row['name']} ({row['license']})" for row in record.mix]
    data += [
        f"{origin.repo or 'a local checkpoint'} ({origin.license or 'license unknown'})"
        for origin in found
    ]
    made_from = ", ".join(data) or "data that is not known here"
    return (
        f"license: the weights need one; give it by --license (license= in Python): {CHOICES}. "
        f"The model was made from {made_from}, which may leave no free choice"
    )


def _check_name(license: str | None) -> None:
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(
            f"license: '{license}' is not how the Hub writes it: small letters, as in {CHOICES}"
        )


def _stated(card: Path) -> str | None:
    """The license in the front matter of a card, if there is one."""
    if not card.is_file():
        return None
    try:
        return ModelCard.load(card, ignore_metadata_errors=True).data.license
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{card}: its metadata cannot be read: {error}") from error


def _is_all_drawn(settings: Mapping[str, Any]) -> bool:
    """Whether a run trains on nothing but the scenes that this package draws."""
    entries = (settings.get("datasets") or {}).values()
    return bool(entries) and all(is_drawn(entry) for entry in entries)
