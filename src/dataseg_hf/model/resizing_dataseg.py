"""Mask logits enlarged to the size of the image, only where and for whom that is asked for.

Shapes: K maps, h x w mask grid, H x W result.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .host_dataseg import to_device, to_host
from .mask_nms_dataseg import Window


class AxisResize:
    """Bilinear resize of the first `valid` share of an axis of `cells` to `size` pixels, padding
    cropped.

    Pixel i is the mean of the cells low[i] and high[i] with weights 1 - weight[i] and weight[i],
    also where the image ends within a cell. Which cells a pixel touches is computed on the host,
    so that windows are found without waiting for the device.

    Args:
        valid: scalar tensor of the host.
        device: of the maps.
    """

    def __init__(self, cells: int, valid: Tensor, size: int, device: torch.device) -> None:
        # the last cell that holds some of the image
        last = (valid * cells - 1e-3).ceil().clamp(1, cells) - 1
        position = (torch.arange(size) + 0.5) / size * (valid * cells) - 0.5
        position = position.clamp(min=0).minimum(last)
        self._low = position.long()
        self._high = (self._low + 1).minimum(last.long())
        self._first, self._last = self._low.tolist(), self._high.tolist()
        self.low, self.high = to_device(self._low, device), to_device(self._high, device)
        self.weight = to_device(position - self._low, device)

    def pixels(self, cells: Tensor) -> Tensor:
        """For bool [K, cells] of the host the smallest ranges of pixels that hold all those that
        touch a true cell: [K, 2].
        """
        true = cells.int()
        first, end = true.argmax(-1), cells.shape[-1] - true.flip(-1).argmax(-1)
        ranges = torch.stack(
            [torch.searchsorted(self._high, first), torch.searchsorted(self._low, end)], dim=-1
        )
        return ranges.where(cells.any(-1, keepdim=True), 0)

    def enlarge(self, values: Tensor, pixels: slice) -> Tensor:
        """Some of the pixels, along the second axis of values [K, cells, ...], which begins at the
        cell that the first of those pixels touches: [K, pixels, ...].
        """
        start = self._first[pixels.start]
        low, high = self.low[pixels] - start, self.high[pixels] - start
        weight = self.weight[pixels].view(-1, *[1] * (values.ndim - 2))
        return torch.lerp(values.index_select(1, low), values.index_select(1, high), weight)

    def cells(self, pixels: slice) -> slice:
        """The cells that those pixels touch."""
        return slice(self._first[pixels.start], self._last[pixels.stop - 1] + 1)


class Resize:
    """Crops the padding of maps [K, h, w] and resizes them bilinearly.

    Args:
        grid: h and w.
        valid_size: [2], height and width of the image as fractions of the grid; on the host, or
            the host waits for it.
        size: height and width of the result, in pixels.
        device: of the maps.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        valid_size: Tensor,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.size = size
        valid_size = valid_size.cpu()
        self.rows = AxisResize(grid[0], valid_size[0], size[0], device)
        self.columns = AxisResize(grid[1], valid_size[1], size[1], device)

    def window(self, maps: Tensor, rows: slice, columns: slice) -> Tensor:
        """Those pixels of the result, for maps [K, h, w]."""
        return self.enlarge(
            maps[:, self.rows.cells(rows), self.columns.cells(columns)], rows, columns
        )

    def enlarge(self, cells: Tensor, rows: slice, columns: slice) -> Tensor:
        """Those pixels of the result from the cells [K, h', w'] that they touch."""
        maps, height, width = cells.shape
        # as one table of rows: there, values are picked twice as fast as along the last of three
        # axes
        by_columns = self.columns.enlarge(cells.reshape(maps * height, width), columns)
        return self.rows.enlarge(by_columns.view(maps, height, columns.stop - columns.start), rows)

    def windows(self, rows: Tensor, columns: Tensor) -> list[Window]:
        """Pixels that touch cells of rows bool [K, h] and columns bool [K, w], of K maps.

        The host waits once for the device.
        """
        rows, columns = to_host(rows, columns)
        ranges = torch.stack([self.rows.pixels(rows), self.columns.pixels(columns)], dim=1)
        filled = (ranges[..., 0] < ranges[..., 1]).all(-1)  # cells of the padding touch no pixel
        return [
            (slice(*row), slice(*column))
            for row, column in ranges.where(filled[:, None, None], 0).tolist()
        ]


def where_reached(maps: Sequence[Tensor], least: Tensor) -> tuple[Tensor, Tensor]:
    """Rows bool [K, h] and columns bool [K, w] in which K maps [h, w] reach `least`, [K]."""
    rows = torch.stack([values.amax(-1) for values in maps]) >= least[:, None]
    # an empty span gives the lowest number, whose largest is itself
    lowest = torch.full_like(maps[0][:1], -torch.inf)
    largest = [
        (values[span] if span.stop > span.start else lowest).amax(0)
        for values, span in zip(maps, spans(rows), strict=True)
    ]
    return rows, torch.stack(largest) >= least[:, None]


def spans(rows: Tensor) -> list[slice]:
    """For bool [K, h] the smallest ranges that hold all true ones; 0:0 where there is none.

    Elsewhere than on the host, which would have to wait for them, all rows.
    """
    if rows.device.type != "cpu":
        return [slice(0, rows.shape[-1])] * len(rows)
    first, end = rows.int().argmax(-1), rows.shape[-1] - rows.flip(-1).int().argmax(-1)
    some = rows.any(-1)
    return [slice(*pair) for pair in torch.stack([first * some, end * some], dim=-1).tolist()]


def chosen_maps(mask_logits: Tensor, queries: Sequence[int]) -> list[Tensor]:
    """float32 [h, w] of each query; views where they are float32 already, as a copy takes longer
    than what follows.
    """
    return [mask_logits[query].float() for query in queries]


def resize_masks(masks: Tensor, valid_size: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop the padding and resize bilinearly: [K, h, w] -> [K, *size].

    Args:
        valid_size: [2], fractions of the canvas.
    """
    resize = Resize((masks.shape[-2], masks.shape[-1]), valid_size, size, masks.device)
    return resize.window(masks, slice(0, size[0]), slice(0, size[1]))


def valid_grid(masks: Tensor, valid_size: Tensor) -> tuple[int, int]:
    """Height and width of the part of the mask grid that the image covers, at least one cell.

    It is the size of a result where none is asked for.

    Args:
        masks: [N, h, w].
        valid_size: [2], fractions of the grid.
    """
    height, width = (
        (valid_size.cpu() * torch.tensor(masks.shape[-2:])).round().clamp(min=1).int().tolist()
    )
    return height, width


# --- windows --------------------------------------------------------------------------------------


def hull(windows: list[Window]) -> Window:
    """The smallest window that holds all of them that are not empty."""
    filled = [window for window in windows if window[0].stop > window[0].start]
    if not filled:
        return slice(0, 0), slice(0, 0)
    rows, columns = (
        slice(
            min(window[axis].start for window in filled),
            max(window[axis].stop for window in filled),
        )
        for axis in (0, 1)
    )
    return rows, columns


def within(window: Window, around: Window) -> Window:
    """A window in the coordinates of another that holds it."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(window, around, strict=True)
    )
    return rows, columns


__all__ = [
    "AxisResize",
    "Resize",
    "chosen_maps",
    "hull",
    "resize_masks",
    "spans",
    "valid_grid",
    "where_reached",
    "within",
]
