"""The deformable pixel decoder: its attention against transformers' Mask2Former, sampling by hand,
padding, export.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as TheirAttention,
)

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.deformable_pixel_decoder_dataseg import (
    DeformableAttention,
    DeformablePixelDecoder,
    cell_centers,
    sample_points,
)
from dataseg_hf.model.layers_dataseg import resize_valid_mask
from dataseg_hf.model.modeling_dataseg import DaTaSegModel

ModelFactory = Callable[..., DaTaSegModel]
ConfigFactory = Callable[..., DaTaSegConfig]

SIZES = [(3, 2), (5, 4), (8, 7)]
CELLS = sum(height * width for height, width in SIZES)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def deformable_model(tiny_model: ModelFactory) -> ModelFactory:
    return lambda **options: tiny_model(
        **{"pixel_decoder": "deformable", "encoder_layers": 2, **options}
    )


def randomized(attention: nn.Module) -> nn.Module:
    """Offsets of about two cells, and weights that differ."""
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.3)
    return attention


def attention_inputs() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, CELLS, 32),
        "positions": torch.randn(2, CELLS, 32),
        "centers": torch.cat([cell_centers(size, torch.device("cpu")) for size in SIZES], dim=1),
        "valid_mask": torch.ones(2, CELLS, dtype=torch.bool),
        "sizes": SIZES,
    }


# --- sampling -------------------------------------------------------------------------------------


def test_samples_are_bilinear_and_weighted() -> None:
    value = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)  # one map: rows 1 2 and 3 4
    # x and y of four queries
    places = torch.tensor([[[0.0, -0.5, -1.0, 3.0], [0.0, -0.5, 0.5, 0.0]]])
    got = sample_points(
        value,
        [(2, 2)],
        places.view(1, 1, 1, 1, 2, 4),
        torch.tensor([2.0, 1, 1, 1]).view(1, 1, 1, 1, 4),
    )
    # the middle of the map twice, the first cell's center, half off the left edge of the second
    # row, far off
    close(got, torch.tensor([[[5.0, 1.0, 1.5, 0.0]]]))


def test_points_and_maps_add_up() -> None:
    value = torch.tensor([1.0, 2.0, 10.0]).view(1, 1, 1, 3)  # two maps, of one and of two cells
    places = torch.zeros(1, 1, 2, 2, 2, 1)
    places[0, 0, 1, :, 0, 0] = torch.tensor([-0.5, 0.5])
    weights = torch.tensor([[0.25, 0.25], [1.0, 3.0]]).view(1, 1, 2, 2, 1)
    close(
        sample_points(value, [(1, 1), (1, 2)], places, weights),
        torch.tensor([[[0.5 + 2.0 + 30.0]]]),
    )


def test_centers_of_cells() -> None:
    expected = [[-2 / 3, 0, 2 / 3] * 2, [-0.5] * 3 + [0.5] * 3]
    close(cell_centers((2, 3), torch.device("cpu")), torch.tensor(expected))


# --- attention ------------------------------------------------------------------------------------


def test_attention_equals_mask2formers(tiny_config: ConfigFactory) -> None:
    theirs = randomized(TheirAttention(embed_dim=32, num_heads=4, n_levels=3, n_points=4))
    ours = DeformableAttention(tiny_config())
    names = {"sampling_offsets": "offsets", "attention_weights": "weights", "value_proj": "value"}
    names["output_proj"] = "output"
    ours.load_state_dict(
        {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in theirs.state_dict().items()}
    )
    inputs = attention_inputs()
    inputs["valid_mask"][1, 3:9] = False
    with torch.no_grad():
        expected, _ = theirs(
            inputs["hidden_states"],
            attention_mask=~inputs["valid_mask"],
            encoder_hidden_states=inputs["hidden_states"],
            position_embeddings=inputs["positions"],
            reference_points=((inputs["centers"] + 1) / 2).T[None, :, None].expand(2, -1, 3, -1),
            spatial_shapes_list=SIZES,
        )
        close(ours(**inputs), expected)


def test_it_starts_looking_around_like_mask2former(deformable_model: ModelFactory) -> None:
    ours = deformable_model(hidden_dim=64).pixel_decoder.encoder[0].attention
    config = Mask2FormerConfig(
        feature_size=64, hidden_dim=64, num_attention_heads=4, encoder_layers=1, num_queries=2
    )
    theirs = (
        Mask2FormerForUniversalSegmentation(config)
        .model.pixel_level_module.decoder.encoder.layers[0]
        .self_attn
    )
    close(ours.offsets.bias, theirs.sampling_offsets.bias)
    for part in (ours.offsets.weight, ours.weights.weight, ours.weights.bias):
        assert (part == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_samples_the_right_places(
    tiny_config: ConfigFactory, dtype: torch.dtype
) -> None:
    """In bfloat16 a coordinate of a 60-cell map would be off by up to a sixteenth of a cell, which
    signs show.
    """
    sizes = [(15, 15), (30, 30), (60, 60)]  # no powers of two, whose centers bfloat16 holds exactly
    attention = DeformableAttention(tiny_config(hidden_dim=32))
    attention.offsets.start()
    attention.weights.start()  # no offset depends on the content, so all that rounds is the place
    centers = torch.cat([cell_centers(size, torch.device("cpu")) for size in sizes], dim=1)
    inputs = {
        "hidden_states": torch.randn(1, centers.shape[1], 32).sign(),
        "positions": torch.zeros(1, centers.shape[1], 32),
        "centers": centers,
        "valid_mask": torch.ones(1, centers.shape[1], dtype=torch.bool),
        "sizes": sizes,
    }
    with torch.no_grad():
        nn.init.eye_(attention.value.weight)
        nn.init.eye_(attention.output.weight)
        expected = attention(**inputs)
        with torch.autocast("cpu", dtype):
            found = attention(**inputs)
    assert (found.float() - expected).abs().max() < 2 ** (-7 if dtype == torch.bfloat16 else -9)


# --- the decoder ----------------------------------------------------------------------------------


def test_the_padding_gives_nothing(deformable_model: ModelFactory) -> None:
    decoder = deformable_model().pixel_decoder
    assert isinstance(decoder, DeformablePixelDecoder)
    for layer in decoder.encoder:
        randomized(layer.attention)
    valid_mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    valid_mask[:, :, :32] = True
    maps = [torch.randn(1, 32, side, side) for side in (4, 8, 16)]
    changed = [x.clone() for x in maps]
    for x in changed:
        x[..., x.shape[-1] // 2 :] += 5 * torch.randn_like(x[..., x.shape[-1] // 2 :])
    grids = [resize_valid_mask(valid_mask, x.shape[-2:]) for x in maps]
    with torch.no_grad():
        for found, expected in zip(
            decoder.encode(changed, grids), decoder.encode(maps, grids), strict=True
        ):
            half = found.shape[-1] // 2
            close(found[..., :half], expected[..., :half])
            assert not torch.allclose(found[..., half:], expected[..., half:], atol=0.1)


def test_three_strides_are_refused(tiny_model: ModelFactory) -> None:
    backbone = {"model_type": "convnext", "depths": [1] * 4, "hidden_sizes": [8] * 4}
    with pytest.raises(
        ValueError, match="needs feature maps at 4 or more strides, the backbone gives 3"
    ):
        tiny_model(
            pixel_decoder="deformable",
            backbone_config={**backbone, "out_features": ["stage1", "stage2", "stage3"]},
        )


def test_widths_that_do_not_fit_the_norms_are_refused(tiny_config: ConfigFactory) -> None:
    with pytest.raises(
        StrictDataclassClassValidationError, match=r"`hidden_dim` \(48\) must be divisible by 32"
    ):
        tiny_config(pixel_decoder="deformable", hidden_dim=48)


def test_more_than_four_strides(deformable_model: ModelFactory) -> None:
    backbone = {
        "model_type": "convnext",
        "patch_size": 2,
        "num_stages": 5,
        "depths": [1] * 5,
        "hidden_sizes": [8] * 5,
    }
    model = deformable_model(
        backbone_config={**backbone, "out_features": [f"stage{i}" for i in range(1, 6)]}
    )
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).masks_queries_logits.shape == (1, 8, 32, 48)


def test_every_parameter_learns(
    deformable_model: ModelFactory, scene_labels: Callable[..., dict[str, Tensor]]
) -> None:
    model = deformable_model().train()
    for layer in model.pixel_decoder.encoder:
        randomized(layer.attention)
    labels = [scene_labels("panoptic", (64, 64), (2, 0, 0, 64, 64), (0, 8, 8, 30, 40))]
    model(torch.randn(1, 3, 64, 64), labels=labels, task="panoptic").loss.backward()
    for name, parameter in model.pixel_decoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.slow
def test_it_compiles_and_exports(deformable_model: ModelFactory) -> None:
    class Masks(nn.Module):
        def __init__(self, model: DaTaSegModel) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.model(pixel_values).masks_queries_logits

    module = Masks(deformable_model())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = module(images)
        close(torch.compile(module, fullgraph=True, backend="eager")(images), expected)
        close(torch.export.export(module, (images.flip(0),)).module()(images), expected)
