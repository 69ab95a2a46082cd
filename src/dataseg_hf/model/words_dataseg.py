"""Names that a user types: of vocabularies, categories and arguments, and what was meant by one
that is none.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MIN_LIKENESS = 0.85  # of two names, by difflib, from which one is taken for a slip of the other
MAX_LISTED = 40  # names in a message


def plain_name(name: str) -> str:
    """A name without what people write in different ways: case, blanks, hyphens, underscores."""
    return " ".join(re.split(r"[\s_\-]+", name.casefold())).strip()


def close_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another one; None where none is."""
    by_plain_name = {plain_name(one): one for one in known}
    close = difflib.get_close_matches(plain_name(name), by_plain_name, n=1, cutoff=MIN_LIKENESS)
    return by_plain_name[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: a question where a known name is like it, or
    nothing.
    """
    close = close_name(name, known)
    return "" if close is None else f"; did you mean '{close}'?"


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first ones of many."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


# --- vocabularies: name -> {"labels": [...], "is_thing": [...]}, as a config stores them ----------


def parse_vocabulary(text: str, stored: Mapping[str, Any]) -> str | list[str]:
    """What a line of text asks for: the name of a stored vocabulary, or the words between the
    commas.
    """
    return text.strip() if text.strip() in stored else parse_words(text)


def parse_words(text: str) -> list[str]:
    """The words between the commas of a text."""
    return [" ".join(word.split()) for word in text.split(",") if word.strip()]


def checked_words(words: object, stored: Mapping[str, Any] | None = None) -> list[str]:
    """The categories of a vocabulary as a list of names.

    Args:
        words: what the caller gave for them.
        stored: vocabularies, whose names are not taken for categories; those that are categories
            themselves excepted.

    Raises:
        ValueError: unless they are an ordered collection of names, or if one is nearly a
            vocabulary's name.
    """
    if isinstance(words, (str, bytes, Mapping, set, frozenset)) or not isinstance(words, Iterable):
        raise ValueError(
            f"a vocabulary must be a list of names, got {type(words).__name__} {words!r:.60}"
        )
    names = list(words)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(
            f"a vocabulary must be a list of names, got {type(wrong[0]).__name__} {wrong[0]!r:.60} "
            "in it"
        )
    for name in names:
        meant = meant_vocabulary(name, stored or {}, alone=len(names) == 1)
        if meant is not None:
            raise ValueError(
                f"'{name}' is no category of this model, but like the name of a vocabulary: did "
                f"you mean '{meant}'? A vocabulary is asked for by its name alone; to look for a "
                f"thing called so, write 'a {name}'"
            )
    return names


def checked_flags(is_thing: object, count: int) -> list[bool]:
    """Thing flags of `count` names, all true where None is given.

    Raises:
        ValueError: for what is no list of true and false.
    """
    if is_thing is None:
        return [True] * count
    # of a tensor or an array
    flags = is_thing.tolist() if hasattr(is_thing, "tolist") else is_thing
    if (
        not isinstance(flags, Sequence)
        or isinstance(flags, str)
        or not all(flag in (0, 1) for flag in flags)
    ):
        raise ValueError(
            f"`is_thing` must be a list of true and false, one per name, got {is_thing!r:.80}"
        )
    return [bool(flag) for flag in flags]


def meant_vocabulary(word: str, stored: Mapping[str, Any], alone: bool) -> str | None:
    """The stored vocabulary that a word seems to name, or None.

    A word alone is compared more strictly: so is a vocabulary asked for, and hardly ever one
    category.
    """
    plain = plain_name(word)
    if any(
        plain == plain_name(label)
        for vocabulary in stored.values()
        for label in vocabulary["labels"]
    ):
        return None
    for name in stored:
        if plain == plain_name(name):
            return name
    beginning = [name for name in stored if plain_name(name).startswith(plain)]
    if beginning and len(plain) > 3 and (alone or " " in plain):
        return beginning[0]
    # 'pet' among other words is a word even if 'pets' is a vocabulary; 'shapes_pan' for
    # 'shapes_panoptic' is none
    return close_name(word, [name for name in stored if alone or " " in plain_name(name)])


def unknown_vocabulary(name: str, stored: Mapping[str, Any]) -> str:
    """The message about a vocabulary that is not stored."""
    if not stored:
        return (
            "this model stores no vocabulary: name one with `add_vocabulary(name, words)`, or "
            "train it"
        )
    meant = meant_vocabulary(name, stored, alone=True)
    remedy = (
        f"did you mean '{meant}'?"
        if meant
        else f"words are given as a list: {parse_words(name) or ['cat', 'dog']}"
    )
    return f"no vocabulary '{name}' in this model; stored are {sorted(stored)}; {remedy}"


def places_of(
    words: Sequence[str], stored: Mapping[str, Any], first: str | None
) -> list[tuple[str, int] | None]:
    """For each word, the stored vocabulary that has it, `first` before the others, and its place
    there; or None.
    """
    place: dict[str, tuple[str, int]] = {}
    for name in sorted(stored, key=lambda name: name != first):
        for index, label in enumerate(stored[name]["labels"]):
            place.setdefault(plain_name(label), (name, index))
    return [place.get(plain_name(word)) for word in words]


def stored_names(stored: Mapping[str, Any]) -> list[str]:
    """All categories of the stored vocabularies, each once, in their order."""
    return list(
        dict.fromkeys(label for vocabulary in stored.values() for label in vocabulary["labels"])
    )


__all__ = [
    "checked_flags",
    "checked_words",
    "close_name",
    "did_you_mean",
    "listed",
    "meant_vocabulary",
    "parse_vocabulary",
    "parse_words",
    "places_of",
    "plain_name",
    "stored_names",
    "unknown_vocabulary",
]
