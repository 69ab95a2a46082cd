"""Photographs labeled by a teacher, as a dataset that a mix reads like any other.

The folder of a labeling holds what it was started with, a line for each batch that is done, and the
annotation in a form that a reader of this package reads. It can be stopped at any moment and goes
on where it stopped.
"""

from .entry import ENTRY_FILE, read_entry
from .folder import LabelingFolder, LabelingSettings
from .run import label_images
from .summary import SUMMARY_FILE, Summary

__all__ = [
    "ENTRY_FILE",
    "SUMMARY_FILE",
    "LabelingFolder",
    "LabelingSettings",
    "Summary",
    "label_images",
    "read_entry",
]
