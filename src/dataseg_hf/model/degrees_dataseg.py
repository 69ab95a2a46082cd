"""How much an annotation says of one object."""

from enum import IntEnum


class Degree(IntEnum):
    """What is known of an object beside its class, from the least to the most."""

    TAG = 0
    """Only that the image shows an object of its class."""
    POINT = 1
    """Points inside of it: one, or several along a scribble."""
    BOX = 2
    """Its box."""
    MASK = 3
    """Its mask."""


__all__ = ["Degree"]
