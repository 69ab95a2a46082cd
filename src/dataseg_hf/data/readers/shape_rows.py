"""What the readers of drawn shapes share: the rows of a dataset in the making, and what a user is
told of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ...model.image_reading_dataseg import Size
from ..sample import DatasetSpec, RawId, SampleDataset
from .class_ids import ClassIds, TargetCounts
from .drawn_shapes import SHAPE_ROWS, DecodeMask, DrawnShape, load_shapes
from .paths import MissingImages
from .rows import Rows


class ShapeRows(Rows):
    """Rows of drawn shapes, and what was counted while their files were read.

    Args:
        spec: the dataset.
        missing_images: what becomes of an image that is not there, see `Rows`.

    Attributes:
        class_ids: from the labels of the shapes to class indices.
        not_read: how many shapes there are of each kind that the reader leaves out.
    """

    def __init__(self, spec: DatasetSpec, missing_images: MissingImages) -> None:
        super().__init__(SHAPE_ROWS, missing_images)
        self.spec, self.class_ids = spec, ClassIds(spec)
        self.not_read: Counter[str] = Counter()
        self._targets = TargetCounts(len(spec.classes))

    def add_image(
        self,
        path: Path,
        annotation: Path,
        *,
        image_id: str,
        file_name: str,
        size: Size,
        shapes: Sequence[DrawnShape],
    ) -> None:
        """Append the row of an image, `size` being the height and width on which its shapes were
        drawn.
        """
        self._targets.add(
            [shape.class_index for shape in shapes], [shape.is_crowd for shape in shapes]
        )
        self.add(
            image=str(path),
            annotation=str(annotation),
            image_id=image_id,
            file_name=file_name,
            size=size,
            shapes=[shape.row() for shape in shapes],
        )

    def not_read_notes(self, what: str) -> list[str]:
        """The note on shapes of kinds that are not read.

        Args:
            what: which shapes, and of which file.
        """
        if not self.not_read:
            return []
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.not_read.most_common())
        return [f"{what} that are not read: {kinds}: left out"]

    def samples(
        self,
        decode_mask: DecodeMask,
        background: int,
        notes: Iterable[str],
        stated_names: Mapping[RawId, str] | None = None,
        not_looked_for: Sequence[int] = (),
    ) -> SampleDataset:
        """The dataset, sorted by image id; no more images can be added.

        Args:
            decode_mask: decodes shapes of kind "mask".
            background: class of the pixels in no shape (semantic annotation).
            notes: what a user should know, beside what the labels tell.
            stated_names: what the files call each raw id.
            not_looked_for: classes that no image can have been annotated for.
        """
        load = partial(
            load_shapes,
            spec=self.spec,
            decode_mask=decode_mask,
            background=background,
            incomplete=[index for index in not_looked_for if index != background],
        )
        return SampleDataset(
            self.spec,
            self.dataset(sort_by="image_id"),
            load,
            self.problems,
            [*self.class_ids.notes(), *notes],
            stated_names or {},
            self._targets.census(),
        )
