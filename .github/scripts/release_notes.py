"""Print the notes of a release: the section of CHANGELOG.md on the version that a tag names.

python .github/scripts/release_notes.py v0.1.0

The exit status is 1, and a message says why, if the tag is not that of the code's version, or the
section is missing, empty or not dated.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"^## +\[?(?P<version>[^\s\]]+)\]?(?: +- +(?P<date>.+?))? *$", re.MULTILINE)


def code_version(root: Path) -> str:
    """The version in the package's `version.py`, which stands there alone."""
    text = (root / "src/dataseg_hf/version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def sections(changelog: str) -> dict[str, tuple[str, str]]:
    """Date and text below the heading of each version; the date is empty where there is none."""
    headings = list(HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return {
        heading["version"]: (heading["date"] or "", changelog[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    }


def release_notes(root: Path, tag: str) -> str:
    """The text below the version's heading.

    Args:
        root: of the repository.
        tag: `v` and the version.

    Raises:
        ValueError: if this version is not ready to be released.
    """
    version = code_version(root)
    if tag != f"v{version}":
        raise ValueError(
            f"the tag is {tag}, but version.py says {version}: tag v{version}, or change version.py"
        )
    date, notes = sections((root / "CHANGELOG.md").read_text(encoding="utf-8")).get(
        version, ("", "")
    )
    if not notes:
        raise ValueError(f"CHANGELOG.md has no text under '## {version} - DATE': write it")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise ValueError(
            f"CHANGELOG.md dates {version} '{date}': write '## {version} - YYYY-MM-DD'"
        )
    return notes


if __name__ == "__main__":
    try:
        print(release_notes(ROOT, sys.argv[1]))
    except ValueError as error:
        sys.exit(str(error))
