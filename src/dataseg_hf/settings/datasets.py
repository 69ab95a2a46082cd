"""From a run's settings to its datasets and their shares."""

import importlib
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..data.catalog import CATALOG
from ..data.category_map import map_categories, mapped_spec
from ..data.corruptions import corrupted
from ..data.faults import dataset_faults
from ..data.image_values import with_value_range
from ..data.mixing import TrainingSet
from ..data.problems import Problem, problem_lines
from ..data.readers.reader_tasks import require_task
from ..data.readers.registry import READERS, Reader
from ..data.sample import ClassInfo, DatasetSpec, SampleDataset, SampleStream
from ..data.shapes import SHAPES_SPECS, shapes_dataset
from ..data.transforms import Augmentation
from .run import ConfigError, EvalEntry, RunConfig, Source, SpecSettings, TrainEntry, expand

OnBadSample = Literal["raise", "skip", "collect"]


# --- facts


def get_spec(name: str, key: str) -> DatasetSpec:
    """A catalogd dataset, or one of the shapes world; ConfigError lists the known ones."""
    known = {**CATALOG, **SHAPES_SPECS}
    if name not in known:
        raise ConfigError(
            f"{key}: unknown dataset '{name}'; known are {sorted(known)}, or write its classes "
            "there"
        )
    return known[name]


def source_spec(source: Source, key: str) -> DatasetSpec:
    """The facts of an entry's dataset, its classes renamed and merged as `category_map` says."""
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
        classes=tuple(ClassInfo(c.name, c.thing, tuple(c.aliases)) for c in settings.classes),
        id_map=dict(ids),
        void_ids=frozenset(settings.void_ids),
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
        data = _read(source, _unmapped_spec(source, key), key)
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
        for name in ("part", "max_samples"):
            if getattr(source, name) is not None:
                raise ConfigError(
                    f"{key}.{name}: a streamed dataset is read whole; set it aside, or do not "
                    "stream"
                )
        return data
    if data.problems and on_bad_sample == "raise":
        kinds = problem_lines(map(Problem.of, data.problems))
        more = f" (and {len(kinds) - 1} more kinds of problems)" if len(kinds) > 1 else ""
        raise ConfigError(
            f"{key}: {kinds[0]}{more}; `dataseg inspect` lists all, on_bad_sample 'skip' "
            "leaves them out"
        )
    if data.problems and on_bad_sample == "skip":
        for line in problem_lines(map(Problem.of, data.problems)):
            print(f"{key}: left out images that cannot be used: {line}")
    if source.part is not None:
        data = data.part(*source.part)
    if source.max_samples is not None:
        data = data.select(range(min(source.max_samples, len(data))))
    if len(data) == 0 and on_bad_sample != "collect":
        raise ConfigError(f"{key}: dataset '{spec.name}' has no images")
    return data


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


def _read(source: Source, spec: DatasetSpec, key: str) -> SampleDataset | SampleStream:
    name = source.reader or spec.reader
    if not name:
        raise ConfigError(
            f"{key}.reader: is required where the catalog does not know the format; "
            f"{sorted(READERS)}"
        )
    if name == "shapes":
        return shapes_dataset(spec.name, source.split, count=source.count, seed=source.seed)
    reader = _reader(name, f"{key}.reader")
    try:
        require_task(spec, name)
    except ValueError as error:
        raise ConfigError(f"{key}.reader: {error}") from error
    given = {
        "images": source.images,
        "annotations": source.annotations,
        "annotation_file": source.annotation_file,
        "missing_images": source.missing_images,
    }
    places = {option: f"{key}.options.{option}" for option in source.options}
    places |= {option: f"{key}.{option}" for option, value in given.items() if value is not None}
    # what the catalog knows of the published files holds for their own format only
    arguments = dict(spec.reader_options) if source.reader in (None, spec.reader) else {}
    arguments |= {
        **source.options,
        **{option: value for option, value in given.items() if value is not None},
    }
    _check_arguments(reader, arguments, places, name, key)
    typed = {
        option: checked_option(reader, option, value, places[option]) if option in places else value
        for option, value in arguments.items()
    }
    expanded = {
        option: expand(value, places[option])
        if isinstance(value, str) and option in places
        else value
        for option, value in typed.items()
    }
    data = reader(spec, **expanded)
    if not isinstance(data, SampleDataset | SampleStream):
        raise ConfigError(
            f"{key}.reader: '{name}' returned {type(data).__name__}; a reader returns a "
            "SampleDataset or SampleStream"
        )
    return data


