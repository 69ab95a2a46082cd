"""Choose the reader of a dataset, check its options, and read."""

import importlib
import inspect
import traceback
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..data.readers.reader_tasks import require_task
from ..data.readers.registry import READERS, Reader
from ..data.sample import DatasetSpec, SampleDataset, SampleStream
from ..data.shapes import shapes_dataset
from ..errors import ConfigError
from .base import Settings
from .entries import Source
from .errors import line, problems, unknown_key
from .paths import expand


def read_source(source: Source, spec: DatasetSpec, key: str) -> SampleDataset | SampleStream:
    """What the reader of a dataset returns.

    Args:
        key: where the dataset stands in the settings.

    Raises:
        ConfigError: for an unknown reader, one that cannot serve the task, and options that it
            lacks, does not take, or takes in another type.
        ValueError, OSError: as the reader says.
    """
    name = source.reader or spec.reader
    if not name:
        raise ConfigError(
            f"{key}.reader: is required where the catalog does not know the format; "
            f"{sorted(READERS)}"
        )
    if name == "shapes":
        return _scenes(source, spec, key)
    reader = _reader(name, f"{key}.reader")
    try:
        require_task(spec, name)
    except ValueError as error:
        raise ConfigError(f"{key}.reader: {error}") from error
    arguments = _arguments(source, spec, reader, name, key)
    data = (
        reader(spec, **arguments) if name in READERS else _own(reader, spec, arguments, name, key)
    )
    if not isinstance(data, SampleDataset | SampleStream):
        raise ConfigError(
            f"{key}.reader: '{name}' returned {type(data).__name__}; a reader returns a "
            "SampleDataset or SampleStream"
        )
    return data


SCENE_OPTIONS = ("known", "unlabeled", "declared")


def _scenes(source: Source, spec: DatasetSpec, key: str) -> SampleDataset:
    options = {}
    for option, value in source.options.items():
        place = f"{key}.options.{option}"
        if option not in SCENE_OPTIONS:
            reason = unknown_key(option, SCENE_OPTIONS, "reader 'shapes' does not take it")
            raise ConfigError(f"{place}: {reason}")
        options[option] = read_option(shapes_dataset, option, value, place)
    return shapes_dataset(spec.name, source.split, count=source.count, seed=source.seed, **options)


def _own(
    reader: Reader, spec: DatasetSpec, arguments: Mapping[str, Any], name: str, key: str
) -> Any:
    """What a user's own function returns; its errors, with the line where they arose, as a
    ConfigError.
    """
    try:
        return reader(spec, **arguments)
    except (ValueError, OSError):
        raise  # which readers raise, and whoever called this reports
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{key}.reader: '{name}' failed at {place.filename}:{place.lineno}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _arguments(
    source: Source, spec: DatasetSpec, reader: Reader, name: str, key: str
) -> dict[str, Any]:
    """The reader's keyword arguments: of the catalog, then those of the settings, checked."""
    names = ("images", "annotations", "annotation_file", "missing_images")
    files = {option: getattr(source, option) for option in names}
    given = {option: value for option, value in files.items() if value is not None}
    places = {option: f"{key}.options.{option}" for option in source.options}
    places |= {option: f"{key}.{option}" for option in given}
    # What the catalog knows of the published files holds for their own format only.
    known = spec.reader_options if source.reader in (None, spec.reader) else {}
    arguments = {**known, **source.options, **given}
    _check_names(reader, arguments, places, name, key)
    for option, place in places.items():
        value = read_option(reader, option, arguments[option], place)
        arguments[option] = expand(value, place) if isinstance(value, str) else value
    return arguments


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


def _check_names(
    reader: Reader, arguments: Mapping[str, Any], places: Mapping[str, str], name: str, key: str
) -> None:
    """ConfigError for an option that the reader does not take, or needs and does not get."""
    # The first parameter is the spec.
    parameters = dict(list(inspect.signature(reader).parameters.items())[1:])
    for option in arguments:
        if option not in parameters:
            raise ConfigError(
                f"{places.get(option, key)}: "
                + unknown_key(option, parameters, f"reader '{name}' does not take it")
            )
    for option, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and option not in arguments:
            raise ConfigError(f"{key}.{option}: reader '{name}' needs it")


def read_option(reader: Reader, option: str, value: Any, place: str) -> Any:
    """The value of a reader's option, of the type that its signature states.

    Raises:
        ConfigError: for a value of another type, with its place in the settings.
    """
    hint = get_type_hints(reader).get(option)
    if hint is None:
        return value
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reasons = problems(error, value, Settings)
        raise ConfigError(
            "\n".join(line((place, *path), reason) for path, reason in reasons.items())
        ) from error
