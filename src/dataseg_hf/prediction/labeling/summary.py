"""What a labeling came to: how much of each class, how much void, how sure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ...messages import first_few
from ...model.tasks_dataseg import get_task
from .folder import LabelingSettings
from .journal import Journal, LabeledImage

SUMMARY_FILE = "summary.json"
_SHOWN_CLASSES = 8


@dataclass(frozen=True)
class Summary:
    """Counts of one labeling.

    Args:
        settings: of the labeling.
        images: that are labeled.
        unread: what is wrong with the images that could not be read, by name.
        counts: pixels (semantic labels) or objects, by name of the class; the most first.
        images_with: images that show a class, by its name.
        void_share: of the pixels, 0..1; None for labels that say nothing of pixels, and without
            images.
        mean_confidence: of what has a label, 0..1; None where nothing has.
    """

    settings: LabelingSettings
    images: int
    unread: dict[str, str]
    counts: dict[str, int]
    images_with: dict[str, int]
    void_share: float | None
    mean_confidence: float | None

    @classmethod
    def of(cls, settings: LabelingSettings, journal: Journal) -> "Summary":
        """The summary of what is done so far."""
        return _summed(settings, journal.labeled(), journal.unread)

    def as_dict(self) -> dict[str, Any]:
        """For `SUMMARY_FILE`."""
        content = asdict(self)
        settings = content.pop("settings")
        names = settings.pop("names")
        settings.pop("is_thing")
        return {**settings, "classes": len(names), **content}

    def text(self) -> str:
        """For the terminal."""
        by_pixel = get_task(self.settings.task).label_form == "classes"
        unit = "pixels" if by_pixel else "objects"
        common = [f"{name} {count}" for name, count in self.counts.items() if count]
        absent = sum(not count for count in self.counts.values())
        lines = [f"{unit}: {first_few(common, _SHOWN_CLASSES) or 'none'}"]
        if self.images and not common:
            lines.append(
                f"note: nothing is labeled, as no {unit[:-1]} reaches --threshold "
                f"{self.settings.threshold:g}; give a lower one, with another --output"
            )
        if absent:
            lines.append(f"classes in no image: {absent} of {len(self.counts)}")
        if self.void_share is not None:
            lines.append(f"void: {self.void_share:.1%} of the pixels")
        if self.mean_confidence is not None:
            lines.append(f"mean confidence: {self.mean_confidence:.3f}")
        license = self.settings.license or "not stated by its card; ask before you publish"
        lines.append(f"license of the teacher: {license}")
        return "\n".join(lines)


def _summed(
    settings: LabelingSettings, images: Iterable[LabeledImage], unread: dict[str, str]
) -> Summary:
    counts, shown = Counter[int](), Counter[int]()
    total = pixels = void = 0
    confidence = 0.0
    for image in images:
        total += 1
        counts.update(image.counts)
        shown.update(image.counts.keys())
        pixels += image.pixels
        void += image.void or 0
        confidence += image.confidence
    of_pixels = get_task(settings.task).has_segment_map
    ranked = sorted(range(len(settings.names)), key=lambda index: -counts[index])
    labeled = counts.total()
    return Summary(
        settings,
        total,
        dict(sorted(unread.items())),
        {settings.names[index]: counts[index] for index in ranked},
        {settings.names[index]: shown[index] for index in ranked},
        void / pixels if pixels and of_pixels else None,
        confidence / labeled if labeled else None,
    )
