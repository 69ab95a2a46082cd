"""Run-length encoded masks, against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from dataseg_hf.data.readers.rle import decode_rle
from dataseg_hf.data.sample import BadSampleError

SIZE = (4, 6)
masks = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
dense_masks = st.builds(
    lambda size, density, seed: np.random.default_rng(seed).random(size) < density,
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([0.0, 0.001, 0.02, 0.5, 0.98, 1.0]),
    st.integers(0, 999),
)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Uncompressed, by the definition: down the columns, zeros first."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@settings(max_examples=100, deadline=None)
@given(masks | dense_masks)
def test_compressed_run_lengths_of_pycocotools(mask):
    compressed = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (compressed["counts"], compressed["counts"].decode()):
        decoded = decode_rle({"size": list(mask.shape), "counts": counts}, mask.shape, "a")
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


@settings(max_examples=50, deadline=None)
@given(masks)
def test_uncompressed_run_lengths(mask):
    runs = run_lengths(mask)
    np.testing.assert_array_equal(
        decode_rle({"size": mask.shape, "counts": runs}, mask.shape, "a"), mask
    )
    peer = mask_utils.decode(
        mask_utils.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
    )
    np.testing.assert_array_equal(peer.astype(bool), mask)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_or_an_error(text):
    try:
        mask = decode_rle({"size": [4, 6], "counts": text}, SIZE, "a")
    except BadSampleError:
        return
    np.testing.assert_array_equal(
        mask, mask_utils.decode({"size": [4, 6], "counts": text.encode()}).astype(bool)
    )


def compressed(*numbers: int) -> str:
    """COCO's characters of numbers as they stand, each five bits at a time, whether they make sense
    or not.
    """
    text = ""
    for number in numbers:
        more = True
        while more:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return text


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [4, 6]}, "key 'counts' is missing"),
        ({"counts": [24]}, "key 'size' is missing"),
        ([24], "key 'counts' is missing"),
        ({"size": [6, 4], "counts": [24]}, r"run lengths of size \[6, 4\] .*image is \[4, 6\]"),
        ({"size": [4], "counts": [24]}, "cannot be read .*encode the mask anew"),
        ({"size": 24, "counts": [24]}, "cannot be read .*encode the mask anew"),
        ({"size": [4, 6], "counts": [20]}, "add up to 24 pixels, not 20; encode the mask anew"),
        ({"size": [4, 6], "counts": [20, 5]}, "add up to 24 pixels, not 25"),
        ({"size": [4, 6], "counts": []}, "add up to 24 pixels, not 0"),
        ({"size": [4, 6], "counts": ""}, "add up to 24 pixels, not 0"),
        ({"size": [4, 6], "counts": [-4, 28]}, "must be >= 0"),
        ({"size": [4, 6], "counts": compressed(28, -4)}, "must be >= 0"),
        ({"size": [4, 6], "counts": [20.5, 3.5]}, "cannot be read .*no list of whole numbers"),
        ({"size": [4, 6], "counts": [[20, 4]]}, "cannot be read .*no list of whole numbers"),
        ({"size": [4, 6], "counts": [20, "4"]}, "cannot be read"),
        ({"size": [4, 6], "counts": [20, [4]]}, "cannot be read"),
        ({"size": [4, 6], "counts": [20, None]}, "cannot be read"),
        ({"size": [4, 6], "counts": [20, True, 3.0]}, "cannot be read"),
        ({"size": [4, 6], "counts": 24}, "cannot be read"),
        ({"size": [4, 6], "counts": [2**70, 24 - 2**70]}, "cannot be read"),
        ({"size": [4, 6], "counts": "\x00"}, "cannot be read .*no COCO run-length string"),
        ({"size": [4, 6], "counts": "é"}, "cannot be read"),
        ({"size": [4, 6], "counts": "P"}, "cannot be read"),
        ({"size": [4, 6], "counts": "P" * 13 + "0"}, "cannot be read .*more than 60 bits"),
    ],
)
def test_malformed_run_lengths(segmentation, message):
    with pytest.raises(BadSampleError, match=f"^a.json, object 3: .*{message}"):
        decode_rle(segmentation, SIZE, "a.json, object 3")


def test_runs_whose_sum_overflows_are_refused():
    assert np.array([2**62] * 4 + [24]).sum() == 24, "int64 would call this a mask of 4 x 6 pixels"
    with pytest.raises(BadSampleError, match=f"add up to 24 pixels, not {2**64 + 24};"):
        decode_rle({"size": [4, 6], "counts": [2**62] * 4 + [24]}, SIZE, "a")
