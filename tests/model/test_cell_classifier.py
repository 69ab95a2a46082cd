"""The cell classifier: its embeddings, its loss, and what it adds to the proposals."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conftest import LabelFactory, ModelFactory
from dataseg_hf.model.cell_classifier_dataseg import dropped
from dataseg_hf.model.cell_proposals_dataseg import (
    Proposals,
    category_proposals,
    joined_classes,
)
from dataseg_hf.model.cell_supervision_dataseg import cell_loss
from dataseg_hf.model.masked_features_dataseg import MaskedFeatures, masked_mean
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.model.pixel_decoder_dataseg import PixelFeatures
from dataseg_hf.model.postprocessing_dataseg import instance_prediction, semantic_prediction
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.model.targets_dataseg import SegmentMapTargets, Truth
from dataseg_hf.model.thresholds_dataseg import Thresholds

SIZE = (64, 64)
EVERYWHERE = torch.ones(1, 64, 64, dtype=torch.bool)


class TopK(NamedTuple):
    """What `Tensor.topk` gives."""

    values: Tensor
    indices: Tensor


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def features_of(model: DaTaSegModel, images: Tensor) -> tuple[tuple[Tensor, ...], PixelFeatures]:
    """The backbone's maps, and what the pixel decoder makes of them."""
    maps = model.backbone(images).feature_maps
    return maps, model.pixel_decoder(maps, EVERYWHERE)


def truth(segment_map: Tensor, classes: list[int], num_categories: int) -> Truth:
    return Truth(
        labels=[{"class_labels": torch.tensor(classes), "segment_map": segment_map}],
        image=torch.zeros(1, 3, *SIZE),
        valid_mask=EVERYWHERE,
        valid_size=torch.ones(1, 2),
        is_thing=torch.ones(num_categories, dtype=torch.bool),
        num_targets=torch.tensor(1.0),
        num_images=torch.tensor(1.0),
    )


# --- embeddings -----------------------------------------------------------------------------------


def test_a_new_model_classifies_cells_by_the_backbone_alone(tiny_model: ModelFactory) -> None:
    model = tiny_model(cell_classifier=True)
    classifier = model.cell_classifier
    assert classifier is not None
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        maps, features = features_of(model, images)
        embeddings = classifier(maps, features, EVERYWHERE)
        cells = features.levels[-1].shape[-2:]
        whole = [
            F.interpolate(x, size=cells, mode="bilinear", align_corners=False) for x in maps[1:]
        ]
        # the finest map has twice as many cells on a side: a cell of the grid is the mean of four
        finest = F.avg_pool2d(maps[0], 2)
        expected = (
            torch.cat([finest, *whole], dim=1).permute(0, 2, 3, 1) @ classifier.linear.weight.T
        )
    close(embeddings, expected + classifier.linear.bias)


def test_what_training_drops_depends_on_the_image_alone() -> None:
    features, seeds = torch.ones(3, 8, 8, 16), torch.tensor([5, 6, 5])
    found = dropped(features, 0.25, seeds)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[:1], dropped(features[:1], 0.25, seeds[:1]))
    close(found.unique(), torch.tensor([0, 4 / 3]))
    assert abs((found == 0).float().mean() - 0.25) < 0.03  # of 3,072 draws: 4 deviations


def test_only_training_drops_features(tiny_model: ModelFactory) -> None:
    model = tiny_model(cell_classifier=True, cell_dropout=0.5)
    classifier = model.cell_classifier
    assert classifier is not None
    seeds = torch.tensor([1])
    with torch.no_grad():
        maps, features = features_of(model, torch.randn(1, 3, *SIZE))
        plain = classifier.eval()(maps, features, EVERYWHERE, seeds)
        training = classifier.train()(maps, features, EVERYWHERE, seeds)
        again = classifier(maps, features, EVERYWHERE, seeds)
        classifier.dropout = 0.0
        undropped = classifier(maps, features, EVERYWHERE, seeds)
    assert torch.equal(plain, undropped)
    assert torch.equal(training, again)
    assert not torch.allclose(plain, training)


def test_standardized_features_have_the_given_mean_and_deviation(tiny_model: ModelFactory) -> None:
    model = tiny_model(cell_classifier=True)
    classifier = model.cell_classifier
    assert classifier is not None
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        maps, features = features_of(model, images)
        cells = classifier.cell_features(maps).flatten(0, 2)
        classifier.standardize(cells.mean(0), cells.std(0))
        embeddings = classifier(maps, features, EVERYWHERE)
    # of standardized features, a linear map gives its bias on average
    close(embeddings.flatten(0, 2).mean(0), classifier.linear.bias, tolerance=1e-4)