def _reader(name: str, key: str) -> Reader:
    if name in READERS:
        return READERS[name]
    if ":" not in name:
        known = [*READERS, "shapes"]
        raise ConfigError(
            f"{key}: unknown reader '{name}'; known are {known}, or package.module:function of "
            "your own"
        )
    module, _, function = name.partition(":")
    try:
        reader = getattr(importlib.import_module(module), function)
        inspect.signature(reader).bind_partial(None)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot import '{name}': {error}") from error
    except TypeError as error:
        raise ConfigError(
            f"{key}: '{name}' is no function of a spec ({error}); name one"
        ) from error
    return reader


def _check_arguments(
    reader: Reader, arguments: Mapping[str, Any], places: Mapping[str, str], name: str, key: str
) -> None:
    """ConfigError for what the reader does not take, or needs and does not get."""
    # the first is the spec
    parameters = dict(list(inspect.signature(reader).parameters.items())[1:])
    for option in arguments:
        if option not in parameters:
            raise ConfigError(
                f"{places.get(option, key)}: reader '{name}' does not take it; it takes "
                f"{sorted(parameters)}"
            )
    for option, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and option not in arguments:
            raise ConfigError(f"{key}.{option}: reader '{name}' needs it")


def checked_option(reader: Reader, option: str, value: Any, place: str) -> Any:
    """The value of a reader's option, of the type that its signature states; ConfigError names
    where it stands.
    """
    hint = get_type_hints(reader).get(option)
    if hint is None:
        return value
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(f"{place}: {value!r} cannot be used: {reason}") from error


# --- the mix


def training_set(name: str, entry: TrainEntry, on_bad_sample: OnBadSample = "raise") -> TrainingSet:
    """An entry of the mix with its data; its ratio is what the entry says, before `with_shares`."""
    key = f"datasets.{name}"
    data = load_source(entry, key, on_bad_sample)
    if entry.keep_in_memory and isinstance(data, SampleStream):
        raise ConfigError(
            f"{key}.keep_in_memory: a streamed dataset is not held; set it to false, or do not "
            "stream"
        )
    return TrainingSet(
        name=name,
        data=data,
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
        skip_bad_samples=on_bad_sample == "skip",
    )


def training_mix(config: RunConfig, on_bad_sample: OnBadSample | None = None) -> list[TrainingSet]:
    """The members of a run's mix, their ratios adding up to 1.

    Args:
        on_bad_sample: see `load_source`; by default what the run says.

    Raises:
        ConfigError: as `load_source`, and where shares by size meet a stream of unknown size.
    """
    policy = on_bad_sample or config.on_bad_sample
    members = [training_set(name, entry, policy) for name, entry in config.datasets.items()]
    weights = [member.ratio for member in members]
    if config.size_temperature is not None:
        weights = []
        for member in members:
            if member.size is None:
                raise ConfigError(
                    f"datasets.{member.name}: the number of streamed images is unknown, so "
                    "size_temperature cannot "
                    "set its share; give probabilities instead"
                )
            weights.append(member.size ** (1 / config.size_temperature))
    return [
        replace(member, ratio=weight / sum(weights), in_every_step=config.every_dataset_in_a_step)
        for member, weight in zip(members, weights, strict=True)
    ]


@dataclass(frozen=True)
class MixRow:
    """One dataset of the resolved mix. images: None where a stream does not tell. share: of the
    steps, or of the loss where every step has a batch of each; 0..1.
    """

    name: str
    task: str
    images: int | None
    classes: int
    share: float
    batch_size: int
    passes_per_1000_steps: float | None
    license: str


def resolve_mix(members: Sequence[TrainingSet]) -> list[MixRow]:
    """What will be drawn how often."""
    total = sum(member.ratio for member in members)
    rows = []
    for member in members:
        share, size = member.ratio / total, member.size
        batches = 1.0 if member.in_every_step else share
        passes = None if not size else 1000 * batches * member.batch_size / size
        spec = member.data.spec
        rows.append(
            MixRow(
                member.name,
                member.task,
                size,
                len(spec.classes),
                share,
                member.batch_size,
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
            f"{row.batch_size:>5} "
            f"{passes:>11}"
        )
    return "\n".join(lines)
