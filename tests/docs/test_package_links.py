"""What the release workflow does to the README and setup.cfg before it builds the packages."""

import importlib.util
import re
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

from helpers.paths import ROOT

REPOSITORY, COMMIT = "https://example.org/owner/name", "0123abc"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = ROOT / ".github/scripts/package_links.py"
    spec = importlib.util.spec_from_file_location("package_links", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets(markdown: str) -> list[str]:
    """Where links and images lead."""
    found = []
    for token in MarkdownIt().parse(markdown):
        for part in token.children or []:
            if part.type in ("link_open", "image"):
                found.append(str(part.attrs.get("href") or part.attrs.get("src")))
    return found


def test_every_link_of_the_readme_leads_to_a_file_of_the_commit(script: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, after = (
        targets(text) for text in (readme, script.absolute_links(readme, REPOSITORY, COMMIT))
    )
    assert len(before) == len(after) > 20
    pages = re.compile(rf"{REPOSITORY}/(?:blob|raw)/{COMMIT}/([^#]+)(?:#.+)?")
    for old, new in zip(before, after, strict=True):
        if re.match("[a-z]+:", old):
            assert new == old
        else:
            named = pages.fullmatch(new)
            assert named, new
            assert (ROOT / named[1]).is_file(), new


def test_kinds_of_links(script: ModuleType) -> None:
    text = "![a](b.png) [c\nd](e.md#f) [g](https://h.org) [i](#j) [k](mailto:l@m.org)"
    assert script.absolute_links(text, REPOSITORY, COMMIT) == (
        f"![a]({REPOSITORY}/raw/{COMMIT}/b.png) [c\nd]({REPOSITORY}/blob/{COMMIT}/e.md#f) "
        "[g](https://h.org) [i](#j) [k](mailto:l@m.org)"
    )


def test_both_files_are_changed_and_nothing_else_of_the_metadata(
    script: ModuleType, tmp_path: Path
) -> None:
    for name in ("README.md", "setup.cfg"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    script.main(REPOSITORY, COMMIT, tmp_path)
    assert f"({REPOSITORY}/blob/{COMMIT}/CONTRIBUTING.md)" in (tmp_path / "README.md").read_text()
    before, after = ConfigParser(), ConfigParser()
    before.read(ROOT / "setup.cfg")
    after.read(tmp_path / "setup.cfg")
    urls = after["metadata"].pop("project_urls").split("\n")
    assert f"Source = {REPOSITORY}" in urls
    assert before == after
