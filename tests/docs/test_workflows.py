"""The public workflows: which Pythons they test, and what they are allowed to do."""

import re
from configparser import ConfigParser
from typing import Any

import pytest
import yaml

from helpers.paths import ROOT

WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
MAY_WRITE = {("release.yml", "publish"): {"id-token"}, ("release.yml", "release"): {"contents"}}


def workflow(name: str) -> dict[str, Any]:
    """As text, since YAML takes `on` for a truth value and 3.10 for a number."""
    loaded: dict[str, Any] = yaml.load(
        WORKFLOWS[name].read_text(encoding="utf-8"), Loader=yaml.BaseLoader
    )
    return loaded


def test_every_supported_python_is_tested() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    tested = [
        entry["python"]
        for entry in workflow("ci.yml")["jobs"]["fast"]["strategy"]["matrix"]["include"]
    ]
    assert tested == named
    assert config["options"]["python_requires"] == f">={tested[0]}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_allowed_beyond_need(name: str) -> None:
    content = workflow(name)
    assert content["permissions"] in ({}, {"contents": "read"})
    for job, settings in content["jobs"].items():
        allowed = settings.get("permissions", {})
        assert {what for what, how in allowed.items() if how == "write"} == MAY_WRITE.get(
            (name, job), set()
        ), job


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_checkout_leaves_a_token_behind(name: str) -> None:
    steps = [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)
