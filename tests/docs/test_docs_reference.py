"""The API reference has what is public."""

import re

import pytest

import dataseg_hf
from helpers.paths import ROOT

REFERENCE = "\n".join(page.read_text() for page in sorted((ROOT / "docs/api").glob("*.rst")))


def test_every_name_that_the_package_exports_is_in_the_reference() -> None:
    named = set(re.findall(r"auto(?:class|function|data):: (?:[\w.]+\.)?(\w+)", REFERENCE))
    assert set(dataseg_hf.__all__) - {"__version__"} <= named


@pytest.mark.parametrize(
    "module",
    [
        "data.sample",
        "data.catalog",
        "data.readers",
        "data.shapes",
        "data.mixing",
        "metrics",
        "evaluation",
        "settings.run",
        "training.loop",
        "sharing.publishing",
        "sharing.export",
        "model.tasks_dataseg",
        "prediction.tiling",
    ],
)
def test_public_modules_are_in_the_reference(module: str) -> None:
    assert f"automodule:: dataseg_hf.{module}\n" in REFERENCE
