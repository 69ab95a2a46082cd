"""Category names as files and people write them."""

import re

_SEPARATORS = re.compile(r"[\s_-]+")


def plain_name(name: str) -> str:
    """A name without what files differ in: case, spaces, hyphens and underscores."""
    return _SEPARATORS.sub("", name).casefold()
