"""What an annotation lacks, from a model's proposals, held to what the annotation has."""

from .classes import split_into_objects
from .completed_folder import CompletedFolder
from .finishing import CompletionSummary
from .objects import Completion, complete_boxes
from .proposing import Proposer
from .rows import SetRows, image_name
from .run import complete_images
from .sample import CompletedSample, ObjectNote, Source, complete_sample
from .second_layer import second_layer_segments, spec_of_mix
from .weak_objects import complete_points, complete_tags

__all__ = [
    "CompletedFolder",
    "CompletedSample",
    "Completion",
    "CompletionSummary",
    "ObjectNote",
    "Proposer",
    "SetRows",
    "Source",
    "complete_boxes",
    "complete_images",
    "complete_points",
    "complete_sample",
    "complete_tags",
    "image_name",
    "second_layer_segments",
    "spec_of_mix",
    "split_into_objects",
]
