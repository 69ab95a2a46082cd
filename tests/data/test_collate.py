import numpy as np
import pytest
import torch

from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.components import split_components
from dataseg_hf.data.sample import Instances, Segments
from dataseg_hf.data.transforms import TransformedSample

MEAN, STD = [0.5, 0.25, 0.0], [0.5, 0.25, 1.0]


def batch(samples, task, canvas=8, **options):
    return collate(
        samples, canvas=canvas, task=task, normalization=Normalization(MEAN, STD), **options
    )


def segments_sample(segment_map, class_labels, is_crowd=None, image_id=1):
    segment_map = np.array(segment_map, dtype=np.int32)
    crowd = (
        np.zeros(len(class_labels), bool) if is_crowd is None else np.array(is_crowd, dtype=bool)
    )
    annotation = Segments(segment_map, np.array(class_labels, dtype=np.int64), crowd)
    return TransformedSample(
        np.zeros((*segment_map.shape, 3), np.uint8), annotation, None, image_id, "x.png"
    )


def instances_sample(boxes, masks=None, size=(4, 6), axes=None):
    count = len(boxes)
    annotation = Instances(
        class_labels=np.arange(count, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=np.arange(count) % 2 == 1,
        masks=masks,
    )
    box_axes = np.ones((count, 2), bool) if axes is None else np.array(axes, dtype=bool)
    return TransformedSample(np.zeros((*size, 3), np.uint8), annotation, box_axes, 5, "x.png")


def test_pixels_are_normalised_then_padded_with_zero():
    sample = segments_sample([[0, 0]], [3])
    sample.image[0, 0] = [255, 0, 51]
    result = batch([sample, segments_sample(np.zeros((8, 8)), [3])], "panoptic")
    assert result["pixel_values"].shape == (2, 3, 8, 8)
    assert result["pixel_values"].dtype == torch.float32
    torch.testing.assert_close(result["pixel_values"][0, :, 0, 0], torch.tensor([1.0, -1.0, 0.2]))
    torch.testing.assert_close(result["pixel_values"][0, :, 0, 1], torch.tensor([-1.0, -1.0, 0.0]))
    assert result["pixel_values"][0, :, 1:].abs().max() == 0
    assert result["pixel_values"][0, :, :, 2:].abs().max() == 0
    assert result["pixel_mask"].dtype == torch.int64
    assert result["pixel_mask"].sum(dim=(1, 2)).tolist() == [2, 64]
    assert result["pixel_mask"][0, 0, :2].tolist() == [1, 1]


def test_panoptic_drops_crowd_and_reindexes():
    sample = segments_sample(
        [[0, 1, 2], [-1, 2, 1]], class_labels=[9, 4, 9], is_crowd=[False, True, False]
    )
    (labels,) = batch([sample], "panoptic", canvas=4)["labels"]
    assert set(labels) == {"class_labels", "segment_map"}
    assert labels["class_labels"].tolist() == [9, 9]
    assert labels["class_labels"].dtype == torch.int64
    assert labels["segment_map"].dtype == torch.int16
    assert labels["segment_map"].tolist() == [[0, -1, 1, -1], [-1, 1, -1, -1], [-1] * 4, [-1] * 4]


def test_semantic_merges_segments_of_a_class():
    sample = segments_sample(
        [[0, 1, 2, 3]], class_labels=[9, 4, 9, 4], is_crowd=[False, False, False, True]
    )
    (labels,) = batch([sample], "semantic", canvas=4)["labels"]
    assert labels["class_labels"].tolist() == [4, 9]
    assert labels["segment_map"][0].tolist() == [1, 0, 1, -1]
    assert sample.annotation.class_labels.tolist() == [9, 4, 9, 4], "the input is not changed"


def test_instance_masks_are_sampled_at_cell_centers():
    masks = np.zeros((2, 5, 6), dtype=bool)
    masks[0, 0:3, 2:6] = True
    masks[1, 1, 1] = True
    (labels,) = batch([instances_sample([[2, 0, 6, 3], [1, 1, 2, 2]], masks, (5, 6))], "instance")[
        "labels"
    ]
    assert set(labels) == {"class_labels", "masks", "is_crowd"}
    assert labels["masks"].shape == (2, 8, 8)
    assert labels["masks"].dtype == torch.uint8
    assert labels["masks"].sum(dim=(1, 2)).tolist() == [12, 1]
    assert labels["is_crowd"].tolist() == [False, True]

    sample = instances_sample([[2, 0, 6, 3], [1, 1, 2, 2]], masks, (5, 6))
    (labels,) = batch([sample], "instance", instance_mask_stride=2)["labels"]
    assert labels["masks"].shape == (2, 4, 4)
    assert labels["masks"][0].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert labels["masks"][1].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (7, 5), (8, 8)])
