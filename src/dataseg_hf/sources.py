"""From a run's settings to its datasets."""

from .data.catalog import CATALOG
from .data.mixing import TrainingSet
from .data.readers import read_coco_instances, read_coco_panoptic, read_image_png
from .data.sample import DatasetSpec, SampleDataset
from .data.shapes import SHAPES_SPECS, shapes_dataset
from .data.transforms import Augmentation
from .run_config import ConfigError, Source, TrainEntry, expand


def get_spec(name: str, key: str) -> DatasetSpec:
    """A catalogued dataset, or one of the shapes world; ConfigError lists the known ones."""
    known = {**CATALOG, **SHAPES_SPECS}
    if name not in known:
        raise ConfigError(f"{key}: unknown dataset '{name}'; known are {sorted(known)}")
    return known[name]


def load_source(source: Source, key: str) -> SampleDataset:
    """The images and annotation of an entry; `key` is where it stands in the settings, for messages.

    Raises:
        ConfigError: for a setting that the reader needs and the entry lacks, or files that are not there.
    """
    spec = get_spec(source.spec, f"{key}.spec")
    try:
        data = _read(source, spec, key)
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error
    if source.part is not None:
        data = data.part(*source.part)
    if source.max_samples is not None:
        data = SampleDataset(data.spec, data.rows[: source.max_samples], data.load)
    if len(data) == 0:
        raise ConfigError(f"{key}: dataset '{spec.name}' has no images")
    return data


def _read(source: Source, spec: DatasetSpec, key: str) -> SampleDataset:
    def path(name: str) -> str:
        value = getattr(source, name)
        if value is None:
            raise ConfigError(f"{key}.{name}: reader '{source.reader}' needs it")
        return expand(value, f"{key}.{name}")

    if source.reader == "shapes":
        return shapes_dataset(source.spec, source.split, count=source.count, seed=source.seed)
    missing = source.missing_images
    if source.reader == "coco_panoptic":
        return read_coco_panoptic(
            spec, path("images"), path("annotations"), path("annotation_file"), missing_images=missing
        )
    if source.reader == "coco_instances":
        return read_coco_instances(
            spec,
            path("images"),
            path("annotation_file"),
            boxes_only=spec.task == "boxes",
            missing_images=missing,
        )
    return read_image_png(
        spec, path("images"), path("annotations"), image_suffix=source.image_suffix, missing_images=missing
    )


def training_set(name: str, entry: TrainEntry) -> TrainingSet:
    """An entry of the mix with its data."""
    key = f"datasets.{name}"
    return TrainingSet(
        name=name,
        data=load_source(entry, key),
        ratio=entry.ratio,
        batch_size=entry.batch_size,
        augmentation=Augmentation(
            image_size=entry.image_size,
            scale_range=entry.scale_range,
            horizontal_flip=entry.horizontal_flip,
            colour_jitter=entry.colour_jitter,
        ),
        loss_weights=entry.loss_weights,
        split_things=entry.split_things,
        keep_in_memory=entry.keep_in_memory,
    )
