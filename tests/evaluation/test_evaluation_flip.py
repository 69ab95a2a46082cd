"""Test-time augmentation by mirroring: what is averaged with what, and symmetry of the result."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from test_evaluation import NORMALIZATION, held_out

from conftest import ModelFactory
from dataseg_hf.data.sample import Sample
from dataseg_hf.evaluation import EvaluationSet
from dataseg_hf.evaluation.flip import paired_views, summed_views
from dataseg_hf.evaluation.inference import Inference, outputs_of, proposals_of
from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.modeling_dataseg import DaTaSegOutput
from dataseg_hf.model.proposals_dataseg import ImageProposals
from helpers.predictions import image_proposals, semantic_prediction

WHOLE = torch.ones(2)


def view(
    *proposals: tuple[list[float], torch.Tensor], valid: torch.Tensor = WHOLE
) -> ImageProposals:
    """Of (class probabilities with the background last, mask probabilities [h, w])."""
    probabilities, masks = zip(*proposals, strict=True)
    return image_proposals(
        torch.tensor(probabilities).log(), torch.stack(masks).logit(eps=1e-6), valid
    )


def region(*cells: int, size: int = 8) -> torch.Tensor:
    """A mask [1, size] with probability 0.9 on these cells and 0.1 elsewhere."""
    mask = torch.full((1, size), 0.1)
    mask[0, list(cells)] = 0.9
    return mask


def test_pairs_are_averaged_whatever_the_order_of_the_queries() -> None:
    first = view(([0.8, 0.1, 0.1], region(0, 1, 2)), ([0.1, 0.6, 0.3], region(5, 6)))
    second = view(([0.1, 0.8, 0.1], region(5, 6)), ([0.6, 0.1, 0.3], region(1, 2)))
    joined = paired_views(first, second)
    expected = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.7, 0.2]])
    torch.testing.assert_close(joined.class_logits.softmax(-1), expected)
    masks = joined.mask_logits.sigmoid()
    torch.testing.assert_close(masks[0, 0, :4], torch.tensor([0.5, 0.9, 0.9, 0.1]))
    torch.testing.assert_close(masks[1], region(5, 6))


def test_a_proposal_without_partner_is_averaged_with_nothing() -> None:
    """No mask of the second view shares more than half with it: cells 0..3 and 0, 1 have IoU
    1/2.
    """
    first = view(([0.8, 0.1, 0.1], region(0, 1, 2, 3)))
    second = view(([0.8, 0.1, 0.1], region(0, 1)))
    joined = paired_views(first, second)
    torch.testing.assert_close(joined.class_logits.softmax(-1), torch.tensor([[0.4, 0.05, 0.55]]))
    torch.testing.assert_close(joined.mask_logits.sigmoid(), region(0, 1, 2, 3)[None])


def test_of_two_proposals_for_a_region_the_one_of_the_same_class_is_the_partner() -> None:
    first = view(([0.8, 0.1, 0.1], region(0, 1)))
    second = view(([0.0, 0.9, 0.1], region(0, 1)), ([0.6, 0.1, 0.3], region(0, 1)))
    joined = paired_views(first, second)
    torch.testing.assert_close(joined.class_logits.softmax(-1), torch.tensor([[0.7, 0.1, 0.2]]))


def test_what_lies_in_the_padding_pairs_nothing() -> None:
    padding = region(0, 1, 2, 5, 6, 7)
    valid = torch.tensor([1.0, 0.5])  # cells 0..3
    first = view(([0.8, 0.1, 0.1], region(0, 1, 2)), valid=valid)
    joined = paired_views(first, view(([0.8, 0.1, 0.1], padding), valid=valid))
    torch.testing.assert_close(joined.class_logits.softmax(-1), torch.tensor([[0.8, 0.1, 0.1]]))


def test_a_view_joined_with_itself_is_itself() -> None:
    first = view(([0.8, 0.1, 0.1], region(0, 1, 2)), ([0.1, 0.6, 0.3], region(5, 6)))
    joined = paired_views(first, first)
    torch.testing.assert_close(joined.class_logits.softmax(-1), first.class_logits.softmax(-1))
    torch.testing.assert_close(joined.mask_logits, first.mask_logits, atol=1e-5, rtol=1e-5)


def test_semantic_scores_are_those_of_both_views_together() -> None:
    """By hand: class 0 leads in the first view by 0.2, class 1 in the second by 0.4."""
    everywhere = torch.full((4, 4), 0.5)
    first = view(([0.5, 0.1, 0.4], everywhere), ([0.0, 0.2, 0.8], everywhere))
    second = view(([0.2, 0.5, 0.3], everywhere), ([0.0, 0.1, 0.9], everywhere))
    joined = summed_views(first, second)
    assert (semantic_prediction(first.class_logits, first.mask_logits, WHOLE, (4, 4)) == 0).all()
    assert (semantic_prediction(joined.class_logits, joined.mask_logits, WHOLE, (4, 4)) == 1).all()


def test_weights_of_semantic_results_stay_with_their_proposals() -> None:
    everywhere = torch.full((4, 4), 0.5)
    first = view(([0.5, 0.1, 0.4], everywhere), ([0.0, 0.2, 0.8], everywhere))
    weighted = replace(first, semantic_weights=torch.tensor([0.25, 0.75]))
    weights = summed_views(weighted, weighted.mirrored()).semantic_weights
    assert weights is not None
    assert weights.tolist() == [0.25, 0.75, 0.25, 0.75]


def test_the_mirror_image_gets_the_mirrored_result(tiny_model: ModelFactory) -> None:
    eval_set = held_out("shapes_panoptic", ["miou"], count=4)

    def mirrored(row: int) -> Sample:
        sample = eval_set.data.load(row)
        return replace(sample, image=np.ascontiguousarray(sample.image[:, ::-1]))

    model = tiny_model(num_queries=16).eval()
    same = {}
    for flip in (False, True):
        straight = semantic_maps(model, eval_set, flip)
        turned = semantic_maps(
            model, replace(eval_set, data=replace(eval_set.data, load=mirrored)), flip
        )
        same[flip] = (straight == turned[..., ::-1]).mean()
    assert same[True] > 0.995 > same[False]  # but for ties, as sums are taken in another order
    assert len(np.unique(straight)) > 1


def semantic_maps(model: Any, eval_set: EvaluationSet, flip: bool) -> NDArray[np.int64]:
    found = proposals_of(model, eval_set, [[0, 1, 2, 3]], Inference(NORMALIZATION, flip=flip))
    return np.stack(
        [
            outputs_of(output, sample, eval_set, ["semantic"])["semantic"]
            for _, sample, output in found
        ]
    )


class RedGreenBlue(torch.nn.Module):
    """A query per channel, whose mask is where the image has that color: mirrored images give
    mirrored masks.
    """

    device, config = torch.device("cpu"), DaTaSegConfig()

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor,
        is_thing: torch.Tensor,
        **_: Any,
    ) -> DaTaSegOutput:
        logits = torch.full((len(pixel_values), 3, 13), -20.0)
        for channel in range(3):
            logits[:, channel, channel] = 20.0
        inside = pixel_mask.bool()
        return DaTaSegOutput(
            class_queries_logits=logits,
            masks_queries_logits=torch.where(pixel_values > 0, 20.0, -20.0),
            valid_size=torch.stack(
                [inside.any(2).float().mean(1), inside.any(1).float().mean(1)], dim=-1
            ),
            is_thing=is_thing.expand(len(pixel_values), -1),
        )


def test_both_views_of_a_narrow_image_lie_on_each_other() -> None:
    """Padding is on the right of the image, and on the left of its mirror image."""
    eval_set = held_out("shapes_panoptic", ["pq"], count=1)
    colors = np.random.default_rng(0).integers(0, 3, (8, 5)).repeat(4, 0).repeat(4, 1)
    image = (255 * (colors[..., None] == np.arange(3))).astype(np.uint8)
    sample = replace(eval_set.data[0], image=image)
    narrow = replace(eval_set, data=replace(eval_set.data, load=lambda _: sample))
    model: Any = RedGreenBlue()
    ((_, _, output),) = proposals_of(model, narrow, [[0]], Inference(NORMALIZATION, flip=True))
    outputs = outputs_of(output, sample, narrow, ["panoptic", "semantic"])
    assert (outputs["semantic"] == colors).all()
    label_of = {segment["id"]: segment["label_id"] for segment in outputs["panoptic"].segments}
    assert (np.vectorize(label_of.get)(outputs["panoptic"].segmentation) == colors).all()
    # each found its partner
    assert [segment["score"] for segment in outputs["panoptic"].segments] == [1.0] * 3
