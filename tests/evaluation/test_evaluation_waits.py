"""Evaluation on a pretend device: no mixed devices, and a few waits for each image."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_evaluation import NORMALIZATION, held_out

from conftest import ModelFactory
from dataseg_hf.evaluation.inference import Inference, Output, outputs_of, proposals_of
from helpers.pretend_device import PretendDevice


def outputs(model: Any, flip: bool) -> list[dict[str, Output]]:
    """All kinds of output of the images of a batch."""
    eval_set = replace(
        held_out("shapes_panoptic", ["pq", "miou", "mask_ap"], count=3), threshold=0.1
    )
    kinds = ("panoptic", "semantic", "instance")
    found = proposals_of(model, eval_set, [[0, 1, 2]], Inference(NORMALIZATION, flip=flip))
    return [dict(outputs_of(output, sample, eval_set, kinds)) for _, sample, output in found]


@pytest.mark.parametrize(("flip", "most"), [(False, 11), (True, 13)])
def test_outputs_are_those_of_the_host(tiny_model: ModelFactory, flip: bool, most: int) -> None:
    model = tiny_model().eval()
    expected = outputs(model, flip)
    with PretendDevice() as device:
        device.move(model)
        outputs(model, flip)  # what is looked at once
        device.clear()
        found = outputs(model, flip)
    # three outputs of each image, with two views paired; and once the flags of the names
    assert device.total <= 3 * most + 1, device.report()
    for one, other in zip(found, expected, strict=True):
        assert np.mean(one["semantic"] != other["semantic"]) < 0.01
        panoptic, wanted = one["panoptic"], other["panoptic"]
        assert np.mean(panoptic.classes != wanted.classes) < 0.01  # type: ignore[union-attr]
        scores, best = one["instance"].scores, other["instance"].scores  # type: ignore[union-attr]
        torch.testing.assert_close(scores, best, rtol=1e-3, atol=1e-4)
