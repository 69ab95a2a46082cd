"""Pipelines: the one of transformers with the default vocabulary, ours with any."""

import builtins
import copy

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ImageSegmentationPipeline, pipeline
from transformers.utils import ModelOutput

from dataseg_hf import DaTaSegPipeline
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import VOCABULARIES, checkpoint_model, checkpoint_processor

SUBTASKS = ["panoptic", "semantic", "instance"]
SCENE = VOCABULARIES["scene"][0]
WORDS = ["house", "red car", "tree", "river", "old man", "bridge"]
LOW = {"threshold": 0.05, "overlap_mask_area_threshold": 0.01}  # a random model is never sure


@pytest.fixture(scope="module")
def model():
    return checkpoint_model()


@pytest.fixture(scope="module")
def images():
    """Of different sizes, both larger than the canvas."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        for size in ((50, 90), (80, 30))
    ]


@pytest.fixture
def ours(model):
    return DaTaSegPipeline(model=model, image_processor=checkpoint_processor(), device="cpu")


@pytest.fixture
def plain(model):
    """transformers' own class, which `pipeline("image-segmentation")` no longer takes for a model
    of ours.
    """
    return ImageSegmentationPipeline(
        model=model, image_processor=checkpoint_processor(), device="cpu"
    )


def same(first, second):
    """Equal labels, scores and masks, but for rounding where batches are summed in another
    order.
    """
    assert [segment["label"] for segment in first] == [segment["label"] for segment in second]
    assert [segment["score"] for segment in first] == pytest.approx(
        [segment["score"] for segment in second], abs=1e-4
    )
    for one, other in zip(first, second, strict=True):
        assert np.mean(np.not_equal(one["mask"], other["mask"])) < 0.001


# --- the pipeline of transformers


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_plain_pipeline(plain, images, subtask):
    results = plain(images, subtask=subtask, **LOW)
    assert any(results)
    for image, segments in zip(images, results, strict=True):
        for segment in segments:
            assert segment["label"] in SCENE
            assert segment["mask"].size == image.size
            assert set(np.unique(segment["mask"])) <= {0, 255}


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_plain_pipeline_with_batches(plain, images, subtask):
    batched = plain([*images, images[0]], subtask=subtask, batch_size=2, **LOW)
    for segments, image in zip(batched, [*images, images[0]], strict=True):
        same(segments, plain(image, subtask=subtask, **LOW))


def test_plain_pipeline_by_path_asks_nothing(model, images, tmp_path, monkeypatch):
    """Whether to run code is a question only for those who lack this package."""

    questions = []
    monkeypatch.setattr(builtins, "input", lambda *args: questions.append(args) or "no")
    save_checkpoint(model, checkpoint_processor(), tmp_path)
    loaded = pipeline("image-segmentation", model=str(tmp_path), device="cpu")
    same(loaded(images[0], **LOW), pipeline_of(model)(images[0], **LOW))
    assert questions == []


def pipeline_of(model):
    return pipeline(
        "image-segmentation", model=model, image_processor=checkpoint_processor(), device="cpu"
    )


# --- ours


@pytest.mark.parametrize("subtask", ["panoptic", "semantic", None])
def test_default_vocabulary_gives_what_the_parent_gives(ours, plain, images, subtask):
    for image in images:
        expected = plain(image, subtask=subtask, **LOW)
        assert expected
        same(ours(image, subtask=subtask, **LOW), expected)


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_batches_of_different_sizes(ours, images, subtask):
    options = {"subtask": subtask, "vocabulary": WORDS, **LOW}
    batched = ours(images, batch_size=2, **options)
    assert any(batched)
    for segments, image in zip(batched, images, strict=True):
        same(segments, ours(image, **options))
        assert all(segment["mask"].size == image.size for segment in segments)
        assert {segment["label"] for segment in segments} <= set(WORDS)


def test_overlapping_instances_stay_whole(ours):
    masks = torch.zeros(2, 4, 8)
    masks[0, :, :6], masks[1, :, 2:] = 1, 1
    output = ModelOutput(
        class_queries_logits=torch.tensor([[[9.0, 0, 0, 0, 0], [0, 8.0, 0, 0, 0]]]),
        masks_queries_logits=masks[None] * 20 - 10,
        is_thing=torch.tensor([[True, True, False, False]]),
        valid_size=torch.ones(1, 2),
        target_size=[(4, 8)],
    )
    first, second = ours.postprocess(output, subtask="instance", threshold=0.5)
    assert (first["label"], second["label"]) == ("cat", "dog")
    assert np.array_equal(first["mask"], np.uint8(255 * masks[0]))
    assert np.array_equal(second["mask"], np.uint8(255 * masks[1]))
    assert first["mask"].mode == "L"


def test_stored_vocabulary_of_a_call(ours, model, images):
    results = ours(images, vocabulary="pets", subtask="semantic")
    assert {segment["label"] for segments in results for segment in segments} <= set(
        VOCABULARIES["pets"][0]
    )
    other = checkpoint_model()
    other.set_vocabulary("pets")
    for segments, image in zip(results, images, strict=True):
        same(segments, pipeline_of(other)(image, subtask="semantic"))


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_words_of_a_stored_vocabulary_give_the_same(ours, images, subtask):
    labels, is_thing = VOCABULARIES["scene"]
    for image in images:
        stored = ours(image, vocabulary="scene", subtask=subtask, **LOW)
        same(ours(image, vocabulary=labels, is_thing=is_thing, subtask=subtask, **LOW), stored)


def test_words_that_are_no_things(ours, images):
    words = {"vocabulary": WORDS, **LOW}
    no_thing = [False] * len(WORDS)
    assert any(ours(images, subtask="instance", **words))
    assert not any(ours(images, subtask="instance", is_thing=no_thing, **words))
    found = ours(images, is_thing=no_thing, **words)
    assert any(found)
    for segments in found:
        labels = [segment["label"] for segment in segments]
        assert len(labels) == len(set(labels))


def test_the_model_is_not_changed(ours, model, images):
    config, weights = model.config.to_dict(), copy.deepcopy(model.state_dict())
    for vocabulary in ("pets", ["tree", "car"]):
        for subtask in SUBTASKS:
            ours(images[0], vocabulary=vocabulary, subtask=subtask)
    assert model.config.to_dict() == config
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert model.config.id2label == dict(enumerate(SCENE))


def test_words_are_embedded_once(ours, model, images, monkeypatch):
    calls = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda words: calls.append(words) or embed(words))
    for _ in range(3):
        ours(images, vocabulary=["tree", "car"], batch_size=2)
    ours(images[0], vocabulary=["car", "tree"])
    assert calls == [["tree", "car"], ["car", "tree"]]


def test_kept_embeddings_do_not_pile_up(ours):
    for number in range(200):
        ours._sanitize_parameters(vocabulary=[f"word {number}"])
    assert len(ours._embedded) == 64
    assert ("word 199",) in ours._embedded


def test_vocabulary_given_at_construction(model, images):
    segmenter = DaTaSegPipeline(
        model=model,
        image_processor=checkpoint_processor(),
        device="cpu",
        vocabulary=["tree", "car"],
        subtask="semantic",
    )
    assert {segment["label"] for segment in segmenter(images[0])} <= {"tree", "car"}
    assert {segment["label"] for segment in segmenter(images[0], vocabulary="pets")} <= set(
        VOCABULARIES["pets"][0]
    )
    assert {segment["label"] for segment in segmenter(images[0])} <= {"tree", "car"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"vocabulary": "birds"},
            r"no vocabulary 'birds' in this model; stored are \['pets', 'scene'\]",
        ),
        ({"vocabulary": ["cat", "cat"]}, "names a category twice"),
        ({"vocabulary": []}, "has no labels"),
        ({"vocabulary": ["cat", "..."]}, "no letter or digit"),
        ({"vocabulary": ["cat"], "is_thing": [True, False]}, "1 labels and 2 thing flags"),
        ({"vocabulary": "pets", "is_thing": [True]}, "drop `is_thing`"),
        ({"is_thing": [True]}, "goes with a `vocabulary` of words"),
        ({"subtask": "depth"}, "unknown subtask 'depth'"),
        ({"vocabularies": "pets"}, r"unknown arguments \['vocabularies'\]"),
        ({"thresold": 0.5}, r"unknown arguments \['thresold'\].*did you mean 'threshold'\?"),
        ({"mask_treshold": 0.5}, r"did you mean 'mask_threshold'\?"),
        ({"subtask": "instances"}, r"unknown subtask 'instances'.*did you mean 'instance'\?"),
        ({"subtask": ["instance"]}, "unknown subtask"),
        ({"vocabulary": "scen"}, r"no vocabulary 'scen'.*did you mean 'scene'\?"),
        (
            {"vocabulary": ["Scene"]},
            r"'Scene' is no category of this model.*did you mean 'scene'\?",
        ),
        ({"vocabulary": {"cat": 1}}, "a vocabulary must be a list of names, got dict"),
        ({"vocabulary": ["cat", 3]}, "a vocabulary must be a list of names, got int 3 in it"),
        ({"vocabulary": ["cat"], "is_thing": "yes"}, "`is_thing` must be a list of true and false"),
        ({"threshold": "0.5"}, "`threshold` must be a number"),
        ({"mask_threshold": None}, "`mask_threshold` must be a number"),
        ({"nms": 2}, "`nms` must be None or an IoU in 0..1, got 2"),
    ],
)
def test_wrong_arguments(ours, images, options, message):
    with pytest.raises(ValueError, match=message):
        ours(images[0], **options)


def test_a_model_without_text_encoder_says_so(images):
    model = checkpoint_model()
    model.config.text_encoder = None
    segmenter = DaTaSegPipeline(model=model, image_processor=checkpoint_processor(), device="cpu")
    assert segmenter(images[0], vocabulary="pets", subtask="semantic")
    with pytest.raises(
        ValueError,
        match=r"pass `text_embeddings` for \['tree'\], .* choose .*: \['pets', 'scene'\]",
    ):
        segmenter(images[0], vocabulary=["tree"])


def test_a_model_without_text_encoder_takes_its_stored_names(images):
    model = checkpoint_model()
    options = {"subtask": "semantic", "vocabulary": ["Grass", "hamster"]}
    expected = DaTaSegPipeline(model=model, image_processor=checkpoint_processor(), device="cpu")(
        images[0], **options
    )
    model.config.text_encoder = None
    found = DaTaSegPipeline(model=model, image_processor=checkpoint_processor(), device="cpu")(
        images[0], **options
    )
    same(found, expected)


def test_repeated_instances_are_left_out(ours, images):
    options = {"subtask": "instance", "threshold": 0.02}
    everything = ours(images[1], nms=None, **options)
    scores = [segment["score"] for segment in ours(images[1], **options)]
    assert 0 < len(scores) < len(everything)
    assert scores == [segment["score"] for segment in ours(images[1], nms=0.7, **options)]
    assert len(ours(images[1], nms=0.0, **options)) <= len(scores)


def test_a_text_tower_that_cannot_be_fetched_is_named(images, tmp_path):
    model = checkpoint_model()
    model.config.text_encoder = {"kind": "hub", "name_or_path": str(tmp_path / "tower")}
    segmenter = DaTaSegPipeline(model=model, image_processor=checkpoint_processor(), device="cpu")
    assert segmenter(images[0], vocabulary="pets", subtask="semantic")
    with pytest.raises(
        OSError, match=r"text tower '.*tower' cannot be loaded .*; choose a stored vocabulary"
    ):
        segmenter(images[0], vocabulary=["tree"])


def test_threshold_of_a_call(ours, images):
    scores = [segment["score"] for segment in ours(images[0], subtask="instance", threshold=0.0)]
    assert len(scores) > 2
    # between two scores: those in the result are rounded
    lower, upper = sorted(set(scores))[1:3]
    middle = (lower + upper) / 2
    found = ours(images[0], subtask="instance", threshold=middle)
    assert [segment["score"] for segment in found] == [score for score in scores if score > middle]
    assert ours(images[0], subtask="instance", threshold=1.0) == []


def test_a_folder_is_no_image(ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()  # a name that is also base64
    with pytest.raises(ValueError, match="'docs' is a folder: give the path of an image in it"):
        ours("docs")
