"""Objects of which more or less is known: the losses of each degree, and of unmatched queries."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.model.losses_dataseg import classification_loss
from dataseg_hf.model.proposals_dataseg import LayerProposals
from helpers.proposals import (
    BACKGROUND,
    CIRCLE,
    SQUARE,
    class_logits,
    close,
    proposals,
    rectangle_logits,
)
from helpers.truths import make_truth, task_loss, total

ConfigFactory = Callable[..., DaTaSegConfig]
LabelFactory = Callable[..., dict[str, Tensor]]
SIZE = (8, 8)
RECTANGLES = ((CIRCLE, 0, 0, 4, 5), (SQUARE, 3, 4, 8, 8), (CIRCLE, 5, 0, 8, 3))


def random_layers(queries: int = 6, layers: int = 2) -> list[LayerProposals]:
    generator = torch.Generator().manual_seed(0)
    return [
        proposals(
            torch.randn(1, queries, 4, generator=generator),
            torch.randn(1, queries, *SIZE, generator=generator).requires_grad_(),
        )
        for _ in range(layers)
    ]


def of_degree(labels: dict[str, Tensor], *degrees: Degree) -> dict[str, Tensor]:
    """Labels of masks, reduced to those degrees; a point is the middle of the box."""
    labels = {key: value.clone() for key, value in labels.items()}
    labels["degrees"] = torch.tensor(degrees)
    for row, degree in enumerate(degrees):
        box = labels["boxes"][row].clone()
        labels["box_axes"][row] = degree == Degree.BOX
        if degree != Degree.MASK:
            labels["masks"][row] = 0
        if degree in (Degree.POINT, Degree.TAG):
            labels["boxes"][row] = torch.tensor([0.0, 0.0, 1.0, 1.0])
        if degree == Degree.POINT:
            labels["points"][row, 0] = (box[:2] + box[2:]) / 2
    return labels


@pytest.mark.parametrize(("degree", "task"), [(Degree.MASK, "instance"), (Degree.BOX, "boxes")])
def test_objects_of_one_degree_have_the_loss_of_that_task(
    degree: Degree, task: str, scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    config, layers = tiny_config(), random_layers()
    truth = make_truth([scene_labels(task, SIZE, *RECTANGLES)], SIZE)
    labels = of_degree(scene_labels("objects", SIZE, *RECTANGLES), *[degree] * 3)
    expected = task_loss(task, layers, truth, config)
    found = task_loss("objects", layers, make_truth([labels], SIZE), config)
    values, wanted = (
        {term: float(value.detach()) for term, value in result.terms.items()}
        for result in (found, expected)
    )
    assert {term: value for term, value in values.items() if value} == {
        term: pytest.approx(value, rel=1e-6) for term, value in wanted.items() if value
    }


def test_each_object_has_the_losses_of_its_degree(
    scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    """With queries that fit, a target adds what it adds alone."""
    config = tiny_config(color_affinity_weight=0.0)
    boxes = [rectangle[1:] for rectangle in RECTANGLES]
    layer = proposals(
        class_logits(CIRCLE, SQUARE, CIRCLE), rectangle_logits(SIZE, *boxes, strength=2.0)
    )
    whole = scene_labels("objects", SIZE, *RECTANGLES)
    mixed = of_degree(whole, Degree.MASK, Degree.BOX, Degree.TAG)
    found = task_loss("objects", [layer], make_truth([mixed], SIZE), config).terms
    masks = task_loss(
        "objects", [layer], make_truth([of_degree(whole, *[Degree.MASK] * 3)], SIZE), config
    ).terms
    projections = task_loss(
        "objects", [layer], make_truth([of_degree(whole, *[Degree.BOX] * 3)], SIZE), config
    ).terms
    assert 0 < found["loss_mask"] < masks["loss_mask"]
    assert 0 < found["loss_projection"] < projections["loss_projection"]
    close(found["loss_class"], masks["loss_class"])
    assert found["loss_point"] == 0


def test_a_point_lies_in_its_own_mask_and_in_no_other(
    scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    rectangles = ((CIRCLE, 0, 0, 4, 8), (CIRCLE, 4, 0, 8, 8))
    labels = of_degree(scene_labels("objects", SIZE, *rectangles), Degree.POINT, Degree.POINT)
    truth, config = make_truth([labels], SIZE), tiny_config(color_affinity_weight=0.0)
    apart = rectangle_logits(SIZE, (0, 0, 4, 8), (4, 0, 8, 8), strength=1.0)
    both = rectangle_logits(SIZE, (0, 0, 8, 8), (0, 0, 8, 8), strength=1.0)
    classes = class_logits(CIRCLE, CIRCLE)
    inside, outside = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    fitting = task_loss("objects", [proposals(classes, apart)], truth, config).terms["loss_point"]
    joined = task_loss("objects", [proposals(classes, both)], truth, config).terms["loss_point"]
    close(fitting, 2 * inside)
    close(joined, inside + outside)


def test_a_tag_takes_the_query_most_likely_of_its_class(
    scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    labels = of_degree(scene_labels("objects", SIZE, RECTANGLES[0]), Degree.TAG)
    logits = class_logits(BACKGROUND, CIRCLE, BACKGROUND).requires_grad_()
    layer = proposals(logits, torch.zeros(1, 3, *SIZE))
    result = task_loss("objects", [layer], make_truth([labels], SIZE), tiny_config())
    assert result.unmatched == 0
    close(total(result), 0.0, tolerance=1e-2)  # all three queries are right


def test_the_background_of_an_open_class_may_be_that_class() -> None:
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1, 3, -100]])
    one, exhaustive = torch.tensor(1.0), torch.tensor([[True, True, False]])
    found = classification_loss(logits, targets, 0.1, one, one, exhaustive)
    p = logits.softmax(-1)[0]
    expected = -p[0, 1].log() - 0.1 * (p[1, 2] + p[1, 3]).log()
    close(found, expected / (1 + 0.1 * 2))


def test_where_all_classes_are_exhaustive_the_loss_is_the_usual_one() -> None:
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1, 3, -100, 3, 0], [3, 3, 3, 2, 2]])
    counts = torch.tensor(4.0), torch.tensor(2.0)
    usual = classification_loss(logits, targets, 0.1, *counts)
    whole = torch.ones(2, 3, dtype=torch.bool)
    close(classification_loss(logits, targets, 0.1, *counts, whole), usual)


def test_labels_say_which_classes_are_open(
    scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    """A query on an object that nobody annotated costs nothing where its class is open."""
    labels = scene_labels("objects", SIZE, RECTANGLES[0])
    boxes = [rectangle[1:] for rectangle in RECTANGLES[:2]]
    layer = proposals(class_logits(CIRCLE, SQUARE), rectangle_logits(SIZE, *boxes))
    closed = task_loss("objects", [layer], make_truth([labels], SIZE), tiny_config())
    labels["exhaustive"] = torch.tensor([True, False, True])
    opened = task_loss("objects", [layer], make_truth([labels], SIZE), tiny_config())
    assert closed.terms["loss_class"] > 1
    assert opened.terms["loss_class"] < 1e-2
