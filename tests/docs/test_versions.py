"""That the pages, the package's metadata and the tested versions name the same ranges."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from dataseg_hf.model.requirements_dataseg import OLDEST_TRANSFORMERS
from dataseg_hf.version import __version__
from helpers.paths import ROOT

STATED = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub")
"""Packages whose range the page on installing states."""
NOT_TESTED = {"torch"}
"""Their floor is not what `make test-oldest` runs; constraints-oldest.txt says why."""


def supported() -> dict[str, Requirement]:
    """What the package needs to run, its extras for users included, as setup.cfg states it."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    lines = [
        config["options"]["install_requires"],
        *(extras[name] for name in ("train", "text", "demo", "export")),
    ]
    return {
        r.name: r
        for r in (Requirement(line) for text in lines for line in text.split("\n") if line.strip())
    }


def pins(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text().splitlines()
    return {
        name: Version(version)
        for name, _, version in (line.partition("==") for line in lines if "==" in line)
        if not name.startswith("#")
    }


def floor(requirement: Requirement) -> Version:
    (lowest,) = [part.version for part in requirement.specifier if part.operator == ">="]
    return Version(lowest)


def named(packages: dict[str, Version], name: str) -> Version:
    """The pin of a package, however its name is written."""
    return {re.sub(r"[-_.]+", "-", key).lower(): pin for key, pin in packages.items()}[
        name.replace("_", "-").lower()
    ]


@pytest.mark.parametrize("requirement", supported().values(), ids=supported())
def test_the_tested_versions_are_in_the_supported_range(requirement: Requirement) -> None:
    oldest, newest = (
        named(pins(f), requirement.name) for f in ("constraints-oldest.txt", "constraints.txt")
    )
    assert oldest in requirement.specifier
    assert newest in requirement.specifier
    assert oldest <= newest


@pytest.mark.parametrize("requirement", supported().values(), ids=supported())
def test_the_oldest_supported_version_is_tested(requirement: Requirement) -> None:
    oldest = named(pins("constraints-oldest.txt"), requirement.name)
    lowest = floor(requirement)
    # 5.17 is proven by 5.17.0 or a bug fix of it
    assert requirement.name in NOT_TESTED or oldest.release[: len(lowest.release)] == lowest.release


def stated(requirement: Requirement) -> str:
    """A range in the page's words."""
    below = [part.version for part in requirement.specifier if part.operator == "<"]
    return f"{requirement.name} {floor(requirement)} " + (
        f"to below {below[0]}" if below else "or later"
    )


def test_the_page_on_installing_states_the_ranges() -> None:
    text = " ".join((ROOT / "docs/install.md").read_text().split())
    assert ", ".join(stated(supported()[name]) for name in STATED) in text


def test_python_is_the_same_everywhere() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    (oldest,) = re.findall(r"^>=([\d.]+)$", config["options"]["python_requires"])
    assert f"Python {oldest} or later" in (ROOT / "README.md").read_text()
    assert (
        f'target-version = "py{oldest.replace(".", "")}"' in (ROOT / "pyproject.toml").read_text()
    )


def test_the_message_names_the_supported_transformers() -> None:
    assert Version(OLDEST_TRANSFORMERS) == floor(supported()["transformers"])


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("spaces/*/requirements.txt")), ids=lambda file: file.parent.name
)
def test_spaces_need_what_the_package_does(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("-", "#"))]
    for requirement in map(Requirement, lines):
        if requirement.name != "dataseg-hf":
            assert requirement.specifier == supported()[requirement.name].specifier


def test_the_citation_is_that_of_this_version_and_of_the_readmes_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    (paper,) = citation["references"]
    authors = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"title = {{{paper['title']}}}, author = {{{' and '.join(authors)}}}" in readme
    assert f"year = {{{paper['year']}}}" in readme