def test_strided_masks_are_the_padded_mask_at_cell_centers(stride, size):
    masks = np.random.default_rng(0).random((3, *size)) < 0.5
    padded = np.zeros((3, 8, 8), dtype=np.uint8)
    padded[:, : size[0], : size[1]] = masks
    (labels,) = batch(
        [instances_sample([[0, 0, 1, 1]] * 3, masks, size)], "instance", instance_mask_stride=stride
    )["labels"]
    centers = (np.arange(8 // stride) * stride + stride / 2).astype(int)
    np.testing.assert_array_equal(labels["masks"].numpy(), padded[:, centers][:, :, centers])


def test_boxes_are_fractions_of_the_canvas():
    sample = instances_sample([[0, 0, 6, 4], [1, 2, 3, 4]], axes=[[True, False], [True, True]])
    (labels,) = batch([sample], "boxes")["labels"]
    assert set(labels) == {"class_labels", "boxes", "box_axes", "is_crowd"}
    assert labels["boxes"].dtype == torch.float32
    assert labels["boxes"].tolist() == [[0, 0, 0.75, 0.5], [0.125, 0.25, 0.375, 0.5]]
    assert labels["box_axes"].tolist() == [[True, False], [True, True]]
    assert labels["is_crowd"].tolist() == [False, True]


def test_nothing_annotated():
    void = segments_sample(np.full((3, 2), -1), [])
    for task in ("panoptic", "semantic"):
        (labels,) = batch([void], task)["labels"]
        assert labels["class_labels"].shape == (0,)
        assert labels["class_labels"].dtype == torch.int64
        assert (labels["segment_map"] == -1).all()
    (labels,) = batch(
        [instances_sample([], np.zeros((0, 4, 6), bool))], "instance", instance_mask_stride=4
    )["labels"]
    assert labels["masks"].shape == (0, 2, 2)
    assert labels["is_crowd"].shape == (0,)
    (labels,) = batch([instances_sample([])], "boxes")["labels"]
    assert labels["boxes"].shape == (0, 4)
    assert labels["box_axes"].shape == (0, 2)
    assert labels["box_axes"].dtype == torch.bool


def test_only_crowd_leaves_no_target():
    (labels,) = batch([segments_sample([[0, 0]], [3], [True])], "panoptic")["labels"]
    assert labels["class_labels"].tolist() == []
    assert (labels["segment_map"] == -1).all()


@pytest.mark.parametrize(
    ("sample", "task", "message"),
    [
        (instances_sample([]), "panoptic", "image 5.*panoptic"),
        (instances_sample([]), "semantic", "image 5.*semantic"),
        (segments_sample([[0]], [0]), "instance", "image 1.*objects"),
        (segments_sample([[0]], [0]), "boxes", "image 1.*objects"),
        (instances_sample([]), "instance", "image 5.*only boxes"),
        (instances_sample([], size=(3, 9)), "boxes", "image 5: 3 x 9.*canvas of 8"),
        (segments_sample([[0]], [0]), "depth", "unknown task 'depth'"),
    ],
)
def test_what_does_not_fit_is_refused(sample, task, message):
    with pytest.raises(ValueError, match=message):
        batch([sample], task)


def test_stride_must_divide_the_canvas():
    with pytest.raises(ValueError, match=r"canvas 10.*stride 4"):
        batch([], "instance", canvas=10, instance_mask_stride=4)


def test_connected_parts_of_split_classes_become_targets_of_their_own() -> None:
    whole = np.array([[0, 0, -1, 0], [1, 1, -1, 0], [1, -1, 0, 1]], dtype=np.int32)
    segments = Segments(whole, np.array([7, 3]), np.zeros(2, dtype=bool))
    parts = split_components(segments, [label == 7 for label in range(8)])
    assert parts.segment_map.tolist() == [[0, 0, -1, 1], [3, 3, -1, 1], [3, -1, 2, 3]]
    assert parts.class_labels.tolist() == [7, 7, 7, 3]
    assert parts.is_crowd.tolist() == [False] * 4
    assert segments.segment_map is whole
