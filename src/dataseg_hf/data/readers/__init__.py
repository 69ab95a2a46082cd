"""Readers: files of one format -> a dataset of samples, one function per format. Pixels are read on
loading.

`read_coco_instances` and the others, and `READERS` by name, are imported when they are asked for:
they need `datasets` and torch, which metrics on files do not.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # looked at before the import, which asks this function for the submodule
    if name != "READERS" and not name.startswith("read_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import registry

    return getattr(registry, name)
