"""A pretend accelerator: finds mixed devices and counts the host's waits, without a GPU.

    with PretendDevice() as device:
        outputs = model(**device.put(inputs))     # `device.move(model)` before
    assert device.total <= 3, device.report()

Its tensors say that they lie on the device "meta" and hold real values, so code that depends on
values runs as on a GPU. Two things differ from the host, and both are what a GPU does: a tensor of
the device and one of the host in one operation raise, and each time the host has to wait for the
device is counted, with the line of the package that asked for it.

Waits are of two kinds. A "read" needs a value: `item`, `tolist`, `cpu`, `nonzero`, a boolean index
and all else whose shape or result depends on values. An "upload" brings values from ordinary memory
of the host, which CUDA copies before it goes on: `to`, `torch.tensor(..., device=...)`, an index
that lies on the host. With `non_blocking=True` it is asynchronous and no wait. Copies to the host
always count, since whoever asks for one will read it. `torch.autocast` can be entered, and leaves
the precision of far tensors as it is.
"""

import contextlib
import dataclasses
import functools
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
PACKAGE = f"{os.sep}dataseg_hf{os.sep}"
TORCH = os.path.dirname(torch.__file__)

# operators whose result or its shape depends on values
READS = {
    "aten::_local_scalar_dense": "item",
    "aten::_unique2": "unique",
    "aten::allclose": "allclose",
    "aten::bincount": "bincount",
    "aten::equal": "equal",
    "aten::is_nonzero": "bool",
    "aten::masked_select": "masked_select",
    "aten::nonzero": "nonzero",
    "aten::unique_consecutive": "unique_consecutive",
    "aten::unique_dim": "unique",
}
INDEXING = {
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
}
COPIES = {"aten::_to_copy", "aten::copy_"}
# operators that take no scalar of another device
STRICT = {"aten::cat", "aten::stack"}

Kind: TypeAlias = Literal["read", "upload"]


class Wait(NamedTuple):
    """One reason for the host to wait: the operation, and file, line and function that asked."""

    kind: Kind
    what: str
    place: str


class FarTensor(torch.Tensor):
    """A tensor on the pretend device; `on_host` has its values."""

    on_host: Tensor
    device_: "PretendDevice"

    @staticmethod
    def __new__(cls, real: Tensor, device: "PretendDevice") -> "FarTensor":
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=DEVICE,
        )
        far.on_host, far.device_ = real, device
        return far

    def __init__(self, real: Tensor, device: "PretendDevice") -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return f"far {self.on_host!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = FarTensor(self.on_host.detach().clone(), self.device_)
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, self.requires_grad)  # type: ignore[assignment]
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        far = next(x for x in tree_leaves((args, kwargs)) if isinstance(x, FarTensor))
        return far.device_.run(func, args, kwargs or {})

    # what torch does without its dispatcher

    def tolist(self) -> Any:
        self.device_.count("read", "tolist")
        return self.on_host.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"a far tensor is no array: call `.cpu()` first, in {asker()}")

    __array__ = numpy

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        # numbers stay on the host, as on CUDA
        value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=self.dtype)
        super().__setitem__(_index(index), value)

    def new_tensor(  # type: ignore[override]
        self, data: Any, dtype: torch.dtype | None = None, **options: Any
    ) -> Tensor:
        return torch.tensor(
            data, dtype=dtype or self.dtype, device=options.pop("device", DEVICE), **options
        )


