"""The layers of annotation that a completion writes, each with its folder and its journals."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...data.sample import DatasetSpec
from ...model.proposals_dataseg import ImageProposals
from ...processes import Processes
from ..labeling.journal import Batch, LabeledImage
from .completed_folder import CompletedFolder, file_name_of, write_image
from .finishing import CompletionSummary, finish
from .folder import writing_into
from .journals import Journals
from .sample import CompletedSample
from .second_layer import second_layer_segments


@dataclass(frozen=True)
class CompletedImage:
    """An image that is completed, before it is written.

    Args:
        row: in its set.
        name: see `image_name`.
        done: with its completed annotation.
        of_mix: proposals in the words of the mix, where there is a second layer.
    """

    row: int
    name: str
    done: CompletedSample
    of_mix: ImageProposals | None


class Layer(ABC):
    """One layer of the annotation of a set.

    Args:
        folder: to which it is written.
        processes: that work together.

    Raises:
        BadSampleError: for two images of one name, which two processes met.
        ConfigError: for a folder that cannot be written.
    """

    def __init__(self, folder: CompletedFolder, processes: Processes) -> None:
        self.folder = folder
        self.journals = Journals.read_by_all(folder.path, processes)

    @abstractmethod
    def written(self, image: CompletedImage) -> LabeledImage:
        """Write what belongs to one image; returns what is kept of it."""

    def add(self, images: Sequence[CompletedImage]) -> None:
        """Write those images of a batch that are not done yet, and note that they are.

        Raises:
            ConfigError: for a folder that cannot be written.
        """
        left = [image for image in images if image.name not in self.journals.row_of]
        with writing_into(self.folder.path):
            if left:
                self.journals.add(Batch([self.written(image) for image in left]))

    def finish(self) -> CompletionSummary:
        """Write the files of all images, whichever process completed them.

        Raises:
            ConfigError: for a folder that cannot be written.
        """
        with writing_into(self.folder.path):
            return finish(self.folder, Journals(self.folder.path).entries())


class FirstLayer(Layer):
    """The completed annotation of the set."""

    def written(self, image: CompletedImage) -> LabeledImage:
        """See `Layer.written`."""
        return write_image(image.done, image.name, image.row, self.folder)


class SecondLayer(Layer):
    """What the set does not say.

    Args:
        first: folder of the completed annotation.
        spec: of the second layer, see `spec_of_mix`.
        processes: that work together.
    """

    def __init__(self, first: CompletedFolder, spec: DatasetSpec, processes: Processes) -> None:
        super().__init__(first.second(spec), processes)
        self.first = first

    def written(self, image: CompletedImage) -> LabeledImage:
        """See `Layer.written`."""
        assert image.of_mix is not None
        height, width = image.done.sample.image.shape[:2]
        segments = second_layer_segments(image.done, self.first.spec, image.of_mix)
        file_name = file_name_of(image.name, self.first)
        found = self.folder.files().add(image.name, file_name, (height, width), segments)
        return replace(found, row=image.row)


__all__ = ["CompletedImage", "FirstLayer", "Layer", "SecondLayer"]
