"""Category names as files and people write them."""

from ..model.words_dataseg import plain_name as plain_words


def plain_name(name: str) -> str:
    """A name without what files differ in: case, spaces, hyphens and underscores."""
    return plain_words(name).replace(" ", "")
