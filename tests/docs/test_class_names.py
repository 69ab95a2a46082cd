"""docs/class_names.md names the classes that the catalog has."""

import runpy

from helpers.paths import ROOT


def test_the_page_is_what_its_script_writes() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "class_names.py"))["page"]()
    assert (ROOT / "docs" / "class_names.md").read_text(encoding="utf-8") == written, (
        "run `python docs/class_names.py`"
    )