def test_queries_begin_with_the_class_of_the_cells_under_their_mask(
    tiny_model: ModelFactory,
) -> None:
    model = tiny_model(cell_classifier=True, cell_dropout=0.0)
    images = torch.randn(1, 3, *SIZE)
    decoder = model.query_decoder
    with torch.no_grad():
        decoder.cell_gain.fill_(1e6)  # so that only the cells are left
        output = model.train()(images)
        maps, features = features_of(model, images)
        cells = F.normalize(model.cell_classifier(maps, features, EVERYWHERE), dim=-1)
        masks = output.masks_queries_logits.sigmoid()
        weights = F.avg_pool2d(masks, 2).flatten(2)
        expected = (weights / weights.sum(-1, keepdim=True)) @ cells.flatten(1, 2)
    close(
        F.normalize(output.class_embeddings, dim=-1), F.normalize(expected, dim=-1), tolerance=1e-4
    )


# --- loss -----------------------------------------------------------------------------------------


def test_the_loss_is_the_cross_entropy_of_cells_that_have_one_class() -> None:
    segment_map = torch.zeros(SIZE, dtype=torch.int64)
    segment_map[:, 32:] = 1
    logits = torch.randn(1, 5, 8, 8)
    classes = torch.full((1, 8, 8), 3)
    classes[:, :, 4:] = 2
    found = cell_loss(logits, SegmentMapTargets(truth(segment_map, [3, 2], 5)), torch.tensor(1.0))
    close(found, F.cross_entropy(logits, classes))


def test_void_cells_do_not_count() -> None:
    segment_map = torch.zeros(SIZE, dtype=torch.int64)
    segment_map[:, 32:] = -1
    logits = torch.randn(1, 5, 8, 8)
    expected = F.cross_entropy(logits[..., :4], torch.full((1, 8, 4), 3))
    targets = SegmentMapTargets(truth(segment_map, [3], 5))
    close(cell_loss(logits, targets, torch.tensor(1.0)), expected)
    empty = SegmentMapTargets(truth(torch.full(SIZE, -1), [3], 5))
    assert float(cell_loss(logits, empty, torch.tensor(1.0))) == 0


def test_a_cell_on_a_border_belongs_to_both_classes() -> None:
    segment_map = torch.zeros(SIZE, dtype=torch.int64)
    segment_map[:, 4::8] = 1
    for column in (5, 6, 7):
        segment_map[:, column::8] = 1
    logits = torch.randn(1, 2, 8, 8)
    halves = torch.full((1, 2, 8, 8), 0.5)
    targets = SegmentMapTargets(truth(segment_map, [0, 1], 2))
    close(cell_loss(logits, targets, torch.tensor(1.0)), F.cross_entropy(logits, halves))


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance", "boxes"])
def test_every_task_reaches_every_parameter(
    tiny_model: ModelFactory, scene_labels: LabelFactory, task: str
) -> None:
    model = tiny_model(cell_classifier=True, class_head_sees_features=True).train()
    labels = [scene_labels(task, SIZE, (2, 0, 0, 64, 50), (0, 8, 8, 30, 40))]
    output = model(torch.randn(1, 3, *SIZE), labels=labels, task=task)
    has_classes = task in ("panoptic", "semantic")
    assert (float(output.loss_dict["loss_cell"].detach()) > 0) == has_classes
    output.loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


# --- features under the mask ----------------------------------------------------------------------


def test_the_mean_under_a_mask_leaves_out_what_is_outside() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    masks = torch.zeros(1, 2, 8, 8)
    masks[0, 0, :2, :4] = 1.0  # the first two cells of the first row
    close(masked_mean(features, masks), torch.tensor([[[0.5], [0.0]]]))


def test_the_class_head_sees_features_without_moving_the_mask(tiny_model: ModelFactory) -> None:
    model = tiny_model(class_head_sees_features=True)
    view = model.query_decoder.masked_features
    assert isinstance(view, MaskedFeatures)
    images = torch.randn(1, 3, *SIZE)
    maps = model.backbone(images).feature_maps
    logits = torch.randn(1, 8, 16, 16, requires_grad=True)
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    view(maps, logits, valid).sum().backward()
    assert logits.grad is None
    with torch.no_grad():
        before = model(images).class_embeddings
        view.norm.weight.mul_(2)
        after = model(images).class_embeddings
        view.silence()
        silent = model(images).class_embeddings
        model.query_decoder.masked_features = None
        without = model(images).class_embeddings
    assert not torch.equal(before, after)
    close(silent, without)


