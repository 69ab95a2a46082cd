"""The second layer of annotation: only where a set says nothing, and only what it does not deny."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_completion import (
    CAT,
    DOG,
    GRID,
    SIZE,
    SKY,
    SPEC,
    iou,
    painted,
    random_image,
    random_objects,
    random_proposals,
    rectangle,
)

from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, Sample, Segments
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.prediction.completion import (
    CompletedSample,
    complete_sample,
    second_layer_segments,
    spec_of_mix,
)
from dataseg_hf.prediction.segments import Segment

OTHER = DatasetSpec(
    name="other",
    task="panoptic",
    classes=(ClassInfo("Dog", False), ClassInfo("tree", True), ClassInfo("grass", False)),
    id_map={},
)
MIX = spec_of_mix(SPEC, [OTHER, replace(OTHER, classes=(ClassInfo("grass", True),))])
TREE, GRASS = 3, 4


def mix_proposals(*made: tuple[int, float, NDArray[np.bool_]]) -> ImageProposals:
    """Of class of the mix, probability and mask [48, 64]."""
    classes = torch.full((len(made), len(MIX.classes) + 1), 1e-6)
    masks = torch.full((len(made), *GRID), -6.0)
    for number, (label, probability, mask) in enumerate(made):
        classes[number, label], classes[number, -1] = probability, 1 - probability
        shares = mask.reshape(12, 4, 16, 4).mean((1, 3))
        masks[number, :12] = torch.from_numpy(12 * shares - 6)
    things = torch.tensor(MIX.is_thing)
    return ImageProposals(classes.log(), masks, torch.tensor([0.75, 1.0]), things)


def completed(
    label: int, mask: NDArray[np.bool_], spec: DatasetSpec = SPEC, **what: object
) -> CompletedSample:
    """An image of which one object with a mask is annotated."""
    rows, columns = mask.nonzero()
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    instances = Instances(
        np.array([label]), np.array([box], np.float32), np.zeros(1, bool), mask[None]
    )
    sample = Sample(painted(mask), instances, 1, "a.png", **what)  # type: ignore[arg-type]
    return complete_sample(sample, spec, random_proposals(np.random.default_rng(0)))


def masks_of(segments: list[Segment]) -> list[NDArray[np.bool_]]:
    return [one.within(slice(0, SIZE[0]), slice(0, SIZE[1])) for one in segments]


# --- the classes of the mix


def test_the_own_classes_come_first_and_no_plain_name_twice() -> None:
    assert MIX.labels == ["cat", "dog", "sky", "tree", "grass"]
    assert MIX.is_thing == [True, True, False, True, False], "as the first set says that names it"
    assert not any(c.exhaustive for c in MIX.classes)


# --- what is added


def test_an_object_of_another_set_is_added_and_an_own_one_is_not() -> None:
    cat, tree, dog = rectangle(0, 0, 16, 16), rectangle(24, 0, 40, 16), rectangle(24, 24, 40, 40)
    proposals = mix_proposals((TREE, 0.9, tree), (DOG, 0.9, dog))
    spec = replace(SPEC, task="instance")
    (found,) = second_layer_segments(completed(CAT, cat, spec), spec, proposals)
    assert (found.label_id, found.facts["source"], found.facts["review"]) == (TREE, "model", "")
    assert found.score == pytest.approx(0.9, abs=1e-4)
    assert iou(masks_of([found])[0], tree) > 0.97


@pytest.mark.parametrize("of_image", [True, False])
def test_own_classes_are_added_where_they_are_not_all_annotated(of_image: bool) -> None:
    cat, dog = rectangle(0, 0, 16, 16), rectangle(24, 24, 40, 40)
    spec = replace(SPEC, task="instance")
    if not of_image:
        open_dog = replace(spec.classes[DOG], exhaustive=False)
        spec = replace(spec, classes=(spec.classes[CAT], open_dog, spec.classes[SKY]))
    done = completed(CAT, cat, spec, **({"incomplete": (DOG,)} if of_image else {}))
    proposals = mix_proposals((DOG, 0.9, dog), (CAT, 0.9, rectangle(44, 0, 60, 16)))
    assert [one.label_id for one in second_layer_segments(done, spec, proposals)] == [DOG]


def test_a_segment_is_cut_flagged_or_left_out_by_what_is_annotated_of_it() -> None:
    """A thing of which a quarter is annotated, one of which most is, and stuff."""
    cat = rectangle(0, 0, 24, 32)
    spec = replace(SPEC, task="instance")
    proposals = mix_proposals(
        (TREE, 0.9, rectangle(16, 0, 48, 16)),
        (TREE, 0.9, rectangle(0, 16, 28, 32)),
        (GRASS, 0.9, rectangle(16, 36, 64, 48) | rectangle(16, 32, 24, 36)),
    )
    tree, grass = second_layer_segments(completed(CAT, cat, spec), spec, proposals)
    assert tree.facts["review"] == (
        "25% of what the model sees of it is annotated as something else"
    )
    assert iou(masks_of([tree])[0], rectangle(24, 0, 48, 16)) > 0.97
    assert (grass.label_id, grass.facts["review"]) == (GRASS, "")


def test_the_unsure_is_left_void() -> None:
    """A tree is likelier than grass and than nothing, yet less likely than not."""
    spec = replace(SPEC, task="instance")
    done = completed(CAT, rectangle(0, 0, 16, 16), spec)
    proposals = mix_proposals((TREE, 0.45, rectangle(24, 0, 40, 16)))
    proposals.class_logits[0, [GRASS, -1]] = torch.tensor([0.3, 0.25]).log()
    assert second_layer_segments(done, spec, proposals) == []


def test_void_of_a_map_gets_any_class() -> None:
    segment_map = np.where(rectangle(0, 0, 32, 48), 0, -1).astype(np.int32)
    annotation = Segments(segment_map, np.array([SKY]), np.zeros(1, bool))
    spec = replace(SPEC, task="semantic")
    sample = Sample(painted(), annotation, 1, "a.png")
    done = complete_sample(sample, spec, random_proposals(np.random.default_rng(0)))
    proposals = mix_proposals(
        (CAT, 0.9, rectangle(40, 0, 56, 16)), (GRASS, 0.9, rectangle(32, 24, 64, 48))
    )
    assert [one.label_id for one in second_layer_segments(done, spec, proposals)] == [CAT, GRASS]


# --- whatever is annotated, and whatever the model says


def random_mix_proposals(rng: np.random.Generator) -> ImageProposals:
    """Sure of classes and of large masks, so that many segments come out."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    count = int(rng.integers(1, 9))
    coarse = 12 * torch.randn(1, count, 4, 4, generator=generator)
    return ImageProposals(
        8 * torch.randn(count, len(MIX.classes) + 1, generator=generator),
        torch.nn.functional.interpolate(coarse, GRID, mode="nearest")[0],
        torch.tensor([0.75, 1.0]),
        torch.tensor(MIX.is_thing),
    )