class PretendDevice(TorchDispatchMode):
    """Within it, what is made on the device "meta" has values, and waits are counted.

    Attributes:
        waits: how often the host waited, by reason.
        asynchronous: uploads that were no wait, by reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[Wait] = Counter()
        self.asynchronous: Counter[Wait] = Counter()
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> "PretendDevice":
        for patch in _patches(self):
            self._patches.enter_context(patch)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.run(func, args, kwargs or {})

    # --- what tests ask for

    def put(self, values: Any) -> Any:
        """The same nest, or dataclass of such, with its tensors on the device; no wait is
        counted.
        """
        if dataclasses.is_dataclass(values) and not isinstance(values, (dict, type)):
            fields = {one.name: getattr(values, one.name) for one in dataclasses.fields(values)}
            return dataclasses.replace(values, **self.put(fields))
        return tree_map(
            lambda x: self._far(x.detach()) if isinstance(x, Tensor) else x,
            values,
            is_leaf=lambda x: isinstance(x, FarTensor),
        )

    def move(self, module: nn.Module) -> nn.Module:
        """Put parameters and buffers on the device, in place; no wait is counted."""
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    far = self._far(parameter.detach())
                    part._parameters[name] = nn.Parameter(far, parameter.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = self._far(buffer)
        return module

    @staticmethod
    def fetch(values: Any) -> Any:
        """The same nest with its tensors on the host; no wait is counted."""
        return tree_map(lambda x: x.on_host if isinstance(x, FarTensor) else x, values)

    @property
    def total(self) -> int:
        """All waits."""
        return sum(self.waits.values())

    def number(self, kind: Kind) -> int:
        """The waits of one kind."""
        return sum(count for wait, count in self.waits.items() if wait.kind == kind)

    def clear(self) -> None:
        """Count from 0 again."""
        self.waits.clear()
        self.asynchronous.clear()

    def report(self) -> str:
        """The waits, the most frequent first, one a line."""
        lines = [f"{n:4} {w.kind}: {w.what}, {w.place}" for w, n in self.waits.most_common()]
        return "\n".join([f"{self.total} waits", *lines])

    # --- operators

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operator on the real values, its result far if the device's would be."""
        name = func._schema.name
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        far = [x for x in given if isinstance(x, FarTensor)]
        where = _device_type(kwargs.get("device"))
        if stray := [x for x in given if x.device == DEVICE and not isinstance(x, FarTensor)]:
            raise RuntimeError(f"a tensor {tuple(stray[0].shape)} without values, in {asker()}")
        if name in COPIES:
            self._count_copy(name, args, kwargs, where)
        elif far:
            self._check_devices(name, args, given)
            self._count_reads(name, args, kwargs)
        own = {id(x.on_host): x for x in far}
        real_args, real_kwargs = self.fetch((args, kwargs))
        if where == DEVICE.type:
            real_kwargs["device"] = torch.device("cpu")
        result = func(*real_args, **real_kwargs)
        if name == "aten::copy_" and not isinstance(args[0], FarTensor):
            return result
        if where == "cpu" or not (far or where == DEVICE.type):
            return result
        return tree_map(lambda x: self._far(x, own) if isinstance(x, Tensor) else x, result)

    def _far(self, real: Tensor, own: dict[int, FarTensor] | None = None) -> FarTensor:
        """A far tensor of these values; the one of `own` that was written in place."""
        if isinstance(real, FarTensor):
            return real
        known = (own or {}).get(id(real))
        if known is None:
            return FarTensor(real, self)
        if (known.shape, known.stride()) != (real.shape, real.stride()):
            raise NotImplementedError(f"a far tensor changed its shape, in {asker()}")
        return known

    def _count_copy(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], where: str | None
    ) -> None:
        in_place = name == "aten::copy_"
        source = args[1] if in_place else args[0]
        from_far = isinstance(source, FarTensor)
        to_far = isinstance(args[0], FarTensor) if in_place else where == DEVICE.type
        if from_far and not to_far and (in_place or where is not None):
            self.count("read", "copy to the host")
        elif to_far and not from_far:
            asynchronous = kwargs.get("non_blocking", in_place and len(args) > 2 and args[2])
            self.count("upload", "copy to the device", asynchronous=bool(asynchronous))

    def _check_devices(self, name: str, args: tuple[Any, ...], given: list[Tensor]) -> None:
        """Raise RuntimeError where a GPU would: tensors of both devices, but for scalars of the
        host and indices that lie there.
        """
        indices = args[1] if name in INDEXING else []
        allowed = [] if not isinstance(args[0], FarTensor) else [id(x) for x in indices]
        for x in given:
            if (
                isinstance(x, FarTensor)
                or id(x) in allowed
                or (x.dim() == 0 and name not in STRICT)
            ):
                continue
            raise RuntimeError(
                f"mixed devices in {name}: a tensor {tuple(x.shape)} of the host, in {asker()}"
            )

    def _count_reads(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name in READS:
            self.count("read", READS[name])
        if name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            self.count("read", "repeat_interleave")
        if name not in INDEXING:
            return
        indices = [x for x in args[1] if x is not None]
        # CUDA fills where one mask meets one value of the host, which needs no shape
        filled = len(args) > 2 and args[2].numel() == 1 and not isinstance(args[2], FarTensor)
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices) and not filled:
            self.count("read", "boolean index")
        if any(not isinstance(x, FarTensor) for x in indices):
            self.count("upload", "index")

    def count(self, kind: Kind, what: str, asynchronous: bool = False) -> None:
        """Note that the host waited; no wait, if asynchronous."""
        counter = self.asynchronous if asynchronous else self.waits
        counter[Wait(kind, what, asker())] += 1


