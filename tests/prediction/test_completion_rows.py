"""Which images of a set are done, and in which order their files have them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_completion import SPEC

from dataseg_hf.data.sample import BadSampleError, Instances, Sample, SampleDataset
from dataseg_hf.prediction.completion import SetRows
from dataseg_hf.prediction.completion.journals import Journals
from dataseg_hf.prediction.labeling.journal import Batch, LabeledImage

NOTHING = Instances(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, bool))
FOLDER = Path("/images")


def done(name: str, row: int) -> LabeledImage:
    return LabeledImage(name, f"entry of {name}", {}, None, 1, 0.0, row)


def data_of(rows: list[Any]) -> SampleDataset:
    """A set whose images have as names what their rows say; None is an image that is broken."""

    def load(row: Any) -> Sample:
        if row is None:
            raise BadSampleError("broken")
        name = row["id"] if isinstance(row, dict) else row
        return Sample(np.zeros((2, 2, 3), np.uint8), NOTHING, name, "")

    return SampleDataset(SPEC, rows, load)


def test_journals_of_several_processes_are_read_in_the_order_of_the_rows(tmp_path: Path) -> None:
    Journals(tmp_path, 0).add(Batch([done("a", 0), done("b", 1)]))
    Journals(tmp_path, 2).add(Batch([done("e", 4)]))
    Journals(tmp_path, 0).add(Batch([done("f", 5)]))
    Journals(tmp_path, 1).add(Batch([done("c", 2), done("d", 3)]))
    journals = Journals(tmp_path)
    assert list(journals.entries()) == [f"entry of {name}" for name in "abcdef"]
    assert [journals.at(place).name for place in range(len(journals))] == list("abcdef")
    assert journals.row_of == dict(zip("abcdef", range(6), strict=True))


def test_images_of_one_name_that_two_processes_met_are_told(tmp_path: Path) -> None:
    Journals(tmp_path, 0).add(Batch([done("a", 7)]))
    Journals(tmp_path, 1).add(Batch([done("a", 3)]))
    with pytest.raises(BadSampleError, match="image a: the images 3 and 7 of the set"):
        Journals(tmp_path)


def test_what_is_done_is_known_by_name_where_rows_tell_names() -> None:
    """Images that were added to the folder since shift the others' rows."""
    paths = [{"image": str(FOLDER / f"{name}.png"), "id": name} for name in "abcd"]
    rows = SetRows(data_of(paths), FOLDER)
    assert list(rows.left({"b.png": 0, "d.png": 1})) == [0, 2]


def test_what_is_done_is_known_by_row_where_rows_tell_no_names() -> None:
    rows = SetRows(data_of(["a", "b", "c"]), None)
    assert list(rows.left({"b": 1})) == [0, 2]
    assert [(row, name) for row, name, _ in rows.samples([0, 2])] == [(0, "a"), (2, "c")]


@pytest.mark.parametrize("rows", [["a", "b", "a"], [{"id": n, "image_id": n} for n in "aba"]])
def test_images_of_one_name_are_refused_or_left_out(rows: list[Any]) -> None:
    with pytest.raises(BadSampleError, match="image a: the images 0 and 2 of the set"):
        SetRows(data_of(rows), None).samples(range(3))
    left_out = SetRows(data_of(rows), None, skips=True)
    assert [name for _, name, _ in left_out.samples(left_out.left({}))] == ["a", "b"]


def test_the_name_of_an_image_that_is_done_is_taken() -> None:
    rows = SetRows(data_of(["a", "b", "a"]), None)
    with pytest.raises(BadSampleError, match="image a: the images 0 and 2 of the set"):
        rows.samples(rows.left({"a": 0}))


def test_a_broken_image_is_left_out_where_that_is_asked_for() -> None:
    rows = SetRows(data_of(["a", None, "c"]), None, skips=True)
    assert [row for row, _, _ in rows.samples([0, 1, 2])] == [0, 2]
