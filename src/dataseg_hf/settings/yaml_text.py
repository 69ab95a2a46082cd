"""YAML as people mean it: `1e-4` is a number, `no` and `on` are words, a key stands once."""

import re
from collections import Counter
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """The scalars of YAML 1.2 instead of PyYAML's 1.1, and no key twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - declared so by PyYAML

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        count = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and count[key.value] > 1:
                problem = f"the key '{key.value}' stands there twice; keep one"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # A number with leading zeros is a name, e.g. of an image.
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def read_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        yaml.YAMLError: for a text that is no YAML, and for a key that stands twice.
    """
    return yaml.load(text, _Loader)


def read_value(text: str) -> Any:
    """The value of a setting on the command line: YAML, or the text itself where that is meant."""
    try:
        value = read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if value is None:
        return None if text in ("null", "Null", "NULL", "~") else text  # not e.g. '#5'
    # YAML would cut ' #5' off a plain text
    return text if isinstance(value, str) and text[:1] not in "'\"" else value
