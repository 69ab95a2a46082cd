"""Images to inputs against the training path; outputs to segmentations against hand-worked
cases.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.mask2former.image_processing_pil_mask2former import binary_mask_to_rle

from dataseg_hf import DaTaSegImageProcessor, DaTaSegOutput
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.sample import Sample, Segments
from dataseg_hf.data.transforms import resize_only
from dataseg_hf.model.image_processing_dataseg import run_lengths, scaled_size

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def processor(longest_edge=64, **options):
    return DaTaSegImageProcessor(
        size={"longest_edge": longest_edge}, image_mean=MEAN, image_std=STD, **options
    )


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def sample(image):
    void = Segments(
        np.full(image.shape[:2], -1, np.int32), np.zeros(0, np.int64), np.zeros(0, bool)
    )
    return Sample(image, void, "x", "x.png")


# --- images to inputs


@pytest.mark.parametrize("size", [(50, 90), (200, 130), (64, 64), (7, 300)])
def test_inputs_are_those_of_training(size):
    image = noise(*size)
    trained = collate(
        [resize_only(sample(image), 64)],
        canvas=64,
        task="panoptic",
        normalization=Normalization(MEAN, STD),
    )
    inputs = processor()(Image.fromarray(image), return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert inputs["pixel_values"].dtype == torch.float32
    assert inputs["pixel_mask"].dtype == torch.int64
    assert torch.equal(inputs["pixel_mask"], trained["pixel_mask"])
    gray_levels = (
        (inputs["pixel_values"] - trained["pixel_values"]) * torch.tensor(STD).view(3, 1, 1) * 255
    )
    # Pillow and torch may round a value to different neighbors
    assert gray_levels.abs().max() <= 1.01


def test_images_of_the_right_size_are_exactly_those_of_training():
    image = noise(64, 48)
    trained = collate(
        [resize_only(sample(image), 64)],
        canvas=64,
        task="panoptic",
        normalization=Normalization(MEAN, STD),
    )
    inputs = processor()(Image.fromarray(image), return_tensors="pt")
    torch.testing.assert_close(inputs["pixel_values"], trained["pixel_values"], atol=1e-5, rtol=0)


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), longer_side=st.integers(1, 1500))
def test_scaled_size_keeps_the_aspect(height, width, longer_side):
    scaled = scaled_size(height, width, longer_side)
    assert max(scaled) == longer_side
    exact = min(height, width) * longer_side / max(height, width)
    assert min(scaled) == max(1, round(exact))


def test_one_batch_of_images_of_different_sizes():
    inputs = processor()(
        [Image.fromarray(noise(50, 100)), Image.fromarray(noise(80, 20))], return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (2, 3, 64, 64)
    assert inputs["pixel_mask"][0, :32].min() == 1
    assert inputs["pixel_mask"][0, 32:].max() == 0
    assert inputs["pixel_mask"][1, :, :16].min() == 1
    assert inputs["pixel_mask"][1, :, 16:].max() == 0
    assert inputs["pixel_values"][0, :, 32:].abs().max() == 0


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16"],
)
def test_every_mode_of_pillow(mode):
    rgb = Image.fromarray(noise(64, 64))
    if mode == "I;16":
        gray = np.array(rgb.convert("L"))
        gray[0, :2] = 0, 255  # what the image's own range is scaled to
        image, rgb = Image.fromarray(gray.astype(np.uint16) * 10 + 500), Image.fromarray(gray)
    else:
        image = (rgb.convert("RGB").convert("L") if mode in ("LA", "PA") else rgb).convert(mode)
    expected = rgb.convert("L").convert("RGB") if mode == "I;16" else image.convert("RGB")
    assert image.mode == mode
    inputs = [processor()(one, return_tensors="pt")["pixel_values"] for one in (image, expected)]
    assert torch.equal(*inputs)


def test_arrays_and_tensors_are_read_like_pillow_images():
    image = noise(40, 64)
    expected = processor()(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    alpha = np.concatenate([image, noise(40, 64, 1)], axis=2)
    channels_first = torch.from_numpy(image).permute(2, 0, 1)
    for same in (
        image,
        image.astype(np.int64),
        channels_first,
        alpha,
        [image],
        image[None],
        image.astype(np.float32),
    ):
        torch.testing.assert_close(
            processor()(same, return_tensors="pt")["pixel_values"], expected, atol=1e-5, rtol=0
        )
    scaled = channels_first.float() / 255
    result = processor()(scaled, do_rescale=False, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_gray_arrays():
    gray = noise(40, 64, 1)
    expected = processor()(Image.fromarray(gray[..., 0]), return_tensors="pt")["pixel_values"]
    for same in (
        gray,
        gray[..., 0],
        torch.from_numpy(gray[..., 0]),
        [gray[..., 0]],
        gray.transpose(2, 0, 1),
    ):
        assert torch.equal(processor()(same, return_tensors="pt")["pixel_values"], expected)


def test_float_images_are_resized_too():
    image = noise(100, 128)
    inputs = [
        processor()(one, return_tensors="pt")["pixel_values"]
        for one in (image, image.astype(np.float32))
    ]
    torch.testing.assert_close(*inputs, atol=1 / 255 / min(STD), rtol=0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8, 3), 0.5, np.float32), "do_rescale=False"),
        (np.full((8, 8, 3), 300), "integers in 0..255"),
        (np.full((8, 8, 3), -1), "integers in 0..255"),
        (np.ones((8, 8, 3), bool), "integers in 0..255"),
    ],
)
def test_arrays_without_a_clear_range_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        processor()(image, return_tensors="pt")


def test_arrays_are_scaled_by_the_value_range():
    deep = np.full((8, 8, 3), 1100)
    deep[0] = 100, 4000, 2100
    expected = np.full((8, 8, 3), 128, np.uint8)  # 127.5, to the even neighbor
    expected[0] = 0, 255, 255
    wanted = processor(8)(expected, return_tensors="pt")["pixel_values"]
    for image in (
        deep,
        deep.astype(np.uint16),
        deep.astype(np.float32),
        torch.from_numpy(deep).permute(2, 0, 1),
    ):
        result = processor(8, value_range=[100, 2100])(image, return_tensors="pt")["pixel_values"]
        assert torch.equal(result, wanted)
        assert torch.equal(
            processor(8)(image, value_range=(100, 2100), return_tensors="pt")["pixel_values"],
            wanted,
        )
    eight_bits = processor(8, value_range=[100, 2100])(expected, return_tensors="pt")[
        "pixel_values"
    ]
    assert torch.equal(eight_bits, wanted)


def test_the_value_range_is_saved(tmp_path):
    processor(value_range=(0, 4095)).save_pretrained(tmp_path)
    assert DaTaSegImageProcessor.from_pretrained(tmp_path).value_range == (0.0, 4095.0)
    assert DaTaSegImageProcessor.from_pretrained(tmp_path, value_range=(1, 2)).value_range == (
        1.0,
        2.0,
    )


@pytest.mark.parametrize(
    "value_range", [(5, 5), (6, 5), (0, float("nan")), (0,), "ab", 7, (False, True)]
)
def test_impossible_value_ranges(value_range):
    with pytest.raises(ValueError, match="value_range: must be two numbers"):
        processor(value_range=value_range)


def test_size_is_the_longer_side():
    assert dict(DaTaSegImageProcessor(size=48).size) == {"longest_edge": 48}
    assert processor()(noise(20, 40), size=48, return_tensors="pt")["pixel_values"].shape == (
        1,
        3,
        48,
        48,
    )
    for size in ({"height": 4, "width": 4}, {"shortest_edge": 4}, 0):
        with pytest.raises(ValueError, match="longest_edge"):
            DaTaSegImageProcessor(size=size)


def test_options_that_would_be_ignored_are_refused():
    with pytest.raises(ValueError, match="do_center_crop"):
        processor()(noise(8, 8), do_center_crop=True, crop_size=4, return_tensors="pt")
    with pytest.raises(ValueError, match="resample"):
        processor()(noise(8, 8), resample=Image.Resampling.NEAREST, return_tensors="pt")


def test_canvas_options():
    image = noise(32, 64)
    assert processor(do_pad=False)(image, return_tensors="pt")["pixel_mask"].shape == (1, 32, 64)
    other = processor(pad_size={"height": 40, "width": 70})(image, return_tensors="pt")
    assert other["pixel_values"].shape == (1, 3, 40, 70)
    with pytest.raises(ValueError, match="do_pad=True"):
        processor(do_pad=False)([image, noise(64, 32)], return_tensors="pt")
    with pytest.raises(ValueError, match=r"image 1: 65 x 10 .* do not fit a canvas of 64 x 64"):
        processor(do_resize=False)([image, noise(65, 10)], return_tensors="pt")


def test_save_and_load(tmp_path):
    saved = processor(48, do_pad=False)
    saved.save_pretrained(tmp_path)
    loaded = DaTaSegImageProcessor.from_pretrained(tmp_path)
    image = noise(30, 60)
    assert torch.equal(
        saved(image, return_tensors="pt")["pixel_values"],
        loaded(image, return_tensors="pt")["pixel_values"],
    )
    assert loaded.to_dict() == saved.to_dict()


# --- outputs to segmentations


def outputs(classes, masks, is_thing, valid_size=(1.0, 1.0), confidence=8.0):
    """Output whose queries are sure of a class (the last index is the background) and of binary
    masks [N, h, w].
    """
    class_logits = torch.full((1, len(classes), len(is_thing) + 1), -confidence / 2)
    class_logits[0, range(len(classes)), classes] = confidence / 2
    return DaTaSegOutput(
        class_queries_logits=class_logits,
        masks_queries_logits=torch.tensor(masks)[None] * 20.0 - 10.0,
        is_thing=torch.tensor(is_thing)[None],
        valid_size=torch.tensor([valid_size]),
    )


def columns(*ranges, height=2, width=8):
    masks = torch.zeros(len(ranges), height, width)
    for mask, (first, last) in zip(masks, ranges, strict=True):
        mask[:, first:last] = 1
    return masks.tolist()


def test_panoptic_fuses_the_stuff_of_the_vocabulary():
    output = outputs([0, 1, 1, 0], columns((0, 2), (2, 4), (4, 6), (6, 8)), is_thing=[True, False])
    (result,) = processor().post_process_panoptic_segmentation(output)
    assert result["segmentation"].dtype == torch.int32
    assert result["segmentation"].tolist() == [[1, 1, 2, 2, 2, 2, 3, 3]] * 2
    facts = [(s["id"], s["label_id"], s["was_fused"]) for s in result["segments_info"]]
    assert facts == [(1, 0, False), (2, 1, True), (3, 0, False)]
    assert all(0.99 < segment["score"] <= 1 for segment in result["segments_info"])


def test_panoptic_fuses_what_is_asked_for():
    output = outputs([0, 1, 1, 0], columns((0, 2), (2, 4), (4, 6), (6, 8)), is_thing=[True, False])
    (result,) = processor().post_process_panoptic_segmentation(output, label_ids_to_fuse={0})
    assert result["segmentation"].tolist() == [[1, 1, 2, 2, 3, 3, 1, 1]] * 2
    (result,) = processor().post_process_panoptic_segmentation(output, label_ids_to_fuse=set())
    assert len(result["segments_info"]) == 4
    with pytest.raises(ValueError, match=r"\[2\] are outside the vocabulary of 2"):
        processor().post_process_panoptic_segmentation(output, label_ids_to_fuse=[0, 2])


def test_panoptic_of_nothing():
    output = outputs([1, 1], columns((0, 2), (2, 4)), is_thing=[True])
    (result,) = processor().post_process_panoptic_segmentation(output, target_sizes=[(3, 5)])
    assert result["segmentation"].tolist() == [[0] * 5] * 3
    assert result["segments_info"] == []


def test_panoptic_has_more_than_255_segments():
    width = 300
    masks = columns(*[(i, i + 1) for i in range(width)], width=width)
    (result,) = processor().post_process_panoptic_segmentation(
        outputs([0] * width, masks, is_thing=[True])
    )
    assert result["segmentation"].tolist() == [list(range(1, width + 1))] * 2


def test_semantic_maps():
    output = outputs([1, 0, 2], columns((0, 2), (2, 5), (5, 8)), is_thing=[True, False, False])
    (result,) = processor().post_process_semantic_segmentation(output)
    assert result.dtype == torch.int64
    assert result.tolist() == [[1, 1, 0, 0, 0, 2, 2, 2]] * 2


def test_padding_is_cropped_and_the_rest_fills_the_target_size():
    output = outputs([0, 1], columns((0, 2), (2, 8)), is_thing=[True, True], valid_size=(0.5, 0.5))
    (semantic,) = processor().post_process_semantic_segmentation(output)
    assert semantic.tolist() == [[0, 0, 1, 1]]
    (semantic,) = processor().post_process_semantic_segmentation(output, target_sizes=[(3, 40)])
    assert semantic.shape == (3, 40)
    assert semantic.unique(return_counts=True)[1].tolist() == [60, 60]
    (panoptic,) = processor().post_process_panoptic_segmentation(
        output, target_sizes=torch.tensor([[3, 40]])
    )
    assert panoptic["segmentation"].unique(return_counts=True)[1].tolist() == [60, 60]
    (instance,) = processor().post_process_instance_segmentation(
        output, target_sizes=[(3, 40)], return_binary_maps=True
    )
    assert sorted(instance["segmentation"].sum((1, 2)).tolist()) == [60, 60]


def overlapping():
    """Three instances: 6 columns, 4 of which it shares with the second, and a stuff region, never
    an instance.
    """
    output = outputs([0, 0, 1], columns((0, 6), (2, 7), (0, 8)), is_thing=[True, False])
    output.class_queries_logits[0, 1] *= 0.5  # the second is less sure
    return output


def test_binary_maps_of_overlapping_instances():
    (result,) = processor().post_process_instance_segmentation(
        overlapping(), return_binary_maps=True
    )
    assert result["segmentation"].dtype == torch.bool
    assert result["segmentation"].int().tolist() == [
        [[1] * 6 + [0] * 2] * 2,
        [[0] * 2 + [1] * 5 + [0]] * 2,
    ]
    facts = [(s["id"], s["label_id"], s["was_fused"]) for s in result["segments_info"]]
    assert facts == [(0, 0, False), (1, 0, False)]
    assert result["segments_info"][0]["score"] > result["segments_info"][1]["score"]


def test_single_map_of_overlapping_instances():
    (result,) = processor().post_process_instance_segmentation(
        overlapping(), overlap_mask_area_threshold=0.1
    )
    assert result["segmentation"].tolist() == [[0] * 6 + [1, -1]] * 2
    assert [s["id"] for s in result["segments_info"]] == [0, 1]
    (result,) = processor().post_process_instance_segmentation(
        overlapping(), overlap_mask_area_threshold=0.5
    )
    # of the second only 1 of 5 columns would stay
    assert result["segmentation"].tolist() == [[0] * 6 + [-1, -1]] * 2
    assert [s["id"] for s in result["segments_info"]] == [0]


def test_run_lengths_of_overlapping_instances():
    (result,) = processor().post_process_instance_segmentation(
        overlapping(), return_coco_annotation=True
    )
    assert result["segmentation"] == [[1, 6, 9, 6], [3, 5, 11, 5]]
    assert len(result["segments_info"]) == 2


def test_no_instance():
    output = outputs([1], columns((0, 2)), is_thing=[True])
    (single,) = processor().post_process_instance_segmentation(output, target_sizes=[(3, 5)])
    assert single["segmentation"].tolist() == [[-1] * 5] * 3
    (binary,) = processor().post_process_instance_segmentation(
        output, target_sizes=[(3, 5)], return_binary_maps=True
    )
    assert binary["segmentation"].shape == (0, 3, 5)
    (coco,) = processor().post_process_instance_segmentation(output, return_coco_annotation=True)
    assert coco["segmentation"] == []
    assert single["segments_info"] == binary["segments_info"] == coco["segments_info"] == []


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**36 - 1))
def test_run_lengths_are_those_of_transformers(height, width, bits):
    pixels = [bits >> i & 1 for i in range(height * width)]
    mask = torch.tensor(pixels, dtype=torch.bool).view(height, width)
    assert run_lengths(mask) == binary_mask_to_rle(mask.int())


def test_wrong_arguments():
    output = outputs([0], columns((0, 2)), is_thing=[True])
    for method in ("semantic", "panoptic", "instance"):
        with pytest.raises(ValueError, match="2 target sizes for 1 images"):
            getattr(processor(), f"post_process_{method}_segmentation")(
                output, target_sizes=[(2, 2), (2, 2)]
            )
        for size in ((0, 2), (-1, 2), (2,), "ab", 3, None):
            with pytest.raises(
                ValueError, match=r"a target size is the \(height, width\) of an image"
            ):
                getattr(processor(), f"post_process_{method}_segmentation")(
                    output, target_sizes=[size]
                )
    with pytest.raises(ValueError, match="exclude each other"):
        processor().post_process_instance_segmentation(
            output, return_coco_annotation=True, return_binary_maps=True
        )


@pytest.mark.parametrize("name", ["threshold", "mask_threshold", "overlap_mask_area_threshold"])
@pytest.mark.parametrize("method", ["panoptic", "instance"])
def test_thresholds_are_numbers(method, name):
    post_process = getattr(processor(), f"post_process_{method}_segmentation")
    output = outputs([0], columns((0, 2)), is_thing=[True])
    for wrong in ("0.5", None, True, [0.5], float("nan")):
        with pytest.raises(ValueError, match=f"`{name}` must be a number"):
            post_process(output, **{name: wrong})
    for right in (0, 0.5, np.float32(0.5), torch.tensor(0.5)):
        assert len(post_process(output, **{name: right})) == 1


def test_hidden_instances_are_not_in_the_single_map():
    output = outputs([0, 0], columns((0, 6), (2, 4)), is_thing=[True])
    output.class_queries_logits[0, 1] *= 0.5
    (result,) = processor().post_process_instance_segmentation(
        output, overlap_mask_area_threshold=0.0
    )
    assert result["segmentation"].tolist() == [[0] * 6 + [-1, -1]] * 2
    assert [segment["id"] for segment in result["segments_info"]] == [0]