def random_sample(rng: np.random.Generator) -> tuple[Sample, DatasetSpec]:
    """Maps, or objects of all degrees, of which some classes are not all annotated."""
    image = random_image(rng)
    if rng.random() < 0.5:
        segment_map = (
            rng.integers(-2, 3, (3, 4)).clip(-1).repeat(16, 0).repeat(16, 1).astype(np.int32)
        )
        segment_map[rng.random(SIZE) < 0.6] = -1
        annotation = Segments(segment_map, np.array([CAT, DOG, SKY]), rng.random(3) < 0.3)
        task = "semantic" if rng.random() < 0.5 else "panoptic"
        return Sample(image, annotation, 1, "a.png"), replace(SPEC, task=task)  # type: ignore[arg-type]
    classes = [replace(c, exhaustive=bool(rng.random() < 0.5)) for c in SPEC.classes]
    incomplete = tuple(np.flatnonzero(rng.random(3) < 0.3).tolist())
    sample = Sample(image, random_objects(rng), 1, "a.png", incomplete=incomplete)
    return sample, replace(SPEC, classes=tuple(classes))


def test_no_annotated_pixel_is_covered_and_no_denied_class_is_added() -> None:
    added: Counter[str] = Counter()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        sample, spec = random_sample(rng)
        done = complete_sample(sample, spec, random_proposals(rng))
        segments = second_layer_segments(done, spec, random_mix_proposals(rng))
        added[spec.label_form] += len(segments)
        annotation = done.sample.annotation
        if isinstance(annotation, Segments):
            annotated = annotation.segment_map >= 0
            denied: set[int] = set()
        else:
            assert annotation.masks is not None
            annotated = annotation.masks.any(0)
            denied = {n for n, c in enumerate(spec.classes) if c.exhaustive}
            denied -= set(sample.incomplete)
        covered = np.zeros(SIZE, int)
        for mask, one in zip(masks_of(segments), segments, strict=True):
            assert mask.any()
            assert one.label_id not in denied
            assert (one.score or 0) >= 0.5
            covered += mask
        assert not covered[annotated].any()
        assert covered.max() <= 1, "a pixel belongs to one segment"
    assert min(added[form] for form in ("segments", "classes", "degrees")) > 10, added
