"""Names that users type: what is taken for a slip, and what is not."""

import pytest

from dataseg_hf.model.words_dataseg import (
    checked_flags,
    checked_words,
    did_you_mean,
    meant_vocabulary,
    parse_vocabulary,
)

STORED = {
    "shapes_panoptic": {"labels": ["red circle", "grass field"], "is_thing": [True, False]},
    "pets": {"labels": ["cat", "dog"], "is_thing": [True, True]},
    "street": {"labels": ["street", "car"], "is_thing": [False, True]},
}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("shapes_pan", "shapes_panoptic"),
        ("Shapes_Panoptic", "shapes_panoptic"),
        ("shapes panoptic", "shapes_panoptic"),
        ("shapes-panoptic", "shapes_panoptic"),
        ("shapes_panotpic", "shapes_panoptic"),
        ("shapes", "shapes_panoptic"),
        ("pet", "pets"),
        ("Pets", "pets"),
        ("street", None),  # a category of its own name
        ("red_circle", None),
        ("tree", None),
        ("a pet", None),
        ("pan", None),
    ],
)
def test_a_word_alone_that_is_like_a_vocabulary(word, meant):
    assert meant_vocabulary(word, STORED, alone=True) == meant
    if meant is None:
        assert checked_words([word], STORED) == [word]
    else:
        with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
            checked_words([word], STORED)


@pytest.mark.parametrize("word", ["shapes_pan", "SHAPES panoptic", "shapes_p"])
def test_a_vocabulary_among_words_is_no_category(word):
    with pytest.raises(ValueError, match="did you mean 'shapes_panoptic'"):
        checked_words(["red circle", word], STORED)


def test_short_words_among_others_are_words():
    assert checked_words(["pet", "shapes", "car"], STORED) == ["pet", "shapes", "car"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("pets", "pets"),
        (" shapes_panoptic ", "shapes_panoptic"),
        ("cat", ["cat"]),
        ("red   circle,, grass field ,", ["red circle", "grass field"]),
        ("shapes_pan", ["shapes_pan"]),
        (" , ", []),
    ],
)
def test_a_line_of_text_names_a_vocabulary_or_words(text, asked):
    assert parse_vocabulary(text, STORED) == asked


@pytest.mark.parametrize(
    "wrong", ["cat", b"cat", {"cat": 1}, {"cat"}, 3, None, ["cat", 3], [["cat"]], [None]]
)
def test_what_is_no_list_of_names_is_refused(wrong):
    with pytest.raises(ValueError, match="a vocabulary must be a list of names, got"):
        checked_words(wrong)


def test_every_ordered_collection_of_names_is_taken():
    assert (
        checked_words(("a", "b"))
        == checked_words(iter(["a", "b"]))
        == checked_words({"a": 0, "b": 1}.keys())
    )


@pytest.mark.parametrize("wrong", ["yes", ["yes"], [2], True, 1, [None], {"a": True}])
def test_what_is_no_list_of_flags_is_refused(wrong):
    with pytest.raises(ValueError, match="`is_thing` must be a list of true and false"):
        checked_flags(wrong, 1)


def test_did_you_mean_asks_only_for_what_is_near():
    assert (
        did_you_mean("thresold", ["threshold", "mask_threshold"]) == "; did you mean 'threshold'?"
    )
    assert did_you_mean("color", ["threshold", "mask_threshold"]) == ""
