"""That the page on the architecture names the files that there are."""

import re

from helpers.paths import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src/dataseg_hf"


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_each_file_that_ships_with_a_checkpoint_is_in_one_row() -> None:
    _, _, table = section("The files of `model/`").partition("|---|---|\n")
    named = re.findall(r"`(\w+)`", table)
    files = [path.name.removesuffix("_dataseg.py") for path in PACKAGE.glob("model/*_dataseg.py")]
    assert sorted(named) == sorted(files)


def test_each_room_is_in_the_table() -> None:
    rooms = re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)
    assert sorted(rooms) == sorted(
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()
    )


def test_each_path_that_is_named_exists() -> None:
    paths = set(re.findall(r"`([\w.]+/[\w./]*)`", PAGE))
    assert "data/readers/registry.py" in paths
    tops = (ROOT, PACKAGE, *PACKAGE.iterdir())  # below the root, the package, or a room
    assert [path for path in paths if not any((top / path).exists() for top in tops)] == []
