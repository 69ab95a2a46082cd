"""The tasks. Each is one class: what its labels hold, which categories MERGE fuses, how it is
trained, what it makes of the proposals at inference, and what can be measured on it.

A new task is one more class here, added to `TASKS` and `TaskName`. The rest of the package asks the
task instead of comparing names.

Torch is imported by the methods that compute with it, so that readers and command lines can ask
about tasks without loading it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

from .words_dataseg import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from .predictions_dataseg import Prediction
    from .proposals_dataseg import ImageProposals
    from .supervision_dataseg import LossInputs, LossResult
    from .thresholds_dataseg import Thresholds

TaskName: TypeAlias = Literal["panoptic", "semantic", "instance", "boxes", "objects"]
LabelForm: TypeAlias = Literal["segments", "classes", "masks", "boxes", "degrees"]
"""What labels hold: a segment per thing and per stuff class, a class per pixel, a mask per object,
a box per object, or of each object what is known of it. The first two are segment maps, in which a
pixel belongs to one segment."""
OutputKind: TypeAlias = Literal["panoptic", "semantic", "instance"]
"""What a result is: a map of segments, a class per pixel, or scored masks that may overlap."""
Size: TypeAlias = tuple[int, int] | None
"""Height and width of a result in pixels; None keeps the mask grid."""
Flags = TypeVar("Flags")  # bool [C], a tensor or an array


class Task:
    """What a task adds to the shared proposals. Stateless; `TASKS` holds one of each.

    Attributes:
        name: as in settings and in `DaTaSegModel.forward`.
        summary: of its labels, in words.
        label_form: what its labels hold.
        output: what `predict` gives.
        metrics: what can be measured where the truth is of this task.
        can_be_asked_for: whether users choose it by name at inference. Boxes and objects come out
            as instances, so nobody does.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    label_form: ClassVar[LabelForm]
    output: ClassVar[OutputKind]
    metrics: ClassVar[tuple[str, ...]]
    can_be_asked_for: ClassVar[bool] = True

    def merged_categories(self, is_thing: Flags) -> Flags:
        """Categories whose proposals MERGE into one mask, in training and at inference.

        Args:
            is_thing: bool [C], a tensor or an array.

        Returns:
            bool [C], of the same type.
        """
        raise NotImplementedError(f"task {self.name} defines no merge")

    def loss(self, inputs: LossInputs) -> LossResult:
        """Losses of all decoder layers."""
        raise NotImplementedError(f"task {self.name} defines no loss")

    def predict(self, proposals: ImageProposals, size: Size, thresholds: Thresholds) -> Prediction:
        """What the task makes of the proposals of an image.

        Args:
            proposals: of the image.
            size: of the result.
            thresholds: what a segment needs to be reported.
        """
        raise NotImplementedError(f"task {self.name} defines no prediction")

    @property
    def annotation(self) -> str:
        """Key of the model's `labels` that holds the annotation."""
        return "segment_map" if self.label_form in ("segments", "classes") else self.label_form

    @property
    def has_segment_map(self) -> bool:
        """Whether its labels are a map in which a pixel belongs to one segment, not objects."""
        return self.annotation == "segment_map"

    @property
    def may_overlap(self) -> bool:
        """Whether segments of a result may overlap. They are ranked then, the best first."""
        return self.output == "instance"

    @property
    def sums_proposals(self) -> bool:
        """Whether each pixel of a result sums over all proposals, so that segments have no score
        and no threshold.
        """
        return self.output == "semantic"

    def check_labels(self, labels: Sequence[Mapping[str, Tensor]], num_images: int) -> None:
        """Refuse labels that do not carry this task's annotation beside `class_labels` [M].

        Raises:
            ValueError: names the image and the key.
        """
        from .targets_dataseg import check_labels

        check_labels(labels, self.name, self.annotation, num_images)


