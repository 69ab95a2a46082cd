"""Writes docs/class_names.md: the classes of every dataset of the catalog.

python docs/class_names.py
"""

from collections import defaultdict
from pathlib import Path

from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.data.sample import DatasetSpec

PAGE = Path(__file__).parent / "class_names.md"
INTRODUCTION = """# Class names of the known datasets

Copy a name from here where settings or code want one: `category_map`, a vocabulary of your own, the
classes of your set that shall mean the same. Things are countable; stuff gets one segment per
image. The [catalog](catalog.md) has licenses, raw ids and formats.

<!-- written by docs/class_names.py -->
"""


def page() -> str:
    """The page: a section for each list of names, under the specs that share it."""
    specs = defaultdict(list)
    for name, spec in CATALOG.items():
        specs[_lists(spec)].append(name)
    return INTRODUCTION + "".join(
        _section(names, things, stuff) for (things, stuff), names in specs.items()
    )


def _lists(spec: DatasetSpec) -> tuple[str, str]:
    things = [info.name for info in spec.classes if info.is_thing]
    stuff = [info.name for info in spec.classes if not info.is_thing]
    return ", ".join(things), ", ".join(stuff)


def _section(names: list[str], things: str, stuff: str) -> str:
    lines = [f"\n## {', '.join(f'`{name}`' for name in names)}\n"]
    for kind, text in (("things", things), ("stuff", stuff)):
        if text:
            lines.append(f"\n**{text.count(', ') + 1} {kind}**: {text}\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
