"""What must hold for every form of the model: batches, canvases, attention, precision, extreme
images, saving.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import infer_auto_device_map
from accelerate.utils import compute_module_sizes
from torch import Tensor, nn

from dataseg_hf.model.layers_dataseg import MaskedGroupNorm
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from helpers.predictions import panoptic_prediction
from helpers.tiny_backbones import backbone

ModelFactory = Callable[..., DaTaSegModel]
LabelFactory = Callable[..., dict[str, Tensor]]

SIZE = (64, 64)
SKY, CIRCLE, SQUARE = 2, 0, 1
FORMS: dict[str, dict[str, Any]] = {
    "fpn": {},
    "deformable": {"pixel_decoder": "deformable", "encoder_layers": 2},
    "pyramid": {"backbone_config": backbone("dinov3_vit")},
    "windows": {"backbone_config": backbone("swin"), "pixel_decoder": "deformable"},
}


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=sorted(FORMS))
def model(request: pytest.FixtureRequest, tiny_model: ModelFactory) -> DaTaSegModel:
    """A model in evaluation mode whose deformable attention, where it has one, looks around."""
    model = tiny_model(initial_logit_scale=10.0, **FORMS[request.param])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".offsets." in name or name.endswith("attention.weights.weight"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def padded(images: Tensor, *sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(len(sizes), *images.shape[-2:])
    for row, (height, width) in zip(mask, sizes, strict=True):
        row[:height, :width] = 1
    return images * mask[:, None], mask


# --- batches, canvases, attention -----------------------------------------------------------------


def test_a_result_does_not_depend_on_the_batch(model: DaTaSegModel) -> None:
    images, mask = padded(torch.randn(3, 3, *SIZE), (64, 48), (40, 64), (64, 64))
    with torch.no_grad():
        together = model(images, mask)
        for image in range(3):
            alone = model(images[image : image + 1], mask[image : image + 1])
            close(alone.class_queries_logits[0], together.class_queries_logits[image])
            close(alone.masks_queries_logits[0], together.masks_queries_logits[image])


def test_eager_attention_equals_sdpa(model: DaTaSegModel) -> None:
    images, mask = padded(torch.randn(2, 3, *SIZE), (64, 40), (30, 64))
    outputs = []
    for implementation in ("sdpa", "eager"):
        convolutional = model.config.backbone_config.model_type == "convnext"
        model.set_attn_implementation({"": implementation} if convolutional else implementation)
        with torch.no_grad():
            outputs.append(model(images, mask))
    close(outputs[0].masks_queries_logits, outputs[1].masks_queries_logits, tolerance=1e-3)
    close(outputs[0].class_queries_logits, outputs[1].class_queries_logits, tolerance=1e-3)


def scene(
    scene_labels: LabelFactory, *shapes: tuple[int, int, int, int, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """An image of colored rectangles on sky, [3, 64, 64], and its labels."""
    labels = scene_labels("panoptic", SIZE, (SKY, 0, 0, 64, 64), *shapes)
    colors = torch.tensor([[1.5, -1.0, -1.0], [-1.0, 1.5, -1.0], [-0.5, 0.0, 1.0]])
    return colors[labels["class_labels"]][labels["segment_map"].long()].permute(2, 0, 1), labels


SCENES = [
    [(CIRCLE, 8, 8, 28, 36), (SQUARE, 36, 24, 60, 56)],
    [(SQUARE, 4, 4, 24, 24), (CIRCLE, 36, 12, 60, 36)],
]


def trained(model: DaTaSegModel, scene_labels: LabelFactory) -> tuple[DaTaSegModel, Tensor]:
    """The model after learning two scenes by heart, on canvases of two sizes, as in training with
    mixed image sizes.
    """
    images, labels = zip(*(scene(scene_labels, *shapes) for shapes in SCENES), strict=True)
    pixels = torch.stack(images)
    wide = nn.functional.pad(pixels, (0, 32, 0, 32))
    mask = nn.functional.pad(torch.ones(2, *SIZE), (0, 32, 0, 32))
    wide_labels = [
        {**one, "segment_map": nn.functional.pad(one["segment_map"], (0, 32, 0, 32), value=-1)}
        for one in labels
    ]
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(160):
        optimizer.zero_grad()
        if step % 2:
            loss = model(wide, mask, labels=wide_labels, task="panoptic").loss
        else:
            loss = model(pixels, labels=list(labels), task="panoptic").loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval(), pixels


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fpn", "deformable"])
@pytest.mark.parametrize("canvas", [(64, 128), (128, 128)])
def test_another_canvas_leaves_the_masks_of_a_trained_model(
    form: str, canvas: tuple[int, int], tiny_model: ModelFactory, scene_labels: LabelFactory
) -> None:
    """Canvases that training never saw."""
    model, pixels = trained(tiny_model(initial_logit_scale=20.0, **FORMS[form]), scene_labels)
    height, width = canvas
    larger = nn.functional.pad(pixels, (0, width - 64, 0, height - 64))
    mask = torch.zeros(2, height, width)
    mask[:, :64, :64] = 1
    with torch.no_grad():
        outputs = [model(pixels), model(larger, mask)]
    maps = []
    for output in outputs:
        results = [
            panoptic_prediction(
                output.class_queries_logits[image],
                output.masks_queries_logits[image],
                ~output.is_thing[image],
                output.valid_size[image],
                SIZE,
            )
            for image in range(2)
        ]
        maps.append([segment_masks(result.segmentation, result.segments) for result in results])
    for before, after in zip(*maps, strict=True):
        assert len(before) == 3
        for category, masks in before.items():
            assert (masks & after[category]).sum() / (masks | after[category]).sum() > 0.95


def segment_masks(id_map: Tensor, segments: list[dict[str, Any]]) -> dict[int, Tensor]:
    return {segment["label_id"]: id_map == segment["id"] for segment in segments}


@pytest.mark.parametrize("size", [(6, 4), (8, 8)])
def test_the_norm_of_a_padded_image_is_that_of_the_image(size: tuple[int, int]) -> None:
    ours, torchs = MaskedGroupNorm(4, 16), nn.GroupNorm(4, 16)
    for norm in (ours, torchs):
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.uniform_(norm.bias, generator=torch.Generator().manual_seed(2))
    height, width = size
    maps = 5 + torch.randn(2, 16, 8, 8)
    valid_mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid_mask[:, :height, :width] = True
    found = ours(maps, valid_mask)
    close(found[..., :height, :width], torchs(maps[..., :height, :width]))
    assert (found * ~valid_mask[:, None] == 0).all()


def test_the_norm_of_nothing_but_padding_has_a_finite_gradient() -> None:
    maps = torch.randn(1, 16, 4, 4, requires_grad=True)
    MaskedGroupNorm(4, 16)(maps, torch.zeros(1, 4, 4, dtype=torch.bool)).sum().backward()
    assert torch.isfinite(maps.grad).all()


# --- extreme inputs in every precision ------------------------------------------------------------

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CONTENTS = ["random", "black", "white", "one pixel", "everything", "nothing"]


def extreme(
    content: str, task: str, scene_labels: LabelFactory
) -> tuple[Tensor, dict[str, Tensor]]:
    """An image [1, 3, 64, 64], normalized as by ImageNet's mean and deviation, and its labels."""
    fill = {"black": -2.12, "white": 2.64}.get(content)
    image = torch.randn(1, 3, *SIZE) if fill is None else torch.full((1, 3, *SIZE), fill)
    rectangles = {
        "one pixel": [(CIRCLE, 31, 17, 32, 18)],
        "everything": [(CIRCLE, 0, 0, 64, 64)],
        "nothing": [],
    }.get(content, [(SKY, 0, 0, 64, 40), (CIRCLE, 8, 8, 30, 40), (SQUARE, 35, 4, 60, 30)])
    return image, scene_labels(task, SIZE, *rectangles)


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance", "boxes"])
def test_losses_are_finite(
    task: str, content: str, precision: str, model: DaTaSegModel, scene_labels: LabelFactory
) -> None:
    image, labels = extreme(content, task, scene_labels)
    dtype = PRECISIONS[precision]
    model.train()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        output = model(image, labels=[labels], task=task)
    output.loss.backward()
    assert all(torch.isfinite(term) for term in output.loss_dict.values()), output.loss_dict
    if dtype == torch.float16:
        # its gradients may overflow without a loss scaler: a norm divides by the spread of a
        # constant image
        return
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


