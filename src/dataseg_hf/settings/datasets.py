"""From a run's settings to its datasets and their shares."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..data.catalog import CATALOG
from ..data.category_map import map_categories, mapped_spec
from ..data.corruptions import corrupted
from ..data.faults import dataset_faults
from ..data.image_values import with_value_range
from ..data.mixing import TrainingSet
from ..data.problems import Problem, problem_lines
from ..data.sample import ClassInfo, DatasetSpec, SampleDataset, SampleStream
from ..data.shapes import SHAPES_SPECS
from ..data.transforms import Augmentation
from ..errors import ConfigError
from .entries import EvalEntry, Source, SpecSettings, TrainEntry
from .reading import read_source
from .run import RunConfig

LOG = logging.getLogger(__name__)

OnBadSample = Literal["raise", "skip", "collect"]


# --- specs


def get_spec(name: str, key: str) -> DatasetSpec:
    """A dataset of the catalog, or one of the shapes world.

    Raises:
        ConfigError: for an unknown name; the message lists the known ones.
    """
    known = {**CATALOG, **SHAPES_SPECS}
    if name not in known:
        raise ConfigError(
            f"{key}: unknown dataset '{name}'; known are {sorted(known)}, or write its classes "
            "there"
        )
    return known[name]


def source_spec(source: Source, key: str) -> DatasetSpec:
    """The spec of an entry's dataset, its classes renamed and merged as `category_map` says.

    Raises:
        ConfigError: for an unknown dataset, a spec that is none, or a `category_map` that does not
            fit it.
    """
    spec = _unmapped_spec(source, key)
    try:
        return mapped_spec(spec, source.category_map)
    except ValueError as error:
        raise ConfigError(f"{key}.category_map: {error}") from error


def _unmapped_spec(source: Source, key: str) -> DatasetSpec:
    if isinstance(source.spec, SpecSettings):
        spec = _custom_spec(source.spec, f"{key}.spec")
    else:
        spec = get_spec(source.spec, f"{key}.spec")
    return replace(spec, unknown_ids=source.unknown_ids, outside=source.outside)


def _custom_spec(settings: SpecSettings, key: str) -> DatasetSpec:
    if not settings.classes:
        raise ConfigError(f"{key}.classes: name at least one class")
    ids = [
        (raw_id, index) for index, c in enumerate(settings.classes) for raw_id in c.ids or [c.name]
    ]
    for what, values in (
        ("class name", [c.name for c in settings.classes]),
        ("id", [raw_id for raw_id, _ in ids]),
    ):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise ConfigError(f"{key}.classes: {what} {twice[0]!r} stands there twice")
    both = sorted(map(str, {raw_id for raw_id, _ in ids} & set(settings.void_ids)))
    if both:
        raise ConfigError(f"{key}.void_ids: {both} are ids of classes too")
    return DatasetSpec(
        name=settings.name,
        task=settings.task,
        classes=tuple(
            ClassInfo(c.name, c.thing, tuple(c.aliases), c.exhaustive) for c in settings.classes
        ),
        id_map=dict(ids),
        void_ids=frozenset(settings.void_ids),
        annotated=settings.annotated,
        license=settings.license,
        homepage=settings.homepage,
    )


# --- data


def load_source(
    source: Source, key: str, on_bad_sample: OnBadSample = "raise"
) -> SampleDataset | SampleStream:
    """The images and annotation of an entry; `key` is where it stands in the settings, for
    messages.

    Args:
        on_bad_sample: what becomes of images that the reader found unusable: an error for the first
            ("raise"), left out and printed ("skip"), or left out in silence, as the caller looks at
            `problems` ("collect").

    Raises:
        ConfigError: for a setting that the reader needs and the entry lacks, files that are not
            there, unusable images.
    """
    spec = source_spec(source, key)
    try:
        data = read_source(source, _unmapped_spec(source, key), key)
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error
    faults = dataset_faults(data)
    if faults and on_bad_sample != "collect":
        raise ConfigError(f"{key}: {faults[0]}")
    data = with_value_range(data, source.value_range)
    if source.category_map:
        data = map_categories(data, source.category_map)
    if isinstance(data, SampleStream):
        _refuse_parts_of_stream(source, key)
        return data
    _report_problems(data, key, on_bad_sample)
    if source.part is not None:
        data = data.part(*source.part)
    if source.max_samples is not None:
        data = data.select(range(min(source.max_samples, len(data))))
    if len(data) == 0 and on_bad_sample != "collect":
        raise ConfigError(f"{key}: dataset '{spec.name}' has no images")
    return data


def _refuse_parts_of_stream(source: Source, key: str) -> None:
    for name in ("part", "max_samples"):
        if getattr(source, name) is not None:
            raise ConfigError(
                f"{key}.{name}: a streamed dataset is read whole; leave it out, or do not stream"
            )


def _report_problems(data: SampleDataset, key: str, on_bad_sample: OnBadSample) -> None:
    """Raise or log what the reader found unusable, as `load_source` says."""
    kinds = problem_lines(map(Problem.of, data.problems))
    if kinds and on_bad_sample == "raise":
        more = f" (and {len(kinds) - 1} more kinds of problems)" if len(kinds) > 1 else ""
        raise ConfigError(
            f"{key}: {kinds[0]}{more}; `dataseg inspect` lists all, on_bad_sample 'skip' "
            "leaves them out"
        )
    if on_bad_sample == "skip":
        for kind in kinds:
            LOG.info("%s: left out images that cannot be used: %s", key, kind)


def load_held_out(
    entry: EvalEntry, key: str, on_bad_sample: OnBadSample = "raise"
) -> SampleDataset:
    """The images and truth of a held-out entry; as `load_source`, and ConfigError for a stream."""
    data = load_source(entry, key, on_bad_sample)
    if isinstance(data, SampleStream):
        raise ConfigError(
            f"{key}.options.streaming: held-out sets are shared out by index; set it to false"
        )
    return data if entry.corruption is None else corrupted(data, entry.corruption)


# --- the mix


def training_set(name: str, entry: TrainEntry, on_bad_sample: OnBadSample = "raise") -> TrainingSet:
    """An entry of the mix with its data; its ratio is what the entry says, before `with_shares`.

    Raises:
        ConfigError: for data that cannot be read, and `keep_in_memory` with a stream.
    """
    key = f"datasets.{name}"
    data = load_source(entry, key, on_bad_sample)
    if entry.keep_in_memory and isinstance(data, SampleStream):
        raise ConfigError(
            f"{key}.keep_in_memory: a streamed dataset is not held; set it to false, or do not "
            "stream"
        )
    return TrainingSet(
        name=name,
        data=_as_declared(data, entry, key),
        ratio=entry.probability or entry.ratio or 1.0,
        batch_size=entry.batch_size,
        augmentation=Augmentation(
            image_size=entry.image_size,
            scale_range=entry.scale_range,
            horizontal_flip=entry.horizontal_flip,
            color_jitter=entry.color_jitter,
        ),
        loss_weights=entry.loss_weights,
        split_things=entry.split_things,
        keep_in_memory=entry.keep_in_memory,
        reduced_decoding=entry.reduced_decoding,
        skip_bad_samples=on_bad_sample == "skip",
    )


def _as_declared(
    data: SampleDataset | SampleStream, entry: TrainEntry, key: str
) -> SampleDataset | SampleStream:
    """The data with what its entry says was annotated.

    Raises:
        ConfigError: for maps, which have a class or void for every pixel.
    """
    spec = replace(data.spec, annotated=entry.annotated or data.spec.annotated)
    if spec.annotated == "objects" and spec.label_form in ("segments", "classes"):
        raise ConfigError(
            f"{key}.annotated: 'objects' is for annotation by object, but task '{spec.task}' has "
            "maps, whose unlabeled pixels are void in any case; leave it out"
        )
    return replace(data, spec=spec)


def training_mix(config: RunConfig, on_bad_sample: OnBadSample | None = None) -> list[TrainingSet]:
    """The datasets of a run's mix, their ratios adding up to 1.

    Args:
        on_bad_sample: see `load_source`; by default what the run says.

    Raises:
        ConfigError: as `load_source`, and where shares by size meet a stream of unknown size.
    """
    policy = on_bad_sample or config.on_bad_sample
    datasets = [training_set(name, entry, policy) for name, entry in config.datasets.items()]
    weights = [dataset.ratio for dataset in datasets]
    if config.size_temperature is not None:
        weights = []
        for dataset in datasets:
            if dataset.size is None:
                raise ConfigError(
                    f"datasets.{dataset.name}: the number of streamed images is unknown, so "
                    "size_temperature cannot set its share; give probabilities instead"
                )
            weights.append(dataset.size ** (1 / config.size_temperature))
    return [
        replace(dataset, ratio=weight / sum(weights), in_every_step=config.every_dataset_in_a_step)
        for dataset, weight in zip(datasets, weights, strict=True)
    ]


@dataclass(frozen=True)
class MixRow:
    """One dataset of the resolved mix.

    Args:
        images: their number; None where a stream does not tell.
        share: of the steps, or of the loss where every step has a batch of each; 0..1.
    """

    name: str
    task: str
    images: int | None
    classes: int
    share: float
    batch_size: int
    passes_per_1000_steps: float | None
    license: str


def resolve_mix(datasets: Sequence[TrainingSet]) -> list[MixRow]:
    """What will be drawn how often."""
    total = sum(dataset.ratio for dataset in datasets)
    rows = []
    for dataset in datasets:
        share, size = dataset.ratio / total, dataset.size
        batches = 1.0 if dataset.in_every_step else share
        passes = None if not size else 1000 * batches * dataset.batch_size / size
        spec = dataset.data.spec
        rows.append(
            MixRow(
                dataset.name,
                dataset.task,
                size,
                len(spec.classes),
                share,
                dataset.batch_size,
                passes,
                spec.license,
            )
        )
    return rows


def mix_table(rows: Sequence[MixRow]) -> str:
    """The resolved mix for the eye, a line per dataset."""
    width = max(len("dataset"), *(len(row.name) for row in rows))
    lines = [
        f"{'dataset':<{width}} {'task':<9} {'images':>8} {'classes':>7} {'share':>6} {'batch':>5} "
        f"{'passes/1000':>11}"
    ]
    for row in rows:
        images = "stream" if row.images is None else str(row.images)
        passes = "?" if row.passes_per_1000_steps is None else f"{row.passes_per_1000_steps:.2f}"
        lines.append(
            f"{row.name:<{width}} {row.task:<9} {images:>8} {row.classes:>7} {row.share:>6.1%} "
            f"{row.batch_size:>5} {passes:>11}"
        )
    return "\n".join(lines)
