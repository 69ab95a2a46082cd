"""The pretend device itself: real values, no mixing, and each wait counted once."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataseg_hf.model.resizing_dataseg import valid_grid
from helpers.pretend_device import DEVICE, FarTensor, PretendDevice


@pytest.fixture
def device() -> Iterator[PretendDevice]:
    with PretendDevice() as device:
        yield device


VALUES = torch.arange(6.0).view(2, 3)
MASK = VALUES > 2
REPEATS = torch.tensor([2, 1])


def repeat(far: Tensor, **options: Any) -> Tensor:
    return far.repeat_interleave(torch.full((2,), 2, device=far.device), dim=0, **options)


READS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda far: far[0, 1].item(),
    "int": lambda far: int(far[1, 0]),
    "float": lambda far: float(far[1, 0]),
    "bool": lambda far: bool((far > 2).any()),
    "if": lambda far: 1 if far.sum() > 0 else 0,
    "format": lambda far: f"{far[1, 0].item():.1f}",
    "tolist": lambda far: far.tolist(),
    "cpu": lambda far: far.cpu(),
    "to": lambda far: far.to("cpu", torch.float64),
    "non-blocking to": lambda far: far.to("cpu", non_blocking=True),
    "copy": lambda far: torch.zeros(2, 3).copy_(far),
    "into a window": lambda far: torch.zeros(4, 3)[1:3].copy_(far),
    "assigned": lambda far: torch.zeros(4, 3).__setitem__(slice(1, 3), far),
    "nonzero": lambda far: far.nonzero(),
    "where": lambda far: torch.where(far > 2)[0],
    "masked_select": lambda far: far.masked_select(far > 2),
    "boolean index": lambda far: far[far > 2],
    "boolean row": lambda far: far[far[:, 0] > 2],
    "boolean index set to far values": lambda far: far.clone().__setitem__(far > 2, far[0, 0]),
    "index of a scalar": lambda far: far[far[0, 1].long()],
    "unique": lambda far: far.unique(),
    "unique with counts": lambda far: far.unique(return_counts=True)[1],
    "unique rows": lambda far: far.unique(dim=0),
    "unique_consecutive": lambda far: far.flatten().unique_consecutive(),
    "equal": lambda far: torch.equal(far, far + 1),
    "bincount": lambda far: far.flatten().long().bincount(),
    "repeat_interleave": repeat,
    "contains": lambda far: 3.0 in far,
    "allclose": lambda far: torch.allclose(far, far),
    "list of scalars": lambda far: torch.tensor([far[0, 1], 2.0]),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_one_wait(device: PretendDevice, name: str) -> None:
    found = READS[name](device.put(VALUES))
    assert (device.number("read"), device.number("upload")) == (1, 0), device.report()
    expected = READS[name](VALUES)
    if isinstance(expected, Tensor):
        assert torch.equal(device.fetch(found), expected)
    else:
        assert found == expected


UPLOADS: dict[str, Callable[[Tensor], Any]] = {
    "to": lambda far: VALUES.to(far.device),
    "to like": lambda far: VALUES.to(far),
    "copy": lambda far: torch.zeros_like(far).copy_(VALUES),
    "assigned": lambda far: far.clone().__setitem__(slice(0, 2), VALUES),
    "tensor": lambda far: torch.tensor([1.0, 2.0], device=far.device),
    "tensor of one value": lambda far: torch.tensor(1.0, device=far.device),
    "as_tensor of values": lambda far: torch.as_tensor([1.0, 2.0], device=far.device),
    "as_tensor": lambda far: torch.as_tensor(VALUES, device=far.device),
    "new_tensor": lambda far: far.new_tensor([1, 2]),
    "index on the host": lambda far: far[torch.tensor([1, 0])],
    "list as index": lambda far: far[[1, 0]],
    "list as index on two axes": lambda far: far[:, [1, 0]],
    "one element set": lambda far: far.clone().__setitem__((0, 1), 5.0),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_is_one_wait(device: PretendDevice, name: str) -> None:
    found = UPLOADS[name](device.put(VALUES))
    assert (device.number("read"), device.number("upload")) == (0, 1), device.report()
    expected = UPLOADS[name](VALUES)
    if expected is not None:
        assert isinstance(found, FarTensor)
        assert found.dtype == expected.dtype
        assert torch.equal(found.on_host, expected)


FREE: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda far: 2 * far + far.sum(),
    "a scalar of the host": lambda far: far * torch.tensor(2.0),
    "slices": lambda far: far[0, 1:],
    "far index": lambda far: far[far[:, 0].argsort()],
    "masked_fill": lambda far: far.masked_fill(far > 2, 0),
    "a mask set to one value": lambda far: far.clone().__setitem__(far > 2, 0.0),
    "a row set to one value": lambda far: far.clone().__setitem__(0, 5.0),
    "where": lambda far: torch.where(far > 2, far, 0.0),
    "factories": lambda far: torch.zeros_like(far) + torch.arange(3, device=far.device),
    "new values": lambda far: far.new_full((2,), 7),
    "as_tensor of a far one": lambda far: torch.as_tensor(far, device=far.device),
    "out": lambda far: torch.maximum(far, 2 - far, out=torch.zeros_like(far)),
    "in place, through a view": lambda far: far.clone().view(-1).mul_(3),
    "one_hot": lambda far: F.one_hot(far.long(), 6),
    "known number of repeats": lambda far: repeat(far, output_size=4),
    "interpolate": lambda far: F.interpolate(far[None, None], size=(4, 4), mode="bilinear"),
    "attention": lambda far: F.scaled_dot_product_attention(far[None], far[None], far[None]),
}


@pytest.mark.parametrize("name", FREE)
def test_what_needs_no_value_is_no_wait_and_stays_there(device: PretendDevice, name: str) -> None:
    found = FREE[name](device.put(VALUES))
    assert device.total == 0, device.report()
    expected = FREE[name](VALUES)
    if expected is not None:
        assert isinstance(found, FarTensor)
        assert found.device == DEVICE
        assert torch.equal(found.on_host, expected)


def test_asynchronous_uploads_are_noted_and_no_wait(device: PretendDevice) -> None:
    far = VALUES.to(DEVICE, non_blocking=True)
    far.copy_(VALUES, non_blocking=True)
    assert device.total == 0
    assert sum(device.asynchronous.values()) == 2
    assert torch.equal(device.fetch(far), VALUES)


MIXED: dict[str, Callable[[Tensor], Any]] = {
    "sum": lambda far: far + VALUES,
    "into the host's": lambda far: VALUES.clone().add_(far),
    "product": lambda far: far @ VALUES.T,
    "cat": lambda far: torch.cat([far, VALUES]),
    "stack of scalars": lambda far: torch.stack([far[0, 0], torch.tensor(1.0)]),
    "where": lambda far: torch.where(MASK, far, 0.0),
    "masked_fill": lambda far: far.masked_fill(MASK, 0.0),
    "far index of the host's": lambda far: VALUES[far[:, 0].argsort()],
    "values of the host set by index": lambda far: far.index_put_(
        (torch.arange(2, device=far.device),), VALUES
    ),
    "a far scalar and the host's": lambda far: far.sum() * VALUES,
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_devices_raise(device: PretendDevice, name: str) -> None:
    with pytest.raises(RuntimeError, match="mixed devices"):
        MIXED[name](device.put(VALUES))


def test_a_far_tensor_is_no_array(device: PretendDevice) -> None:
    far = device.put(VALUES)
    for convert in (np.asarray, lambda x: x.numpy()):
        with pytest.raises(TypeError, match=r"call `.cpu\(\)` first"):
            convert(far)


def test_the_place_is_the_line_of_the_package(device: PretendDevice) -> None:
    assert valid_grid(VALUES[None], device.put(torch.ones(2))) == (2, 3)
    (wait,) = device.waits
    file, line, function = wait.place.replace(" ", ":").split(":")
    assert (file, function) == ("resizing_dataseg.py", "valid_grid")
    assert int(line) > 100
    assert wait.place in device.report()
    device.clear()
    device.put(MASK).any().item()
    assert "test_pretend_device.py" in next(iter(device.waits)).place
    assert device.report().startswith("1 waits")


def test_training_is_that_of_the_host(device: PretendDevice) -> None:
    def trained(model: nn.Module, inputs: Tensor) -> list[Tensor]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, foreach=False)
        for _ in range(3):
            loss = model(inputs).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
        return [parameter.detach() for parameter in model.parameters()]

    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    images = torch.randn(2, 1, 5, 5)
    expected = trained(copy.deepcopy(model), images)
    far = device.move(copy.deepcopy(model))
    kept = copy.deepcopy(far)
    found = trained(far, device.put(images))
    assert device.total == 0, device.report()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(device.fetch(one), other)
    before = [device.fetch(parameter.data) for parameter in kept.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_modules_go_there_by_to(device: PretendDevice) -> None:
    module = nn.BatchNorm2d(3)
    assert module.to(DEVICE).weight.device == DEVICE
    assert isinstance(module.running_mean, FarTensor)
    # weight, bias, running mean, variance and count
    assert device.number("upload") == 5


def test_generators_draw_for_the_device(device: PretendDevice) -> None:
    generator = torch.Generator(DEVICE).manual_seed(3)
    drawn = torch.rand(4, generator=generator, device=DEVICE)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(device.fetch(drawn), expected)


def test_what_is_set_is_what_the_host_sets(device: PretendDevice) -> None:
    far, host = device.put(VALUES.clone()), VALUES.clone()
    for values in (far, host):
        values[values > 4] = -1.0
        values[0] = 7.0
        values[1, [0, 1]] = torch.tensor(3.0)
    assert torch.equal(far.on_host, host)


def test_autocast_can_be_entered(device: PretendDevice) -> None:
    with torch.autocast(DEVICE.type, enabled=False):
        assert (device.put(VALUES) @ device.put(VALUES.T)).dtype == torch.float32


def test_torch_is_as_before_afterwards() -> None:
    names = (torch.tensor, torch.as_tensor, torch.Generator, torch.autocast.__init__)
    far = VALUES.to(DEVICE)  # without values
    with pytest.raises(RuntimeError, match="without values"), PretendDevice():
        far + 1
    assert names == (torch.tensor, torch.as_tensor, torch.Generator, torch.autocast.__init__)
    assert not isinstance(torch.zeros(2, device=DEVICE), FarTensor)
    assert VALUES.tolist() == [[0, 1, 2], [3, 4, 5]]
