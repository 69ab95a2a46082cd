"""What `objects` labels say: of each object its mask, its box, points of it, or that it is there.
Points are NaN where an object has none or fewer than others.

Shapes: B images, M targets (padded to the batch's largest number), Q points of an image, h x w mask
grid.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .degrees_dataseg import Degree
from .host_dataseg import to_device
from .targets_dataseg import BoxTargets, MaskTargets, Targets, Truth


class ObjectTargets(Targets):
    """Targets of `objects` labels. Each part says of all M targets what it knows; those of another
    degree have no mask, no tight axis and no point of their own.

    Attributes:
        degree: int64 [B, M], a `Degree`, -1 for padding.
        masks: crowd regions among them, whatever their degree.
        boxes: those of points and tags are the whole canvas.
        points: float [B, Q, 2], (x, y) in 0..1 of the canvas; of all objects.
        owner: int64 [B, Q], the target that a point belongs to, -1 for padding.

    Raises:
        ValueError: as `BoxTargets`.
    """

    def __init__(self, truth: Truth, grid: tuple[int, int]) -> None:
        super().__init__(truth)
        self.masks, self.boxes = MaskTargets(truth), BoxTargets(truth, grid)
        degree = self.padded([label["degrees"].long() for label in truth.labels], -1)
        self.degree = to_device(degree, self.device)
        self.boxes.compares_colors = (degree == Degree.BOX) | (degree == Degree.POINT)
        rows_and_labels = zip(self.target_rows, truth.labels, strict=True)
        given = [_points(label, rows) for rows, label in rows_and_labels]
        points = pad_sequence([one for one, _ in given], batch_first=True)
        owner = pad_sequence([one for _, one in given], batch_first=True, padding_value=-1)
        self.points, self.owner = to_device(points, self.device), to_device(owner, self.device)

    def has(self, degree: Degree) -> Tensor:
        """bool [B, M]."""
        return self.degree == degree


def _points(label: Mapping[str, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Points [Q, 2] of the objects of these rows, and for each the place of its object among them,
    int64 [Q].
    """
    points = label["points"].float()[rows]
    owner, place = points.isfinite().all(-1).nonzero(as_tuple=True)
    return points[owner, place], owner


__all__ = ["ObjectTargets"]
