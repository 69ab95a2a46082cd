"""The parts of the query decoder: attention and positions against their references, and the view of
a query's mask.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.layers_dataseg import Attention, sine_positions
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.model.query_decoder_dataseg import DecoderLayer, MaskView

ConfigFactory = Callable[..., DaTaSegConfig]
ModelFactory = Callable[..., DaTaSegModel]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_attention_equals_torch(tiny_model: ModelFactory) -> None:
    ours = tiny_model().query_decoder.layers[0].cross_attention
    assert isinstance(ours, Attention)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    blocked = torch.rand(2, 5, 7) > 0.6
    blocked[..., 0] = False
    additive = torch.zeros(2, 1, 5, 7).masked_fill(blocked[:, None], torch.finfo(torch.float32).min)
    expected, _ = theirs(query, key, value, attn_mask=blocked.repeat_interleave(4, 0))
    close(ours(query, key, value, additive), expected, tolerance=1e-5)


def test_a_decoder_layer_is_mask2formers_post_norm_order(tiny_model: ModelFactory) -> None:
    layer = tiny_model().query_decoder.layers[1]
    assert isinstance(layer, DecoderLayer)
    queries, query_positions = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    memory, positions, mask = torch.randn(2, 7, 32), torch.randn(2, 7, 32), torch.zeros(2, 1, 5, 7)
    seen = layer.cross_attention(queries + query_positions, memory + positions, memory, mask)
    expected = F.layer_norm(queries + seen, (32,))
    located = expected + query_positions
    expected = F.layer_norm(expected + layer.self_attention(located, located, expected), (32,))
    inner = F.relu(expected @ layer.feed_forward.inner.weight.T + layer.feed_forward.inner.bias)
    expected = F.layer_norm(
        expected + inner @ layer.feed_forward.outer.weight.T + layer.feed_forward.outer.bias, (32,)
    )
    close(layer(queries, query_positions, memory, memory + positions, mask), expected)


def test_decoder_layers_read_the_levels_in_turn_from_the_coarsest(tiny_model: ModelFactory) -> None:
    model = tiny_model(decoder_layers=5)
    cells: list[int] = []
    for layer in model.query_decoder.layers:
        layer.register_forward_pre_hook(lambda module, inputs: cells.append(inputs[2].shape[1]))
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    assert cells == [2 * 2, 4 * 4, 8 * 8, 2 * 2, 4 * 4]


def test_sine_positions_are_mask2formers() -> None:
    """At the cells' far edges, as theirs; at the centers, where a grid twice as fine has every
    other of theirs.
    """
    size, channels = (5, 7), 32
    everywhere = torch.ones(1, *size, dtype=torch.bool)
    theirs = Mask2FormerSinePositionEmbedding(channels // 2, normalize=True)
    edges = theirs(torch.Size([1, channels, *size]), "cpu", torch.float32)
    close(
        sine_positions(everywhere, channels, position_in_cell=1.0), edges.flatten(2).transpose(1, 2)
    )
    finer = theirs(torch.Size([1, channels, 10, 14]), "cpu", torch.float32)[..., ::2, ::2]
    close(sine_positions(everywhere, channels), finer.flatten(2).transpose(1, 2))


def test_sine_positions_scale_to_the_image_inside_the_padding() -> None:
    valid_mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid_mask[0, :4, :6] = valid_mask[1] = True
    positions = sine_positions(valid_mask, 16).view(2, 8, 8, 16)
    alone = sine_positions(torch.ones(1, 4, 6, dtype=torch.bool), 16).view(4, 6, 16)
    close(positions[0, :4, :6], alone)
    assert torch.isfinite(positions).all()


# --- the view of a query's own mask ---------------------------------------------------------------


def rectangle(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., y0:y1, x0:x1] = 1
    return mask


@pytest.fixture
def mask_view(tiny_config: ConfigFactory) -> MaskView:
    return MaskView(tiny_config())


def test_the_view_is_centered_on_the_mask_and_scaled_to_it(mask_view: MaskView) -> None:
    window = mask_view.window(rectangle(20, 40, 8, 4, 12, 8))[0, 0]
    # 4 x 4 cells around (10, 6): variance (4^2 - 1) / 12 per axis, half side 2.2 * sqrt(2.5)
    half = 2.2 * 2.5**0.5
    close(window[0, 0], torch.tensor([(10 - half) / 20 - 1, (6 - half) / 10 - 1]))
    close(window[-1, -1], torch.tensor([(10 + half) / 20 - 1, (6 + half) / 10 - 1]))
    assert window[0, -1, 0] > window[0, 0, 0]
    assert window[-1, 0, 1] > window[0, 0, 1]


def test_the_view_of_a_moved_mask_is_the_same(mask_view: MaskView) -> None:
    here, there = rectangle(64, 64, 20, 20, 30, 26), rectangle(64, 64, 33, 29, 43, 35)
    crops = [
        F.grid_sample(mask, mask_view.window(mask)[0], align_corners=False)
        for mask in (here, there)
    ]
    close(crops[0], crops[1])


def test_the_view_of_an_empty_mask_is_finite(mask_view: MaskView) -> None:
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    for logit in (-200.0, 0.0, 200.0):
        code = mask_view(torch.full((1, 2, 8, 8), logit), everywhere)
        assert code.shape == (1, 2, 32)
        assert torch.isfinite(code).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_move_the_view_of_a_small_distant_mask(
    mask_view: MaskView, dtype: torch.dtype
) -> None:
    mask = rectangle(256, 256, 200, 210, 206, 216)
    expected = mask_view.window(mask)
    with torch.autocast("cpu", dtype):
        found = mask_view.window(mask)
    close(found, expected)
