"""Corrupted images: what the kinds do, that the truth stays, that each image is always corrupted in
the same way.
"""

import numpy as np
import pytest

from dataseg_hf.data.corruptions import Corruption, CorruptionKind, Strength, corrupted
from dataseg_hf.data.sample import Sample, SampleDataset, Segments
from dataseg_hf.data.shapes import shapes_dataset

KINDS: list[CorruptionKind] = ["noise", "blur", "contrast", "jpeg"]
STRENGTHS: list[Strength] = [1, 2, 3]


def gray(size: int = 64) -> SampleDataset:
    """One image: left half 100, right half 150."""
    image = np.full((size, size, 3), 100, np.uint8)
    image[:, size // 2 :] = 150
    segments = Segments(np.zeros((size, size), np.int32), np.array([0]), np.array([False]))
    spec = shapes_dataset("shapes_panoptic", "train", count=1).spec
    return SampleDataset(spec, [0], lambda row: Sample(image, segments, "one", "one.png"))


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_is_further_from_the_image_and_the_truth_stays(kind: CorruptionKind) -> None:
    clean = shapes_dataset("shapes_panoptic", "eval", count=6)
    errors = []
    for strength in STRENGTHS:
        data = corrupted(clean, Corruption(kind, strength))
        assert len(data) == 6
        error = []
        for before, after in zip(clean, data, strict=True):
            assert after.image.dtype == np.uint8
            assert after.image.shape == before.image.shape
            assert isinstance(before.annotation, Segments)
            assert isinstance(after.annotation, Segments)
            np.testing.assert_array_equal(
                after.annotation.segment_map, before.annotation.segment_map
            )
            error.append(np.abs(after.image.astype(int) - before.image).mean())
        errors.append(np.mean(error))
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_always_corrupted_in_the_same_way(kind: CorruptionKind) -> None:
    once, again = (
        corrupted(shapes_dataset("shapes_open", "eval", count=3), Corruption(kind, 2))
        for _ in range(2)
    )
    for one, other in zip(once, reversed([again[2], again[1], again[0]]), strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_noise_has_its_standard_deviation() -> None:
    noise = corrupted(gray(256), Corruption("noise", 1))[0].image.astype(float) - gray(256)[0].image
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.2)


def test_contrast_is_around_the_mean() -> None:
    image = corrupted(gray(), Corruption("contrast", 2))[0].image
    assert np.unique(image).tolist() == [115, 135]  # 125 -+ 0.4 * 25


def test_blur_scales_with_the_image() -> None:
    def width(size: int) -> int:
        row = corrupted(gray(size), Corruption("blur", 3))[0].image[0, :, 0]
        return int(((row > 101) & (row < 149)).sum())

    assert width(256) == pytest.approx(4 * width(64), rel=0.35)
