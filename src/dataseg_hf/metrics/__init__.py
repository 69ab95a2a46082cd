"""Metrics of the three outputs: panoptic quality, mean IoU, mask and box AP.

Every metric has `update` (one image), `merge` (the `state` of another process), `compute` and
`reset`. `state` is a plain dict of arrays or dicts, which `merge_processes` carries between
processes. Results do not depend on the order of the images or on the number of processes, to the
last bit. Values are fractions in 0..1; a metric that is undefined, because nothing was there to
measure, is `nan`. `python -m dataseg_hf.metrics` scores files.
"""

from .distributed import merge_processes
from .instances import AveragePrecision, instances_from_segments
from .panoptic import PanopticQuality
from .semantic import MeanIoU, semantic_map

__all__ = [
    "AveragePrecision",
    "MeanIoU",
    "PanopticQuality",
    "instances_from_segments",
    "merge_processes",
    "semantic_map",
]
