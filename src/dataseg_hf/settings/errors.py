"""What pydantic found wrong, as lines that name the full key, the reason and the remedy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..messages import shown

Path: TypeAlias = tuple[str | int, ...]
"""Where a setting stands, e.g. `("datasets", "mine", "ratio")`."""

RENAMED = {"colour_jitter": "color_jitter", "licence": "license", "normalised": "normalized"}
"""Settings that had another name in earlier versions."""

_REASONS = {
    "missing": "is required",
    "int_type": "must be a whole number, not {value}",
    "float_type": "must be a number, not {value}",
    "float_parsing": "must be a number, not {value}",
    "invalid_key": "a key must be text; put it in quotes",
    "finite_number": "must be a finite number, not {value}",
    "bool_type": "must be true or false, not {value}",
    "bool_parsing": "must be true or false, not {value}",
    "string_type": "must be text, not {value}; put it in quotes",
    "list_type": "must be a list, e.g. [a, b], not {value}",
    "tuple_type": "must be a list, e.g. [a, b], not {value}",
    "dict_type": "must be a mapping, e.g. {{a: 1}}, not {value}",
    "model_type": "must be a mapping of settings, not {value}",
    "dataclass_type": "must be a mapping of settings, not {value}",
    "greater_than_equal": "must be {ge} or more, not {value}",
    "less_than": "must be below {lt}, not {value}",
    "less_than_equal": "must be at most {le}, not {value}",
    "too_short": "must have at least {min_length} value(s)",
    "too_long": "must have at most {max_length} value(s)",
    "literal_error": "{value} is not allowed; choose from {expected}",
}


def problems(error: ValidationError, settings: Any, kind: type) -> dict[Path, str]:
    """What is wrong with settings, by where it stands: one reason for each place, and none for what
    stands around it.

    Args:
        settings: what was given.
        kind: the class of settings that it was to become.
    """
    found: dict[Path, str] = {}
    for details in error.errors():
        path = _path(details, settings)
        found.setdefault(path, _reason(details, path, kind))
    within = {path[:length] for path in found for length in range(1, len(path))}
    # of the numbers in a list, one: the others are often wrong for the same reason
    lists: set[Path] = set()
    kept: dict[Path, str] = {}
    for path, reason in found.items():
        in_list = isinstance(path[-1], int) if path else False
        if path in within or (in_list and path[:-1] in lists):
            continue
        kept[path] = reason
        if in_list:
            lists.add(path[:-1])
    return kept


def line(path: Path, reason: str) -> str:
    """One line of text. A reason that names its own key needs no other."""
    key = ".".join(map(str, path))
    return f"{key}{reason}" if not key or reason.startswith(".") else f"{key}: {reason}"


def unknown_key(
    key: str, allowed: Iterable[str], said: str = "unknown option", dashes: str = ""
) -> str:
    """What to say of a key that is none: its new name, a similar one, or what is allowed.

    Args:
        dashes: that stand before keys on the command line.
    """
    names = sorted(allowed)
    if RENAMED.get(key) in names:
        return f"is now called '{dashes}{RENAMED[key]}'; rename it"
    similar = get_close_matches(key, names, n=1)
    if similar:
        return f"{said}; did you mean '{dashes}{similar[0]}'?"
    return f"{said}; allowed are {[dashes + name for name in names]}"


def _path(details: ErrorDetails, settings: Any) -> Path:
    """The key of an error, without the names that pydantic gives the members of a union."""
    path: list[str | int] = []
    value = settings
    for part in details["loc"]:
        inside = _inside(value, part)
        if inside:
            path.append(part)
            (value,) = inside
    if details["type"] == "missing":
        path.append(details["loc"][-1])
    return tuple(path)


def _inside(value: Any, part: str | int) -> list[Any]:
    """The value under a key or number, in a list; an empty list where there is none."""
    if isinstance(value, Mapping):
        return [value[part]] if part in value else []
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(part, int):
        return [value[part]] if part < len(value) else []
    return []


def _reason(details: ErrorDetails, path: Path, kind: type) -> str:
    context = details.get("ctx", {})
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_key(str(path[-1]), fields_of(kind_at(kind, path[:-1])))
    if details["type"] == "value_error":
        return str(context["error"])
    value = shown(details["input"])
    if details["type"] == "greater_than":
        least = "positive" if context["gt"] == 0 else f"above {context['gt']:g}"
        return f"must be {least}, not {value}"
    if details["type"] not in _REASONS:
        return f"{value} cannot be used: {details['msg']}"
    numbers = {name: f"{v:g}" for name, v in context.items() if isinstance(v, int | float)}
    return _REASONS[details["type"]].format(**{**context, **numbers, "value": value})


# --- classes of settings --------------------------------------------------------------------------


def fields_of(kind: type) -> dict[str, Any]:
    """The types of the settings in a class, by name."""
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return get_type_hints(kind)


def kind_in(annotation: Any) -> type | None:
    """The class of settings in a type, e.g. `TrainEntry` in `dict[str, TrainEntry]`."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return annotation
    kinds: Iterator[type | None] = map(kind_in, get_args(annotation))
    return next((kind for kind in kinds if kind is not None), None)


def kind_at(kind: type, path: Path) -> type:
    """The class of the settings that stand at a path."""
    names = iter(path)
    for name in names:
        annotation = fields_of(kind)[str(name)]
        kind = kind_in(annotation) or kind
        if get_origin(annotation) in (dict, list):
            next(names, None)  # the name or number of an entry
    return kind
