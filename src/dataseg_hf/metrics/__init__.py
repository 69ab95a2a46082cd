"""Metrics of the three outputs: panoptic quality, mean IoU, mask and box AP.

Every metric has `update` (one image), `merge` (the `state` of another process), `compute` and `reset`. `state` is a
plain dict of arrays or lists, which `torch.distributed.gather_object` carries. Values are fractions in 0..1; a metric
that is undefined, because nothing was there to measure, is `nan`.
"""

from .instances import MaskAP, instances_from_segments
from .panoptic import PanopticQuality
from .semantic import MeanIoU, semantic_map

__all__ = ["MaskAP", "MeanIoU", "PanopticQuality", "instances_from_segments", "semantic_map"]
