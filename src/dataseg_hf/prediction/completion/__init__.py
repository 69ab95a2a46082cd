"""What an annotation lacks, from a model's proposals, held to what the annotation has."""

from .classes import split_into_objects
from .objects import Completion, complete_boxes
from .sample import CompletedSample, ObjectNote, Source, complete_sample
from .weak_objects import complete_points, complete_tags

__all__ = [
    "CompletedSample",
    "Completion",
    "ObjectNote",
    "Source",
    "complete_boxes",
    "complete_points",
    "complete_sample",
    "complete_tags",
    "split_into_objects",
]
