"""The kinds of teachers: what each makes of the outputs of its model."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...model.mask_nms_dataseg import DEFAULT_IOU
from ...model.predictions_dataseg import SemanticPrediction
from ...model.proposals_dataseg import ImageProposals
from ...model.resizing_dataseg import Resize
from ...model.tasks_dataseg import TaskName, get_task
from ...model.thresholds_dataseg import Thresholds
from ..segments import Segment, Size
from ..tiling import segment_of_region
from .classes import LabelClasses
from .inputs import ImageInputs, InputMaker, batches_of_one_shape, joined
from .labels import Boxes, ClassMap, ImageLabels

BAND_ELEMENTS = 2**22  # scores of a class map that are enlarged at once: 16 MiB


class Teacher(ABC):
    """A model that labels images.

    Args:
        model: in evaluation mode, on its device.
        processor: of the checkpoint.
        inputs: what its image processor makes of an image.
        classes: of the labels.
        kind: of the labels, one of `kinds`.
        threshold: 0..1, least confidence of what is not void.
    """

    kinds: ClassVar[tuple[TaskName, ...]]
    """What it can give; the first by default."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        inputs: InputMaker,
        classes: LabelClasses,
        kind: TaskName,
        threshold: float,
    ) -> None:
        self.model, self.processor, self.inputs = model, processor, inputs
        self.classes, self.kind, self.threshold = classes, kind, threshold

    @torch.no_grad()
    def label(self, images: Sequence[Image.Image]) -> list[ImageLabels]:
        """The labels of each RGB image, at its own size."""
        inputs = [self.inputs(image) for image in images]
        found: dict[int, ImageLabels] = {}
        for places in batches_of_one_shape(inputs):
            batch = [inputs[place] for place in places]
            outputs = self.model(**joined(batch, self.model.device))
            found.update(zip(places, self.labels_of(outputs, batch), strict=True))
        return [found[place] for place in range(len(images))]

    @abstractmethod
    def labels_of(self, outputs: Any, batch: Sequence[ImageInputs]) -> Iterator[ImageLabels]:
        """The labels of each image of a batch from the model's outputs."""

    def _class_map(self, outputs: Tensor, confidence: Tensor) -> ClassMap:
        """Output and confidence per pixel [H, W] as classes; void where not confident enough."""
        scores = confidence.float().clamp(max=1).cpu().numpy()
        classes = self.classes.of_output[outputs.cpu().numpy()].astype(np.int32)
        classes[scores < self.threshold] = -1
        return ClassMap(classes, scores)


class SemanticTeacher(Teacher):
    """Logits for each class on a grid (`AutoModelForSemanticSegmentation`).

    A pixel has the likeliest class of the logits, padding cut off, resized bilinearly; its
    confidence is the softmax there.
    """

    kinds = ("semantic",)

    def labels_of(self, outputs: Any, batch: Sequence[ImageInputs]) -> Iterator[ImageLabels]:
        """See `Teacher.labels_of`."""
        for logits, one in zip(outputs.logits, batch, strict=True):
            grid = on_pixels(logits, one.canvas)
            yield self._class_map(*likeliest_classes(grid, one.valid_size, one.size))


def on_pixels(logits: Tensor, canvas: Size) -> Tensor:
    """Logits [L, h, w] whose cells lie on every n-th pixel, beginning with the first one, as
    [L, H, W] of the canvas; others, whose cells cover the canvas evenly, as they are.

    TensorFlow's padding does so: 513 pixels at stride 16 give 33 cells, of which the first and the
    last lie on the first and the last pixel. transformers resizes these, too, as if they covered
    the canvas evenly, which shifts them by up to half a cell.
    """
    grid = logits.shape[-2:]
    aligned = all(
        cells > 1 and pixels % cells and (pixels - 1) % (cells - 1) == 0
        for pixels, cells in zip(canvas, grid, strict=True)
    )
    if not aligned:
        return logits
    resized = F.interpolate(logits[None].float(), canvas, mode="bilinear", align_corners=True)
    return resized[0]


