"""Rows of a dataset on the Hub, in a folder or in parquet files, map-style or as a stream
(`datasets.load_dataset`).
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any, get_args

import numpy as np
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    Image,
    IterableDataset,
    LargeList,
    List,
    Value,
    load_dataset,
)
from datasets.exceptions import DatasetGenerationError

from ...model.tasks_dataseg import LabelForm
from ..hub_names import is_missing_path, loading_failure
from ..sample import DatasetSpec, RawId, SampleDataset, SampleStream
from .hub_options import SHUFFLE_BUFFER, BoxFormat, Columns, HubOptions, takes
from .hub_rows import ROW_NUMBER, RowLoader
from .stream_order import shuffled_rows

_NEEDED: Mapping[LabelForm, frozenset[str]] = {
    "classes": frozenset({"label_column"}),
    "segments": frozenset({"label_column", "segments_column"}),
    "masks": frozenset({"objects_column", "segmentation_key"}),
    "boxes": frozenset({"objects_column"}),
}
_OF_ANY_TASK = frozenset({"image_column", "image_id_column"})
_OF_OBJECTS = frozenset({"bbox_key", "category_key", "crowd_key", "box_format", "normalized"})


@takes(HubOptions)
def read_hub(spec: DatasetSpec, options: HubOptions) -> SampleDataset | SampleStream:
    """Rows with an encoded image and its annotation, in the column layouts of the Hub's datasets.

    - semantic: `label_column` holds an image with one raw id per pixel (gray of 1 to 16 bits, or
      palette).
    - panoptic: `label_column` holds an RGB image (segment id = R + 256 G + 65536 B, 0 is void) and
      `segments_column` a list of structs `id`, `category_id` and, where there is one, `iscrowd`.
    - boxes, instance: `objects_column` holds a list of structs, or a struct of lists, with an entry
      per object. An instance has a segmentation too: polygons in pixels, or run lengths {"size",
      "counts"}. Objects of a category that the spec calls void, and those whose box has no width or
      no height, are left out.

    Raw ids are as stored: numbers, words, or the number of a `ClassLabel`. Images stay encoded in
    the rows, as bytes; only image folders hold paths. The image id is that of `image_id_column`,
    else the number of the row from 0; of streams "shard-row". For private datasets log in with
    `hf auth login` (a token does not belong into a run's config).

    Args:
        spec: the dataset; its task says which options are needed.
        options: fields of `HubOptions`, each a keyword argument.

    Returns:
        A `SampleDataset`, or a `SampleStream` with `streaming`. `size` of a stream is the number of
        rows that its card or an earlier copy on disk states.

    Raises:
        FileNotFoundError, ValueError: at once, for a dataset that cannot be found or read, that is
            empty, that lacks a column or key, or holds something else in it, and for options that
            do not fit the task. Faults of single rows are BadSampleErrors on loading.
    """
    _check_options(spec, options)
    row_source = f"dataset '{spec.name}', split '{options.split}'"
    if is_missing_path(options.path):
        raise FileNotFoundError(
            f"{row_source}: {options.path}: no such folder or file; check `options.path`"
        )
    rows = _loaded(row_source, options)
    if rows.features is None:
        raise ValueError(
            f"{row_source}: the columns of this stream are not known; read it without `streaming`"
        )
    _check_columns(spec, options, rows.features, row_source)
    names = _stated_names(options, rows.features)
    rows = rows.select_columns(options.read())
    for column in options.encoded_images():
        rows = rows.cast_column(column, Image(decode=False))
    load = RowLoader(spec, options, row_source, by_path=rows.info.builder_name == "imagefolder")
    if isinstance(rows, IterableDataset):
        return _stream(spec, rows, load, names, options)
    return SampleDataset(
        spec, rows.add_column(ROW_NUMBER, np.arange(len(rows))), load, stated_names=names
    )


def _stream(
    spec: DatasetSpec,
    rows: IterableDataset,
    load: RowLoader,
    names: dict[RawId, str],
    options: HubOptions,
) -> SampleStream:
    epoch = partial(
        shuffled_rows, stream=rows, buffer_size=options.shuffle_buffer, number_column=ROW_NUMBER
    )
    declared = (rows.info.splits or {}).get(options.split)
    size = declared.num_examples or None if declared else None
    return SampleStream(spec, epoch, load, size=size, stated_names=names)


def _stated_names(columns: Columns, features: Features) -> dict[RawId, str]:
    """Names of the numbers in the category column, where it is a `ClassLabel`."""
    if columns.segments_column is not None:
        category = _entry(features[columns.segments_column], columns.segments_column).get(
            "category_id"
        )
    elif columns.objects_column is not None:
        category = _entry(features[columns.objects_column], columns.objects_column).get(
            columns.category_key
        )
    else:
        category = None
    return dict(enumerate(category.names)) if isinstance(category, ClassLabel) else {}


def _loaded(row_source: str, options: HubOptions) -> Dataset | IterableDataset:
    try:
        return load_dataset(**options.of_rows())
    except (DatasetGenerationError, ConnectionError, ValueError, FileNotFoundError) as error:
        of_files = options.data_files is not None
        cause = error.__cause__ or error
        reason = f"{cause} (see `data_files`)" if of_files else loading_failure(options.path, cause)
        raise ValueError(f"{row_source}: cannot be loaded: {reason}") from error


def _check_options(spec: DatasetSpec, options: HubOptions) -> None:
    """ValueError for options that the spec's task lacks or does not use, or that are impossible."""
    needed = _NEEDED[spec.label_form]
    used = needed | _OF_ANY_TASK | (_OF_OBJECTS if "objects_column" in needed else frozenset())
    if spec.label_form != "classes":
        used |= {"crowd"}
    for field in fields(Columns):
        value = getattr(options, field.name)
        if value is None and field.name in needed:
            raise ValueError(
                f"dataset '{spec.name}': its task '{spec.task}' needs the option `{field.name}`"
            )
        if value != field.default and field.name not in used:
            raise ValueError(
                f"dataset '{spec.name}': its task '{spec.task}' has no use for the option "
                f"`{field.name}`; remove it"
            )
    if options.box_format not in get_args(BoxFormat):
        raise ValueError(
            f"dataset '{spec.name}': `box_format` is one of {get_args(BoxFormat)}, not "
            f"{options.box_format!r}"
        )
    if options.shuffle_buffer < 1:
        raise ValueError(
            f"dataset '{spec.name}': `shuffle_buffer` must be 1 or more rows, not "
            f"{options.shuffle_buffer}"
        )
    if not options.streaming and options.shuffle_buffer != SHUFFLE_BUFFER:
        raise ValueError(
            f"dataset '{spec.name}': `shuffle_buffer` is for `streaming` alone; remove it"
        )


def _check_columns(
    spec: DatasetSpec, columns: Columns, features: Features, row_source: str
) -> None:
    """ValueError for a column or key that is missing, or holds something else than is read
    from it.
    """
    for column in columns.read():
        _require(features, column, row_source, "column")
    for column in columns.encoded_images():
        if not _holds_images(features[column]):
            raise ValueError(
                f"{row_source}: column '{column}' holds {features[column]}, not encoded images"
            )
    if columns.image_id_column is not None:
        _kind_of_ids(
            features[columns.image_id_column], f"{row_source}: column '{columns.image_id_column}'"
        )
    if columns.segments_column is not None:
        where = f"{row_source}: column '{columns.segments_column}'"
        entry = _entry(features[columns.segments_column], where)
        if _kind_of_ids(_require(entry, "id", where, "key"), f"{where}, key 'id'") is not int:
            raise ValueError(
                f"{where}, key 'id' holds words; segment ids are the numbers in the PNG"
            )
        _check_categories(
            spec, _require(entry, "category_id", where, "key"), f"{where}, key 'category_id'"
        )
    elif columns.objects_column is not None:
        where = f"{row_source}: column '{columns.objects_column}'"
        entry = _entry(features[columns.objects_column], where)
        for key in (columns.bbox_key, columns.segmentation_key, columns.crowd_key):
            if key is not None:
                _require(entry, key, where, "key")
        category = _require(entry, columns.category_key, where, "key")
        _check_categories(spec, category, f"{where}, key '{columns.category_key}'")


def _require(available: Mapping[str, Any], wanted: str, where: str, what: str) -> Any:
    if wanted not in available:
        raise ValueError(f"{where} has no {what} '{wanted}'; there are {sorted(available)}")
    return available[wanted]


def _holds_images(feature: Any) -> bool:
    """Whether a column holds images, their bytes, or structs of bytes and path, as other tools
    write them.
    """
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or (isinstance(feature, Mapping) and "bytes" in feature)


def _entry(feature: Any, where: str) -> Mapping[str, Any]:
    """Features of one entry of a list of structs or a struct of lists."""
    if isinstance(feature, (List, LargeList)) and isinstance(feature.feature, Mapping):
        return feature.feature
    if isinstance(feature, Mapping):
        return {
            key: value.feature
            for key, value in feature.items()
            if isinstance(value, (List, LargeList))
        }
    raise ValueError(f"{where} holds {feature}, but must be a list of structs or a struct of lists")


def _kind_of_ids(feature: Any, where: str) -> type[int] | type[str]:
    """`int` or `str`, as the ids of a column are numbers or words."""
    if isinstance(feature, (Value, ClassLabel)):
        if feature.dtype.lstrip("u").startswith("int"):
            return int
        if feature.dtype in ("string", "large_string"):
            return str
    raise ValueError(f"{where} holds {feature}, but ids are whole numbers or words")


def _check_categories(spec: DatasetSpec, feature: Any, where: str) -> None:
    kind = _kind_of_ids(feature, where)
    if not any(isinstance(raw_id, kind) for raw_id in (*spec.id_map, *spec.void_ids)):
        stored = (
            f"the numbers of {feature}"
            if isinstance(feature, ClassLabel)
            else "numbers"
            if kind is int
            else "words"
        )
        raise ValueError(
            f"{where} holds {stored}, but the id map of dataset '{spec.name}' has none of them"
        )