# --- saving and loading ---------------------------------------------------------------------------


def values(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that are not saved."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    assert set(values(found)) == set(values(expected))
    for name, value in values(expected).items():
        loaded = values(found)[name]
        assert loaded.dtype == value.dtype, name
        assert torch.equal(loaded, value), name


def disturbed(model: DaTaSegModel) -> DaTaSegModel:
    """No weight as an initialization would leave it."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    return model


def test_bfloat16_keeps_every_weight(model: DaTaSegModel, tmp_path: Path) -> None:
    disturbed(model).save_pretrained(tmp_path / "full")
    half = DaTaSegModel.from_pretrained(tmp_path / "full", dtype=torch.bfloat16)
    for name, value in model.named_parameters():
        rounded = value if name.endswith("logit_scale") else value.bfloat16()
        assert torch.equal(values(half)[name], rounded), name
    half.save_pretrained(tmp_path / "half")
    assert_same(DaTaSegModel.from_pretrained(tmp_path / "half", dtype="auto"), half)


def test_shards_and_a_device_map_keep_every_weight(model: DaTaSegModel, tmp_path: Path) -> None:
    disturbed(model).save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same(DaTaSegModel.from_pretrained(tmp_path), model)
    assert_same(DaTaSegModel.from_pretrained(tmp_path, device_map={"": "cpu"}), model)
    placed = DaTaSegModel.from_pretrained(tmp_path, device_map="auto")
    assert_same(placed, model)
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        close(placed(images).masks_queries_logits, model(images).masks_queries_logits)


def test_parts_on_a_disk_are_fetched_when_needed(model: DaTaSegModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    places = {
        "backbone": "disk",
        "pixel_decoder": "disk",
        "query_decoder": "disk",
        "classifier": "cpu",
    }
    placed = DaTaSegModel.from_pretrained(
        tmp_path / "model",
        device_map={**places, "vocabularies": "cpu"},
        offload_folder=tmp_path / "disk",
    )
    assert placed.query_decoder.queries.weight.is_meta
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        found, expected = placed(images), model(images)
    close(found.masks_queries_logits, expected.masks_queries_logits)
    close(found.class_queries_logits, expected.class_queries_logits)


def test_no_device_gets_a_part_of_a_decoder(model: DaTaSegModel) -> None:
    size = compute_module_sizes(model)[""]
    places = infer_auto_device_map(
        model,
        max_memory={0: int(0.45 * size), 1: int(0.45 * size), "cpu": size},
        no_split_module_classes=list(model._no_split_modules),
    )
    assert len(set(places.values())) > 1
    assert {"pixel_decoder", "query_decoder"} <= set(places)


def test_a_changed_vocabulary_keeps_every_weight(model: DaTaSegModel, tmp_path: Path) -> None:
    disturbed(model)
    before = {name: value.clone() for name, value in values(model).items()}
    model.add_vocabulary("world", ["a", "b"], [True, False], torch.randn(2, 16))
    model.add_vocabulary(
        "more", [f"name {i}" for i in range(40)], text_embeddings=torch.randn(40, 16)
    )
    model.set_vocabulary("more")
    model.save_pretrained(tmp_path)
    loaded = DaTaSegModel.from_pretrained(tmp_path)
    assert_same(loaded, model)
    assert loaded.vocabularies.get("world").shape == (2, 16)
    for name, value in before.items():
        assert name == "vocabularies.text_world" or torch.equal(values(loaded)[name], value), name


def test_a_config_alone_leaves_no_garbage(model: DaTaSegModel) -> None:
    """Weights that are missing are initialized, not left as the memory was: loading an empty
    checkpoint shows it.
    """
    loaded = DaTaSegModel.from_pretrained(None, config=model.config, state_dict={})
    fresh = DaTaSegModel(model.config)
    for name, buffer in fresh.named_buffers():
        found = dict(loaded.named_buffers())[name]
        assert torch.equal(found.nan_to_num(7.0), buffer.nan_to_num(7.0)), name
    for name, parameter in loaded.named_parameters():
        assert not parameter.is_meta, name
        assert torch.isfinite(parameter).all(), name
        assert (parameter.abs() < 10).all(), name


# --- large vocabularies ---------------------------------------------------------------------------


def test_ten_thousand_names(tiny_model: ModelFactory, tmp_path: Path) -> None:
    model = tiny_model(text_encoder={"kind": "hashed_ngrams", "dim": 16})
    names = [f"name {i}" for i in range(10_000)]
    model.set_vocabulary(names, [i % 2 == 0 for i in range(10_000)])
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        output = model(images)
        few = model(images, text_embeddings=model.vocabularies.get("custom")[[5, 9_999]])
    assert output.class_queries_logits.shape == (1, 8, 10_001)
    close(output.class_queries_logits[..., [5, 9_999, 10_000]], few.class_queries_logits)
    assert torch.equal(output.masks_queries_logits, few.masks_queries_logits)
    model.save_pretrained(tmp_path)
    assert DaTaSegModel.from_pretrained(tmp_path).config.id2label[9_999] == "name 9999"