def likeliest_classes(logits: Tensor, valid_size: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Index and probability of the likeliest class per pixel: int64 and float32 [H, W].

    Works in bands of rows, as scores of all classes at full size may not fit into memory.

    Args:
        logits: [L, h, w].
        valid_size: [2], height and width of the image as fractions of the grid.
        size: H and W.
    """
    resize = Resize((logits.shape[-2], logits.shape[-1]), valid_size, size, logits.device)
    height = max(1, BAND_ELEMENTS // (len(logits) * size[1]))
    bands = [slice(top, min(top + height, size[0])) for top in range(0, size[0], height)]
    best = [
        resize.window(logits.float(), rows, slice(0, size[1])).softmax(0).max(0) for rows in bands
    ]
    return torch.cat([band.indices for band in best]), torch.cat([band.values for band in best])


class ProposalTeacher(Teacher):
    """Pairs of class and mask: `AutoModelForUniversalSegmentation` and its kin, and DaTaSeg.

    Results are those of this package's tasks: in panoptic labels a pixel in no mask is void.
    """

    kinds = ("panoptic", "semantic", "instance")

    def labels_of(self, outputs: Any, batch: Sequence[ImageInputs]) -> Iterator[ImageLabels]:
        """See `Teacher.labels_of`."""
        of_detr = not hasattr(outputs, "class_queries_logits")
        class_logits = outputs.logits if of_detr else outputs.class_queries_logits
        mask_logits = outputs.pred_masks if of_detr else outputs.masks_queries_logits
        is_thing = torch.from_numpy(self.classes.thing_outputs).to(class_logits.device)
        thresholds = Thresholds(self.threshold, nms=DEFAULT_IOU)
        for logits, masks, one in zip(class_logits, mask_logits, batch, strict=True):
            valid_size = one.valid_size.to(masks.device)
            proposals = ImageProposals(logits, masks, valid_size, is_thing)
            found = get_task(self.kind).predict(proposals, one.size, thresholds).on_host()
            if isinstance(found, SemanticPrediction):
                yield self._class_map(found.segmentation, found.sums)
            else:
                yield list(self._of_classes(segment_of_region(r) for r in found.regions()))

    def _of_classes(self, segments: Iterator[Segment]) -> Iterator[Segment]:
        """Segments by class instead of output, void ones left out."""
        for one in segments:
            label = int(self.classes.of_output[one.label_id])
            if label >= 0:
                yield Segment(label, one.score, one.mask, one.top, one.left)


class BoxTeacher(Teacher):
    """Detectors (`AutoModelForObjectDetection`), by their processor's own post-processing."""

    kinds = ("boxes",)

    def labels_of(self, outputs: Any, batch: Sequence[ImageInputs]) -> Iterator[ImageLabels]:
        """See `Teacher.labels_of`."""
        sizes = torch.tensor([one.size for one in batch])
        results = self.processor.post_process_object_detection(
            outputs, threshold=self.threshold, target_sizes=sizes
        )
        for found, one in zip(results, batch, strict=True):
            yield self._boxes(found, one.size)

    def _boxes(self, found: dict[str, Tensor], size: Size) -> Boxes:
        """Boxes clipped to the image, the best first; those without an area are left out."""
        corners = found["boxes"].float().cpu().numpy().reshape(-1, 4)
        corners = corners.clip(0, np.array([size[1], size[0]] * 2, np.float32))
        scores = found["scores"].float().cpu().numpy()
        labels = self.classes.of_output[found["labels"].cpu().numpy()]
        sides = corners[:, 2:] - corners[:, :2]
        order = np.argsort(-scores, kind="stable")
        kept = order[((labels >= 0) & (sides > 0).all(axis=1))[order]]
        return Boxes(corners[kept], labels[kept], scores[kept])
