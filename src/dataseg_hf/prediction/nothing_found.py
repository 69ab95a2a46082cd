"""The note where no image has a segment: what the likeliest proposal reached, and what it needs."""

from ..model.proposals_dataseg import ImageProposals
from ..model.tasks_dataseg import Task
from ..model.thresholds_dataseg import Thresholds


class BestProposal:
    """The likeliest proposal of all images.

    Args:
        task: whose results are looked for.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.probability = task, 0.0

    def add(self, proposals: ImageProposals) -> None:
        """Look at an image, or a window of one."""
        probabilities = proposals.class_probabilities()
        if self.task.may_overlap:  # objects, which things alone can be
            probabilities = probabilities.masked_fill(~proposals.is_thing, 0.0)
        self.probability = max(self.probability, float(probabilities.max()))

    def note(self, images: int, thresholds: Thresholds) -> str:
        """What to say of so many images without a segment."""
        needed = [f"--threshold {thresholds.score:g}", f"--mask_threshold {thresholds.mask:g}"]
        if not self.task.may_overlap:
            needed.append(f"--overlap_threshold {thresholds.overlap:g}")
        plural = "s" * (images != 1)
        return (
            f"note: no segments in {images} image{plural}: the highest class probability is "
            f"{self.probability:.2f}, and a segment needs {', '.join(needed)}; lower them, or "
            "choose another --vocabulary"
        )
