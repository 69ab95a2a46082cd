"""Models that label photographs in their own words: those of transformers, and ours.

`load_teacher` chooses what fits a checkpoint's architecture; a `Teacher` gives the labels of
images.
"""

from .classes import LabelClasses
from .families import Teacher
from .labels import Boxes, ClassMap, ImageLabels
from .loading import TeacherOptions, load_teacher, stated_license, teacher_digest

__all__ = [
    "Boxes",
    "ClassMap",
    "ImageLabels",
    "LabelClasses",
    "Teacher",
    "TeacherOptions",
    "load_teacher",
    "stated_license",
    "teacher_digest",
]
