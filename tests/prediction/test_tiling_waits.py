"""Large images on a pretend device: no mixed devices, and as many waits as windows, not segments."""

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.tiling import segment_image, tiles
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.pretend_device import PretendDevice

LOW = Thresholds(score=0.1, overlap=0.01, nms=0.7)  # a random model is never sure


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_segments_are_those_of_the_host(task: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    model, processor = checkpoint_model(), checkpoint_processor()
    expected = segment_image(model, processor, image, task, LOW, tile=48)
    windows = len(tiles((70, 110), 48, 0.25))
    assert windows > 4
    with PretendDevice() as device:
        device.move(model)
        found = segment_image(model, processor, image, task, LOW, tile=48)
    # a window has three waits and a copy or two; two inputs go there for each batch of four
    assert device.number("read") <= 4 * windows, device.report()
    assert device.number("upload") <= windows, device.report()
    assert [one.label_id for one in found] == [one.label_id for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert abs(one.area - other.area) <= 0.01 * other.area + 2