def asker() -> str:
    """File, line and function: the innermost of the package, else the innermost beside torch."""
    frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(1))]
    files = [frame.f_code.co_filename for frame in frames]
    beside = (i for i, file in enumerate(files) if file != __file__ and TORCH not in file)
    ours = (i for i, file in enumerate(files) if PACKAGE in file)
    found = frames[next(ours, next(beside, 0))]
    return f"{os.path.basename(found.f_code.co_filename)}:{found.f_lineno} {found.f_code.co_name}"


def _index(index: Any) -> Any:
    """The same with lists as tensors of the host."""
    if isinstance(index, tuple):
        return tuple(_index(one) for one in index)
    return torch.tensor(index) if isinstance(index, list) else index


def _device_type(device: Any) -> str | None:
    return None if device is None else torch.device(device).type


# --- what builds tensors from values past the dispatcher, or does not know the device -------------


def _patches(device: PretendDevice) -> Iterable[Any]:
    yield mock.patch.object(torch, "tensor", _tensor(device, torch.tensor))
    yield mock.patch.object(torch, "as_tensor", _as_tensor(torch.as_tensor))
    yield mock.patch.object(torch, "Generator", _Generator)
    yield mock.patch.object(torch.autocast, "__init__", _autocast(torch.autocast.__init__))


def _tensor(device: PretendDevice, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(original)
    def tensor(data: Any, **options: Any) -> Tensor:
        if isinstance(data, FarTensor):
            raise RuntimeError(f"`torch.tensor` of a tensor: call `clone`, in {asker()}")
        where = options.pop("device", None)
        if any(isinstance(x, FarTensor) for x in tree_leaves(data)):
            data = tree_map(lambda x: x.item() if isinstance(x, FarTensor) else x, data)
        if _device_type(where) != DEVICE.type:
            return original(data, device=where, **options)
        device.count("upload", "tensor of values")
        needs_grad = options.pop("requires_grad", False)
        return device.put(original(data, **options)).requires_grad_(needs_grad)

    return tensor


def _as_tensor(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(original)
    def as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        if isinstance(data, Tensor):
            return data.to(device=data.device if device is None else device, dtype=dtype)
        if _device_type(device) == DEVICE.type:
            return torch.tensor(data, dtype=dtype, device=device)
        return original(data, dtype=dtype, device=device)

    return as_tensor


class _Generator(torch.Generator):
    """Draws for the pretend device, whose values lie on the host."""

    def __new__(cls, device: Any = "cpu") -> Any:
        where = "cpu" if _device_type(device) == DEVICE.type else device
        return super().__new__(cls, where)  # type: ignore[call-arg]


def _autocast(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: Any, device_type: str, *args: Any, **options: Any) -> None:
        original(self, "cpu" if device_type == DEVICE.type else device_type, *args, **options)

    return init
