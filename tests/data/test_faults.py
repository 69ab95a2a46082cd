"""What is wrong with a dataset as a whole, told from counts."""

from dataclasses import replace

import numpy as np
import pytest

from dataseg_hf.data.faults import doubts
from dataseg_hf.data.readers.class_ids import ClassIds, TargetCounts
from dataseg_hf.data.sample import Census, ClassInfo, DatasetSpec, SampleDataset, UnknownIdsError

SPEC = DatasetSpec(
    "two", "instance", (ClassInfo("cat", True), ClassInfo("dog", True)), {"cat": 0, "dog": 1}
)


def dataset(objects, crowds, fewest=1, ignored_as="crowd"):
    census = Census(np.array(objects), np.array(crowds), fewest)
    return SampleDataset(SPEC, [], load=lambda row: row, census=census, ignored_as=ignored_as)


def test_a_sound_set_raises_no_doubt():
    assert doubts(dataset([3, 4], [1, 0]), num_queries=10) == []


def test_a_set_of_crowds_alone_teaches_nothing():
    (line,) = doubts(dataset([3, 4], [3, 4], fewest=0), num_queries=10)
    assert line.startswith("all 7 objects are marked crowd, so that nothing is learned: ")
    assert "`options: {crowd: as_objects}`" in line


def test_the_word_is_that_of_the_files():
    (line,) = doubts(dataset([3, 4], [3, 4], ignored_as="difficult"), num_queries=10)
    assert "marked difficult" in line
    assert "`options: {difficult: as_objects}`" in line


def test_the_remedy_is_that_of_the_reader():
    data = replace(dataset([3, 4], [3, 4]), ignored_remedy="check `divisor`")
    assert doubts(data, num_queries=10) == [
        "all 7 objects are marked crowd, so that nothing is learned: check `divisor`"
    ]


def test_a_class_of_crowds_alone_is_named():
    (line,) = doubts(dataset([3, 4], [0, 4]), num_queries=10)
    assert line.startswith("every object of dog is marked crowd, so that this is not learned")


def test_a_class_without_a_target_is_named():
    assert doubts(dataset([3, 0], [0, 0]), num_queries=10) == ["1 of 2 classes never occur: dog"]


@pytest.mark.parametrize(("fewest", "is_doubt"), [(10, False), (11, True)])
def test_more_objects_than_queries_in_every_image(fewest, is_doubt):
    found = doubts(dataset([50, 50], [0, 0], fewest=fewest), num_queries=10)
    assert bool(found) == is_doubt
    if is_doubt:
        assert found[0].startswith(
            "every image has more objects (at least 11) than the model has queries (10)"
        )


def test_what_was_not_counted_is_not_doubted():
    assert doubts(SampleDataset(SPEC, [], load=lambda row: row), num_queries=1) == []


def test_targets_are_counted_image_by_image():
    counts = TargetCounts(2)
    counts.add([0, 1, -1, 1], [False, True, False, False])
    counts.add([0], [False])
    census = counts.census()
    assert (census.objects.tolist(), census.crowds.tolist(), census.fewest) == ([2, 2], [0, 1], 1)


def test_unknown_ids_of_an_image_are_told_together_and_the_next_image_starts_afresh():
    ids = ClassIds(SPEC)
    assert [ids.index(raw_id) for raw_id in ("cat", "cow", "Dog", "cow")] == [0, -1, 1, -1]
    with pytest.raises(
        UnknownIdsError, match=r"^a\.json: 1 category id is not .* 'cow' \(2 objects\)"
    ):
        ids.end_image("a.json")
    ids.index("cat")
    ids.end_image("b.json")
    assert ids.notes() == []
