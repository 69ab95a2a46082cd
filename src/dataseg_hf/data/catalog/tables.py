"""From the tables of ids and names to what a `DatasetSpec` holds."""

from collections.abc import Collection, Iterable, Mapping

from ..sample import ClassInfo, RawId


def classes(names: Iterable[str], things: Collection[str]) -> tuple[ClassInfo, ...]:
    """Classes in the order of `names`, of which those in `things` are countable."""
    return tuple(ClassInfo(name, name in things) for name in names)


def index_by_id(raw_ids: Iterable[RawId]) -> Mapping[RawId, int]:
    """Raw ids that are listed in class order, each with its class index."""
    return {raw_id: index for index, raw_id in enumerate(raw_ids)}
