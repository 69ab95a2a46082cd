"""A look at the data before training: what would stop the run, or silently teach it the wrong
thing.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..data.faults import ignored_objects
from ..data.mixing import TrainingSet
from ..data.name_checks import held_out_contradictions
from ..data.readers.class_ids import TargetCounts
from ..data.sample import BadSampleError, SampleDataset, SampleStream
from ..errors import ConfigError
from ..evaluation import EvaluationSet
from ..settings.run import RunConfig


def look_at_data(
    members: Sequence[TrainingSet], held_out: Sequence[EvaluationSet], config: RunConfig
) -> list[str]:
    """Read some images of each dataset, evenly spaced, and hold the held-out sets' names against
    those of training.

    Returns:
        What a user should know of datasets whose reader could not count their objects, one line
        each.

    Raises:
        ConfigError: for names that contradict each other, and for an image that cannot be used,
            unless `on_bad_sample` is `skip`.
    """
    trained = {f"datasets.{member.name}": member.data for member in members}
    scored: dict[str, SampleDataset | SampleStream] = {
        f"evaluation.{one.name}": one.data for one in held_out
    }
    for key, data in scored.items():
        vocabulary = config.evaluation[key.partition(".")[2]].vocabulary
        for text in held_out_contradictions(trained.get(f"datasets.{vocabulary}"), data):
            raise ConfigError(f"{key}: {text}")
    return [
        f"{key}: {line}"
        for key, data in {**trained, **scored}.items()
        for line in _read_some(key, data, config)
    ]


def _read_some(key: str, data: SampleDataset | SampleStream, config: RunConfig) -> list[str]:
    """What the objects of some images tell of the dataset; nothing where its reader has counted all
    of them.
    """
    counts, read = TargetCounts(len(data.spec.classes)), 0
    for row in _some_rows(data, config):
        try:
            annotation = data.load(row).annotation
        except BadSampleError as error:
            if config.on_bad_sample == "raise":
                raise ConfigError(
                    f"{key}: {error} (`dataseg inspect` finds all; on_bad_sample 'skip' "
                    "goes on without)"
                ) from error
            continue
        read += 1
        counts.add(annotation.class_labels, annotation.is_crowd)
    if isinstance(data, SampleDataset) and data.census is not None:
        return []
    return [
        f"in the {read} images read before training, {line}"
        for line in ignored_objects(data, counts.census())
    ]


def _some_rows(data: SampleDataset | SampleStream, config: RunConfig) -> Iterator[Any]:
    if isinstance(data, SampleStream):
        return islice(data.epoch(config.seed), config.check_samples)
    places = np.unique(np.linspace(0, len(data) - 1, config.check_samples).round().astype(int))
    return (data.rows[place] for place in places.tolist())