class Panoptic(Task):
    """A segment per thing and per stuff class: proposals of one stuff category merge, things stay
    apart.
    """

    name = "panoptic"
    summary = "panoptic segments"
    label_form: ClassVar[LabelForm] = "segments"
    output: ClassVar[OutputKind] = "panoptic"
    metrics: ClassVar[tuple[str, ...]] = ("pq", "miou", "mask_ap", "box_ap")

    def merged_categories(self, is_thing: Any) -> Any:
        """Stuff."""
        return ~is_thing

    def loss(self, inputs: LossInputs) -> LossResult:
        """Class, mask and dice losses on the merged masks."""
        from .supervision_dataseg import mask_supervision
        from .targets_dataseg import SegmentMapTargets

        merged = self.merged_categories(inputs.truth.is_thing)
        return mask_supervision(SegmentMapTargets(inputs.truth), inputs, merged)

    def predict(self, proposals: ImageProposals, size: Size, thresholds: Thresholds) -> Prediction:
        """A map of segments, one for each merged category."""
        from .postprocessing_dataseg import panoptic_prediction

        merged = self.merged_categories(proposals.is_thing)
        return panoptic_prediction(proposals, merged, size, thresholds)


class Semantic(Panoptic):
    """A class per pixel: the proposals of every category merge."""

    name = "semantic"
    summary = "a class per pixel"
    label_form: ClassVar[LabelForm] = "classes"
    output: ClassVar[OutputKind] = "semantic"
    metrics: ClassVar[tuple[str, ...]] = ("miou",)

    def merged_categories(self, is_thing: Any) -> Any:
        """Every category."""
        return is_thing | True

    def predict(self, proposals: ImageProposals, size: Size, thresholds: Thresholds) -> Prediction:
        """A class per pixel; thresholds play no part."""
        from .postprocessing_dataseg import semantic_prediction

        return semantic_prediction(proposals, size)


class Instance(Task):
    """A mask per object: nothing merges."""

    name = "instance"
    summary = "a mask per object"
    label_form: ClassVar[LabelForm] = "masks"
    output: ClassVar[OutputKind] = "instance"
    metrics: ClassVar[tuple[str, ...]] = ("mask_ap", "box_ap")

    def merged_categories(self, is_thing: Any) -> Any:
        """No category."""
        return is_thing & False

    def loss(self, inputs: LossInputs) -> LossResult:
        """Class, mask and dice losses, one to one."""
        from .supervision_dataseg import mask_supervision
        from .targets_dataseg import MaskTargets

        merged = self.merged_categories(inputs.truth.is_thing)
        return mask_supervision(MaskTargets(inputs.truth), inputs, merged)

    def predict(self, proposals: ImageProposals, size: Size, thresholds: Thresholds) -> Prediction:
        """Scored masks of things, the best first."""
        from .postprocessing_dataseg import instance_prediction

        return instance_prediction(proposals, size, thresholds)


class Boxes(Instance):
    """A box per object: masks are learned from their projections, and come out as instances."""

    name = "boxes"
    summary = "a box per object, no masks"
    label_form: ClassVar[LabelForm] = "boxes"
    metrics: ClassVar[tuple[str, ...]] = ("box_ap",)
    can_be_asked_for = False

    def loss(self, inputs: LossInputs) -> LossResult:
        """Class, projection and color-affinity losses, one to one."""
        from .box_supervision_dataseg import box_supervision
        from .targets_dataseg import BoxTargets

        return box_supervision(BoxTargets(inputs.truth, inputs.grid), inputs)


class Objects(Instance):
    """What is known of each object: its mask, its box, points of it, or only that it is there.
    Where all have masks this is `instance`, where all have boxes `boxes`.
    """

    name = "objects"
    summary = "a mask, a box, points or a tag per object"
    label_form: ClassVar[LabelForm] = "degrees"
    metrics: ClassVar[tuple[str, ...]] = ("mask_ap", "box_ap")
    can_be_asked_for = False

    def loss(self, inputs: LossInputs) -> LossResult:
        """Losses by what is known of each object, one to one."""
        from .object_supervision_dataseg import object_supervision
        from .object_targets_dataseg import ObjectTargets

        return object_supervision(ObjectTargets(inputs.truth, inputs.grid), inputs)


TASKS: dict[str, Task] = {
    task.name: task for task in (Panoptic(), Semantic(), Instance(), Boxes(), Objects())
}
"""The tasks, by name."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(
            f"unknown task {name!r:.40}; known are {sorted(TASKS)}{did_you_mean(str(name), TASKS)}"
        )
    return TASKS[name]


def output_tasks() -> list[str]:
    """Names of the tasks that users can ask for at inference."""
    return [name for name, task in TASKS.items() if task.can_be_asked_for]


__all__ = [
    "TASKS",
    "Boxes",
    "Instance",
    "LabelForm",
    "Objects",
    "OutputKind",
    "Panoptic",
    "Semantic",
    "Task",
    "TaskName",
    "get_task",
    "output_tasks",
]
