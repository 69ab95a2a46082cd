"""Annotation files as a broken tool or a careless edit leaves them: random changes of JSON-like and
XML documents.
"""

import copy
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.0,
    0.5,
    -0.0,
    3,
    255,
    65_536,
    2**31,
    2**63,
    10**30,
    -(10**30),
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "3",
    "1.0",
    "-7",
    "nan",
    "1e400",
    "cat",
    "dog",
    "..",
    "/etc/passwd",
    "ü\u0000",
    "a" * 300,
    [],
    {},
    [[]],
    [1, 2],
    [None],
    ["x"],
    [[0, 0], [1, 1]],
    {"x": 1},
    [1e300] * 6,
)
"""What a value is replaced by."""


def mutated_json(document: Any, rng: random.Random) -> Any:
    """A copy of a document of dicts, lists and values with one to three random changes."""
    changed = [copy.deepcopy(document)]  # so that the whole of it is a place, too
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if places := _places(changed):
            rng.choice(_JSON_CHANGES)(*rng.choice(places), rng)
    return changed[0] if changed else None


def _places(root: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below the root."""
    found: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _replace(container: Any, key: Any, rng: random.Random) -> None:
    container[key] = copy.deepcopy(rng.choice(VALUES))


def _remove(container: Any, key: Any, rng: random.Random) -> None:
    del container[key]


def _repeat(container: Any, key: Any, rng: random.Random) -> None:
    if isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        container[f"{key}_"] = container[key]


def _scale(container: Any, key: Any, rng: random.Random) -> None:
    value = container[key]
    if isinstance(value, int | float):
        container[key] = rng.choice(
            (-value, value + 1, value * 2, value * 1000, value / 3, float(value), str(value))
        )
    elif isinstance(value, str):
        container[key] = rng.choice(
            (value[: len(value) // 2], value * 2, value.upper(), value + "x", " " + value)
        )
    elif isinstance(value, list):
        container[key] = rng.choice((value[:-1], value[::-1], value * 2, [value]))
    else:
        _replace(container, key, rng)


def _swap(container: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(container) if isinstance(container, dict) else range(len(container)))
    container[key], container[other] = container[other], container[key]


_JSON_CHANGES: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    _replace,
    _replace,
    _remove,
    _repeat,
    _scale,
    _swap,
)


def mutated_xml(text: str, rng: random.Random) -> bytes:
    """An XML document with one to three random changes of elements, attributes and texts, or of its
    bytes.
    """
    root = ET.fromstring(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if places := [(parent, child) for parent in root.iter() for child in parent]:
            rng.choice(_XML_CHANGES)(*rng.choice(places), rng)
    content = ET.tostring(root)
    return mutated_bytes(content, rng) if rng.random() < 0.1 else content


def _xml_value(value: str, rng: random.Random) -> str:
    other = rng.choice([str(v) for v in VALUES if "\0" not in str(v)])
    return rng.choice(
        (
            other,
            other,
            value[: len(value) // 2],
            value * 2,
            f"-{value}",
            f"{value}0",
            f"{value},",
            value.upper(),
        )
    )


def _change_attribute(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    if child.attrib:
        key = rng.choice(sorted(child.attrib))
        child.set(key, _xml_value(child.attrib[key], rng))
    else:
        child.text = _xml_value(child.text or "", rng)


def _remove_attribute(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    if child.attrib:
        del child.attrib[rng.choice(sorted(child.attrib))]
    else:
        parent.remove(child)


def _remove_element(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    parent.remove(child)


def _repeat_element(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    parent.append(copy.deepcopy(child))


def _rename_element(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    child.tag = rng.choice(("x", parent.tag, "image", "object", "mask", "points", "track"))


def _move_element(parent: ET.Element, child: ET.Element, rng: random.Random) -> None:
    parent.remove(child)
    (parent[0] if len(parent) else parent).append(child)


_XML_CHANGES: tuple[Callable[[ET.Element, ET.Element, random.Random], None], ...] = (
    _change_attribute,
    _change_attribute,
    _change_attribute,
    _remove_attribute,
    _remove_element,
    _repeat_element,
    _rename_element,
    _move_element,
)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut short, with a piece twice, or with a few bytes changed."""
    at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    change = rng.randrange(4)
    if change == 0:
        return content[:at]
    if change == 1:
        return content[:to] + content[at:]
    if change == 2:
        return content[:at] + content[to:]
    changed = bytearray(content)
    for _ in range(min(len(changed), rng.randrange(1, 5))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def mutated_lines(text: str, rng: random.Random) -> str:
    """A text of lines of words with one to three random changes of words."""
    lines = [line.split(" ") for line in text.splitlines()]
    changed = mutated_json(lines, rng)
    if not isinstance(changed, list):
        return str(changed)
    words = [line if isinstance(line, list) else [line] for line in changed]
    return "\n".join(
        " ".join(str(word) for word in line) for line in words if "\0" not in str(line)
    )
