"""All settings with type, default and meaning, for `--help` and for the documentation page."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from .base import InWords, Settings
from .entries import ClassSettings, EvalEntry, Source, SpecSettings, TrainEntry
from .ready_configs import ready_configs
from .run import RunConfig

_SIMPLE = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any"}
_LIMITS = ((Gt, "gt", "above"), (Ge, "ge", "from"), (Lt, "lt", "below"), (Le, "le", "up to"))
_WIDTH = 100


@dataclass(frozen=True)
class Section:
    """Settings that stand at one place.

    Args:
        prefix: of their keys; ends in a dot.
    """

    title: str
    prefix: str
    kind: type[Settings]

    def rows(self) -> "Iterator[Row]":
        """The settings of the class itself, without those of the class that it extends."""
        inherited = {n for base in self.kind.__bases__ for n in getattr(base, "model_fields", {})}
        for name, field in self.kind.model_fields.items():
            if name not in inherited:
                yield Row(
                    self.prefix + name,
                    type_in_words(field.annotation, field.metadata),
                    _default_in_words(field),
                    " ".join((field.description or "").split()),
                )


@dataclass(frozen=True)
class Row:
    """A setting as the reference shows it; all in words."""

    key: str
    type: str
    default: str
    meaning: str


SECTIONS: Sequence[Section] = (
    Section("The run", "", RunConfig),
    Section("Each entry of `datasets` and of `evaluation`", "datasets.NAME.", Source),
    Section("Each entry of `datasets`", "datasets.NAME.", TrainEntry),
    Section("Each entry of `evaluation`", "evaluation.NAME.", EvalEntry),
    Section("A dataset that the catalog does not know", "datasets.NAME.spec.", SpecSettings),
    Section("Each of its classes", "datasets.NAME.spec.classes.", ClassSettings),
)


def help_text() -> str:
    """All settings, for the terminal."""
    parts = [
        "Train one DaTaSeg model on a mix of datasets.",
        "Settings come from a YAML file; the command line overrides them by the same keys, e.g. "
        "--learning_rate 0.0002 --datasets.mine.batch_size 16. A key without a value is true.",
        _entry(
            "--config",
            "text; default shapes",
            f"A YAML file, or the name of a ready config: {', '.join(ready_configs())}.",
        ),
    ]
    for section in SECTIONS:
        parts.append(f"{section.title}:".replace("`", ""))
        for row in section.rows():
            parts.append(_entry(f"--{row.key}", f"{row.type}; {_with_default(row)}", row.meaning))
    return "\n\n".join(part if "\n" in part else textwrap.fill(part, _WIDTH) for part in parts)


def markdown_tables() -> str:
    """All settings as a table for each section."""
    tables = []
    for section in SECTIONS:
        lines = [
            f"## {section.title}",
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for row in section.rows():
            cells = (f"`{row.key}`", row.type, row.default, row.meaning)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _entry(key: str, kind: str, meaning: str) -> str:
    text = textwrap.fill(meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {key}  ({kind})\n{text}".replace("`", "")


def _with_default(row: Row) -> str:
    return "required" if row.default == "required" else f"default {row.default}"


def _default_in_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`"


def type_in_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type as a reader of the settings understands it, e.g. "whole number, above 0"."""
    named = next((mark.words for mark in metadata if isinstance(mark, InWords)), None)
    words = named or _unlimited(annotation)
    for limit, name, said in _LIMITS:
        words += "".join(
            f", {said} {getattr(mark, name):g}" for mark in metadata if isinstance(mark, limit)
        )
    return words


def _unlimited(annotation: Any) -> str:
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_in_words(inner[0], inner[1:])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin is list or (origin is tuple and inner[-1] is ...):
        return f"list of {type_in_words(inner[0])}"
    if origin is tuple:
        return f"list of {len(inner)}: {type_in_words(inner[0])}"
    if origin is dict:
        return f"mapping of names to {type_in_words(inner[1])}"
    if inner:  # a union
        return " or ".join(type_in_words(one) for one in inner if one is not NoneType)
    return "settings"
