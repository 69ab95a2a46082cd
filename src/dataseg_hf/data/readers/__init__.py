"""Readers: files of one format -> a dataset of samples, one function per format. Pixels are read on
loading.

`read_coco_instances` and the others, and `READERS` by name, are imported when they are asked for:
they need `datasets` and torch, which metrics on files do not.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from . import registry

    if name == "READERS" or name.startswith("read_"):
        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
