"""A fifth task is one class and one registration: it then trains, is evaluated and predicts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel, DaTaSegPipeline
from dataseg_hf.data.category_map import map_categories
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.micro_batch import MicroBatch
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.readers.reader_tasks import tasks_of_reader
from dataseg_hf.data.sample import SampleDataset, Segments
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.data.transforms import Augmentation
from dataseg_hf.evaluation import EvaluationSet, Inference, Processes, score
from dataseg_hf.evaluation.inference import ImageOutput, output_of
from dataseg_hf.evaluation.sets import possible_metrics
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.model.supervision_dataseg import resolve_loss_weights
from dataseg_hf.model.tasks_dataseg import TASKS, Panoptic, output_tasks
from dataseg_hf.model.thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds
from dataseg_hf.prediction.tiling import segment_image
from dataseg_hf.training.loop import accumulate_gradients
from helpers.noisy_truth import NoisyTruth

ModelFactory = Callable[..., DaTaSegModel]
SIZE = 32
NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)
SPEC = replace(SHAPES_SPECS["shapes_panoptic"], task="parts")  # type: ignore[arg-type]
THINGS = [i for i, is_thing in enumerate(SPEC.is_thing) if is_thing]
STUFF = [i for i, is_thing in enumerate(SPEC.is_thing) if not is_thing]
MERGED = (*THINGS[:2], *STUFF[:1])


class Parts(Panoptic):
    """The proposals of some things and some stuff merge, as a map says; the others stay apart."""

    name = "parts"
    summary = "segments, joined by a map"

    def merged_categories(self, is_thing: Any) -> Any:
        merged = is_thing & False
        merged[list(MERGED)] = True
        return merged


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "parts", Parts())


def parts_data(split: Any, count: int) -> SampleDataset:
    """Scenes of the shapes world; the segments of a merged category are one."""
    data = shapes_dataset("shapes_panoptic", split, size=SIZE, count=count)
    mapped = map_categories(replace(data, spec=SPEC), {})
    assert isinstance(mapped, SampleDataset)
    return mapped


def model_of_the_mix(tiny_model: ModelFactory) -> DaTaSegModel:
    model = tiny_model(vocabularies={}, default_vocabulary=None)
    generator = torch.Generator().manual_seed(0)
    for name in ("parts", "shapes_semantic"):
        spec = SPEC if name == "parts" else SHAPES_SPECS[name]
        embeddings = torch.randn(
            len(spec.labels), model.config.text_embedding_dim, generator=generator
        )
        model.add_vocabulary(name, spec.labels, spec.is_thing, embeddings)
    model.set_vocabulary("parts")
    return model


def two_of_each(category: int, other: int) -> ImageProposals:
    """Four sure proposals, two of either category, each on a quarter of the image."""
    masks = torch.full((4, SIZE, SIZE), -20.0)
    half = SIZE // 2
    for query, (row, column) in enumerate([(0, 0), (0, half), (half, 0), (half, half)]):
        masks[query, row : row + half, column : column + half] = 20.0
    logits = torch.zeros(4, len(SPEC.classes) + 1)
    logits[[0, 1], category] = logits[[2, 3], other] = 20.0
    return ImageProposals(logits, masks, torch.ones(2), torch.tensor(SPEC.is_thing))


def test_its_labels_are_those_of_a_known_form() -> None:
    annotation = parts_data("train", 3)[2].annotation
    assert isinstance(annotation, Segments)
    labels = annotation.class_labels.tolist()
    assert all(labels.count(category) <= 1 for category in MERGED)
    assert "parts" in tasks_of_reader("coco_panoptic")
    assert "parts" not in tasks_of_reader("yolo")


def test_it_trains_in_a_mix(tiny_model: ModelFactory) -> None:
    data = {
        "parts": parts_data("train", 4),
        "shapes_semantic": shapes_dataset("shapes_semantic", "train", size=SIZE, count=4),
    }
    members = [
        TrainingSet(name, of, 1.0, 4, Augmentation(SIZE, horizontal_flip=0.0), {})
        for name, of in data.items()
    ]
    model = model_of_the_mix(tiny_model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    accelerator = Accelerator(cpu=True)
    losses: dict[str, list[float]] = {name: [] for name in data}
    batches: list[MicroBatch] = list(mixing_loader(MixingSampler(members, 0, 0, 40), NORMALIZATION))
    for step, batch in enumerate(batches):
        member = members[batch.dataset]
        weights = resolve_loss_weights(model.config, None)
        optimizer.zero_grad()
        found = accumulate_gradients(model, member, [batch], step, weights, accelerator)
        optimizer.step()
        losses[member.name].append(found.totals[0].item())
    of_parts = losses["parts"]
    assert len(of_parts) > 10
    assert losses["shapes_semantic"]
    assert np.mean(of_parts[-4:]) < 0.8 * np.mean(of_parts[:4])


@pytest.mark.parametrize(
    ("category", "other", "segments"),
    [
        (MERGED[0], MERGED[2], 2),  # a thing and stuff of the map: one segment each
        (THINGS[2], STUFF[1], 4),  # those that it leaves out: nothing merges
    ],
)
def test_its_merge_rule_is_that_of_prediction_and_evaluation(
    category: int, other: int, segments: int
) -> None:
    proposals = two_of_each(category, other)
    prediction = TASKS["parts"].predict(proposals, None, DEFAULT_THRESHOLDS)
    assert len(list(prediction.regions())) == segments
    data = parts_data("eval", 1)
    chosen = EvaluationSet("parts", data, torch.zeros(0), ["pq"], 1, SIZE)
    output: Any = output_of(ImageOutput(proposals, proposals), data[0], chosen, "panoptic")
    assert len(output.segments) == segments
    # panoptic merges stuff alone
    panoptic = TASKS["panoptic"].predict(proposals, None, DEFAULT_THRESHOLDS)
    assert len(list(panoptic.regions())) == 3


def test_it_is_evaluated() -> None:
    data = parts_data("eval", 4)
    metrics = possible_metrics(data.spec)
    assert metrics == ("pq", "miou", "mask_ap", "box_ap")
    chosen = EvaluationSet("parts", data, torch.zeros(0), metrics, 2, SIZE)
    model: Any = NoisyTruth(chosen, 0.5, 0.25)
    values = score(model, chosen, Inference(NORMALIZATION), Processes()).values()
    assert values["pq"] == values["miou"] == 1.0


def test_it_predicts_by_name(tiny_model: ModelFactory) -> None:
    assert "parts" in output_tasks()
    model = model_of_the_mix(tiny_model).eval()
    processor = DaTaSegImageProcessor(size=SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    segmenter = DaTaSegPipeline(model=model, image_processor=processor, device="cpu")
    low = {"threshold": 0.0, "overlap_mask_area_threshold": 0.0}
    found = segmenter(image, subtask="parts", **low)
    assert found
    names = [segment["label"] for segment in found]
    assert all(names.count(SPEC.labels[category]) <= 1 for category in MERGED)
    segments = segment_image(model, processor, image, "parts", Thresholds(0.0, overlap=0.0), SIZE)
    label_ids = [segment.label_id for segment in segments]
    assert label_ids
    assert all(label_ids.count(category) <= 1 for category in MERGED)