# --- proposals ------------------------------------------------------------------------------------


def test_category_proposals_are_the_argmax_of_the_cells() -> None:
    logits = torch.randn(1, 6, 8, 8) * 3
    like = torch.zeros(1, 6, 16, 16)
    found = category_proposals(logits, like, EVERYWHERE)
    proposals = ImageProposals(
        found.class_logits[0].where(found.class_logits[0] < 0, 0.0),
        found.mask_logits[0],
        torch.ones(2),
        torch.ones(6, dtype=torch.bool),
    )
    on_grid = F.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=False)
    best = on_grid.argmax(1)[0]
    own = found.class_logits[0, :, :-1].argmax(-1)
    for mask, category in zip(found.mask_logits[0], own, strict=True):
        assert torch.equal(mask > 0, best == category)
    seen = semantic_prediction(proposals, None).segmentation
    assert float((seen == best).float().mean()) > 0.8  # scores weigh the categories


def test_the_score_of_a_category_is_its_mean_probability_over_its_cells() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 0, :, :4], logits[:, 1, :, 4:] = 2.0, 5.0
    found = category_proposals(logits, torch.zeros(1, 2, 8, 8), EVERYWHERE)
    scores = found.class_logits.softmax(-1)[0]
    probabilities = logits.softmax(1)[0]
    close(scores[0, 1], probabilities[1, 0, 7])  # the surest category comes first
    close(scores[1, 0], probabilities[0, 0, 0])
    assert found.class_logits.shape == (1, 2, 4)


def test_padding_belongs_to_no_category() -> None:
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0, :, :4], logits[:, 1, :, 4:] = 4.0, 1.0
    logits[:, 1, 4:, 4:] = 9.0
    valid = EVERYWHERE.clone()
    valid[:, 32:] = False
    found = category_proposals(logits, torch.zeros(1, 2, 8, 8), valid)
    category = found.class_logits[0, :, :-1].argmax(-1).tolist().index(1)
    close(found.class_logits.softmax(-1)[0, category, 1], logits.softmax(1)[0, 1, 0, 7])


def test_one_category_alone() -> None:
    logits = torch.full((1, 1, 8, 8), 3.0)
    found = category_proposals(logits, torch.zeros(1, 4, 8, 8), EVERYWHERE)
    assert bool((found.mask_logits > 0).all())
    close(found.class_logits.softmax(-1)[0, :, 0], torch.tensor([1.0, 0.0, 0.0, 0.0]))


