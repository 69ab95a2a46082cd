"""The notes of a release, out of the changelog."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataseg_hf.version import __version__
from helpers.paths import ROOT

SCRIPT = ".github/scripts/release_notes.py"
CHANGELOG = """# Changelog

The format is that of Keep a Changelog.

## Unreleased
- Not yet.

## 1.1.0 - 2031-02-03
Words before the lists.

### Added
- **One**: `code`

### Fixed
- Two

## [1.0.0] - 2030-01-02
- The first.
"""


def run(root: Path, tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / SCRIPT, tag], capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository at version 1.1.0, with the script."""
    for name, text in {
        "src/dataseg_hf/version.py": '__version__ = "1.1.0"\n',
        "CHANGELOG.md": CHANGELOG,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / SCRIPT).parent.mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, tmp_path / SCRIPT)
    return tmp_path


def set_version(project: Path, version: str) -> None:
    (project / "src/dataseg_hf/version.py").write_text(f'"""Doc."""\n\n__version__ = "{version}"\n')


def test_the_notes_are_the_section_of_the_version(project: Path) -> None:
    done = run(project, "v1.1.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == "Words before the lists.\n\n### Added\n- **One**: `code`\n\n### Fixed\n- Two\n"
    )


def test_the_last_section_ends_with_the_file(project: Path) -> None:
    set_version(project, "1.0.0")
    assert run(project, "v1.0.0").stdout == "- The first.\n"


@pytest.mark.parametrize("tag", ["v1.0.0", "1.1.0", "v1.1.0rc1", "v1.1"])
def test_a_tag_of_another_version_is_refused(project: Path, tag: str) -> None:
    done = run(project, tag)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the tag is {tag}, but version.py says 1.1.0" in done.stderr


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("", "has no text under '## 2.0.0 - DATE'"),
        ("## 2.0.0 - 2031-02-03\n\n", "has no text under '## 2.0.0 - DATE'"),
        (
            "## 2.0.0 - unreleased\n- Much.\n\n",
            "dates 2.0.0 'unreleased': write '## 2.0.0 - YYYY-MM-DD'",
        ),
        ("## 2.0.0\n- Much.\n\n", "dates 2.0.0 ''"),
    ],
)
def test_a_version_that_is_not_ready_is_refused(project: Path, section: str, says: str) -> None:
    set_version(project, "2.0.0")
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("## 1.1.0", section + "## 1.1.0"))
    done = run(project, "v2.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_the_changelog_has_a_section_on_the_version_of_the_code(project: Path) -> None:
    """With today's date put in, the real files give the notes of the next release."""
    set_version(project, __version__)
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = text.replace(f"## {__version__} - unreleased", f"## {__version__} - 2031-02-03")
    (project / "CHANGELOG.md").write_text(dated)
    done = run(project, f"v{__version__}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100
