"""Predicted segments as annotation files that labeling tools open: COCO, LabelMe, CVAT and Label
Studio.

Each format is read back by the reader of its name (`data.readers`) with the same pixels.
"""

from .image import LOCAL_FILES, AnnotatedImage, AnnotationStyle, Category, Outlines
from .writer import ANNOTATION_FORMATS, AnnotationFormat, AnnotationWriter

__all__ = [
    "ANNOTATION_FORMATS",
    "LOCAL_FILES",
    "AnnotatedImage",
    "AnnotationFormat",
    "AnnotationStyle",
    "AnnotationWriter",
    "Category",
    "Outlines",
]