def test_categories_without_cells_do_not_depend_on_the_order_of_ties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each runtime of an exported graph has an order of its own."""
    logits = torch.zeros(1, 6, 8, 8)
    logits[:, 1, :, :4], logits[:, 3, :, 4:] = 2.0, 5.0

    def found(first: bool) -> Proposals:
        def topk(x: Tensor, k: int, dim: int) -> TopK:
            """The first, or the last, of what ties at first."""
            places = torch.arange(x.shape[dim]).mul(1e-9 if first else -1e-9).double()
            order = x.double() - (places if x.dim() == 2 else 0)
            index = order.argsort(dim, descending=True).narrow(dim, 0, k)
            return TopK(x.gather(dim, index), index)

        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "topk", topk)
            return category_proposals(logits, torch.zeros(1, 6, 8, 8), EVERYWHERE)

    for one, other in zip(found(True)[:2], found(False)[:2], strict=True):
        assert torch.equal(one, other)


def test_cells_have_their_share_in_the_class_of_a_proposal() -> None:
    proposals = Proposals(torch.randn(1, 3, 5), torch.randn(1, 3, 16, 16))
    cells = torch.randn(1, 4, 8, 8)
    own = proposals.class_logits.softmax(-1)
    close(joined_classes(proposals, cells, EVERYWHERE, 0.0).softmax(-1), own)
    joined = joined_classes(proposals, cells, EVERYWHERE, 1.0).softmax(-1)
    close(joined[..., -1], own[..., -1])
    of_cells = masked_mean(cells.softmax(1), proposals.mask_logits.sigmoid())
    close(joined[..., :-1], of_cells * (1 - own[..., -1:]))
    half = joined_classes(proposals, cells, EVERYWHERE, 0.5).softmax(-1)[..., :-1]
    mean = (own[..., :-1] * of_cells).sqrt()
    close(half / half.sum(-1, keepdim=True), mean / mean.sum(-1, keepdim=True))


def test_proposals_of_the_cells_come_in_evaluation_alone(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    model: DaTaSegModel = tiny_model(cell_classifier=True)
    images: Any = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        assert model.train()(images).class_queries_logits.shape == (2, 8, 4)
        output = model.eval()(images)
        assert output.class_queries_logits.shape == (2, 16, 4)
        assert output.masks_queries_logits.shape == (2, 16, 16, 16)
        model.save_pretrained(tmp_path)
        again = DaTaSegModel.from_pretrained(tmp_path)(images)
    assert torch.equal(again.class_queries_logits, output.class_queries_logits)


def test_queries_and_cells_share_a_semantic_result(tiny_model: ModelFactory) -> None:
    images: Any = torch.randn(2, 3, *SIZE)
    of_share = {}
    for share in (0.0, 0.25, 1.0):
        model = tiny_model(cell_classifier=True, semantic_cell_share=share).eval()
        with torch.no_grad():
            output = model(images)
        of_share[share] = [semantic_prediction(p, None) for p in ImageProposals.of_batch(output)]
    parts = list(zip(*of_share.values(), strict=True))
    for queries, mixed, cells in parts:
        assert not torch.equal(queries.sums, cells.sums)
        same = (queries.segmentation == mixed.segmentation) & (
            mixed.segmentation == cells.segmentation
        )
        assert bool(same.any())
        close(mixed.sums[same], (0.75 * queries.sums + 0.25 * cells.sums)[same])


def test_a_model_without_cells_weighs_all_proposals_alike(tiny_model: ModelFactory) -> None:
    images: Any = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        output = tiny_model().eval()(images)
    (proposals,) = ImageProposals.of_batch(output)
    assert output.semantic_weights is None
    assert torch.equal(proposals.semantic_probabilities(), proposals.class_probabilities())


# --- objects of one category ----------------------------------------------------------------------


def proposals_with(masks: Tensor, classes: list[int], is_thing: list[bool]) -> ImageProposals:
    """Proposals of those classes, which carry weights as with a cell classifier."""
    class_logits = F.one_hot(torch.tensor(classes), len(is_thing) + 1) * 9.0
    return ImageProposals(
        class_logits,
        masks,
        torch.ones(2),
        torch.tensor(is_thing),
        torch.arange(float(len(classes))),
    )


def two_squares() -> Tensor:
    """Masks [1, 40, 40] with two squares of 10 x 10 cells and a speck of 2 x 2."""
    masks = torch.full((1, 40, 40), -2.0)
    masks[:, :10, :10], masks[:, 20:30, 20:30], masks[:, 36:38, 2:4] = 3.0, 4.0, 5.0
    return masks


def test_things_of_a_category_come_apart() -> None:
    masks = two_squares()
    apart = proposals_with(masks.repeat(2, 1, 1), [0, 0], [True, False]).objects_apart(1)
    assert len(apart) == 3
    assert torch.equal(apart.mask_logits[0], masks[0])  # of a query
    first, second = (apart.mask_logits[1:] > 0).unbind()
    assert (int(first.sum()), int(second.sum())) == (100, 100)
    assert bool(first[:10, :10].all())
    assert bool(second[20:30, 20:30].all())
    assert torch.equal(apart.mask_logits[1:].abs(), masks.abs().repeat(2, 1, 1))
    assert apart.semantic_weights is not None
    assert apart.semantic_weights.tolist() == [0, 1, 1]
    assert apart.class_logits[1:].argmax(-1).tolist() == [0, 0]


@pytest.mark.parametrize("category", [1, 2])
def test_stuff_and_what_is_nothing_stay_whole(category: int) -> None:
    whole = proposals_with(two_squares(), [category], [True, False])
    assert torch.equal(whole.objects_apart(0).mask_logits, whole.mask_logits)


def test_of_small_parts_the_largest_stays() -> None:
    masks = two_squares()
    masks[:, :30] = -2.0
    masks[:, 10, 10] = 1.0
    apart = proposals_with(masks, [0], [True]).objects_apart(0)
    assert len(apart) == 1
    assert int((apart.mask_logits > 0).sum()) == 4


def test_each_part_is_an_instance() -> None:
    masks = two_squares()
    proposals = proposals_with(masks, [0], [True]).objects_apart(0)
    found = instance_prediction(proposals, (40, 40), Thresholds(score=0.5))
    assert found.areas == [100, 100]
