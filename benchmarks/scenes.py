"""What both contestants are given: images and labels of a training step, and proposals for
post-processing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_CLASSES = 133
NUM_THINGS = 80  # COCO's panoptic vocabulary: 80 things, then 53 kinds of stuff
GRID = 384  # to which transformers resizes every mask first: here it has nothing to do


@dataclass
class Batch:
    """pixel_values [B, 3, H, W]; per image a segment map int16 [H, W] and the class of each of its
    M segments [M].
    """

    pixel_values: Tensor
    segment_maps: list[Tensor]
    class_labels: list[Tensor]


def training_batch(batch: int, side: int, num_segments: int) -> Batch:
    """Noise, cut into a patchwork of segments of random size."""
    maps, classes = [], []
    for _ in range(batch):
        centers = torch.rand(num_segments, 2) * side
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        distance = (y[..., None] - centers[:, 0]).square() + (x[..., None] - centers[:, 1]).square()
        maps.append(distance.argmin(-1).to(torch.int16))
        classes.append(torch.randint(0, NUM_CLASSES, (num_segments,)))
    return Batch(torch.randn(batch, 3, side, side), maps, classes)


@dataclass
class Scene:
    """Proposals of one image, in the names of both models' outputs, with a batch axis of 1."""

    class_queries_logits: Tensor
    masks_queries_logits: Tensor
    is_thing: Tensor
    valid_size: Tensor

    @property
    def stuff(self) -> set[int]:
        """Label ids to fuse."""
        return set((~self.is_thing[0]).nonzero()[:, 0].tolist())


def scene(
    num_queries: int = 100, num_things: int = 25, num_stuff: int = 5, sure: bool = True
) -> Scene:
    """Things that do not touch each other before bands of stuff; the other queries see no object.

    Where proposals are `sure`, their masks are hard and they have one class probability; otherwise
    masks are soft and class probabilities range from 0.5 to 1. Every kind of stuff has one
    proposal, so that nothing is met again, after which transformers gives some ids twice.
    """
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    cell = GRID / 5
    depth = []  # inside a mask positive, in cells
    for thing in range(num_things):
        row, column = divmod(thing, 5)
        center_y, center_x = (
            (row + 0.5 + 0.1 * torch.rand(())) * cell,
            (column + 0.5 + 0.1 * torch.rand(())) * cell,
        )
        radius_y, radius_x = cell * (0.15 + 0.2 * torch.rand(2))
        radius = ((y - center_y) / radius_y).square() + ((x - center_x) / radius_x).square()
        depth.append((1 - radius.sqrt()) * torch.minimum(radius_y, radius_x))
    outside = -torch.stack(depth).amax(0)
    edges = torch.linspace(0, GRID, num_stuff + 1)
    # the borders of the bands run between the rows of things
    depth += [
        torch.minimum(outside, torch.minimum(y - low, high - 1 - y) + 0.5)
        for low, high in edges.unfold(0, 2, 1)
    ]
    masks = torch.stack(depth)
    masks = torch.where(masks > 0, 20.0, -20.0) if sure else masks / 2
    seen = num_things + num_stuff
    unseen = torch.randn(num_queries - seen, GRID, GRID) - 4
    logits = torch.zeros(num_queries, NUM_CLASSES + 1)
    labels = torch.cat(
        [
            torch.randint(0, NUM_THINGS, (num_things,)),
            NUM_THINGS + torch.randperm(NUM_CLASSES - NUM_THINGS)[:num_stuff],
        ]
    )
    logits[torch.arange(seen), labels] = 10.0 if sure else 5 + 5 * torch.rand(seen)
    logits[seen:, -1] = 10.0
    order = torch.randperm(num_queries)
    return Scene(
        logits[order][None],
        torch.cat([masks, unseen])[order][None],
        (torch.arange(NUM_CLASSES) < NUM_THINGS)[None],
        torch.ones(1, 2),
    )
