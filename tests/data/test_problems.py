"""One line for each kind of problem."""

import pickle

from dataseg_hf.data.problems import Problem, kind_of, problem_lines, remark_lines
from dataseg_hf.data.sample import BadSampleError, UnknownIdsError


def test_names_files_and_numbers_make_no_kind():
    first = (
        "/data/a b/x1.png: image 3, annotation 7: the box from (1.5, -2) to (3e5, 4) has no area; "
        "remove it"
    )
    second = (
        "maps/y.png: image 12, annotation 8: the box from (0, 0) to (1, 0) has no area; remove it"
    )
    assert kind_of(first.replace("a b", "ab")) == kind_of(second)
    assert kind_of("label 'cat' is missing") == kind_of("label 'big dog' is missing")
    assert kind_of("label 'cat' is missing") != kind_of("label 'cat' is empty")


def test_many_images_of_one_kind_are_one_line_the_most_frequent_first():
    damaged = [Problem(f"/x/{n}.jpg: cannot be read", f"im{n}", f"/x/{n}.jpg") for n in range(5)]
    lines = problem_lines([Problem("a.json: key 'x' is missing"), *damaged])
    assert lines == [
        "5 times (images im0, im1, im2, ...), first: /x/0.jpg: cannot be read",
        "a.json: key 'x' is missing",
    ]


def test_a_problem_of_one_image_names_it():
    assert problem_lines([Problem("b.png: no image", "b", "b.png")]) == ["image b: b.png: no image"]


def test_unknown_ids_are_counted_over_all_images():
    errors = [
        UnknownIdsError("a.json: image 1", "mine", {"aeroplane": 3, "sofa": 1}, "object"),
        UnknownIdsError("a.json: image 2", "mine", {"aeroplane": 10}, "object"),
    ]
    (line,) = problem_lines(map(Problem.of, errors))
    assert line.startswith(
        "2 images: 2 category ids are not in the spec of dataset 'mine': 'aeroplane' (13 objects), "
        "'sofa' (1 object); "
    )
    assert "`unknown_ids: void`" in line


def test_only_some_of_many_ids_are_named():
    error = UnknownIdsError("a", "mine", dict.fromkeys(range(20), 1), "pixel")
    assert "20 category ids are not in the spec" in str(error)
    assert "and 12 more" in str(error)


def test_errors_travel_between_processes():
    error = UnknownIdsError("a.json: image 1", "mine", {"sofa": 2}, "object")
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.counts, copied.unit) == (str(error), {"sofa": 2}, "object")
    assert str(pickle.loads(pickle.dumps(BadSampleError("x")))) == "x"


def test_remarks_of_one_kind_are_one_note():
    remarks = [
        f"maps/{n}.png: segment ids [{n}] are listed and have no pixel: left out" for n in range(3)
    ]
    assert remark_lines([*remarks, "other"]) == [f"3 times, first: {remarks[0]}", "other"]
