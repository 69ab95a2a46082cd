"""How the benchmarks measure: alternating repeats, peak of allocated memory, floating-point
operations.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], object]


@dataclass
class Timing:
    """Seconds of the repeats of one contestant, in order."""

    seconds: list[float]

    @property
    def least(self) -> float:
        """What other work on the machine disturbed least."""
        return min(self.seconds)


def alternating(calls: Mapping[str, Call], repeats: int, device: torch.device) -> dict[str, Timing]:
    """Time the calls in turn, `repeats` rounds after one that warms up, so that all share the
    machine's moods.
    """
    timings: dict[str, Timing] = {name: Timing([]) for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            wait_for(device)
            started = time.perf_counter()
            call()
            wait_for(device)
            if round_number:
                timings[name].seconds.append(time.perf_counter() - started)
    return timings


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(call: Call, device: torch.device) -> int:
    """Largest number of bytes of tensors that live at once during the call, above those that lived
    before it.

    Counted by torch's allocators, so scratch memory inside the mathematical libraries is left out.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        call()
    results = profiler.profiler.kineto_results
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]"
    )
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak


def floating_point_operations(call: Call) -> int:
    """Of the matrix products and convolutions of a call; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def matrix_product_peak(device: torch.device, dtype: torch.dtype, repeats: int = 8) -> float:
    """Operations per second of the fastest of several square matrix products: what the machine
    gives at best.
    """
    side = 8192 if device.type == "cuda" else 2048  # enough to fill the device
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    timing = alternating({"product": lambda: left @ right}, repeats, device)["product"]
    return 2 * side**3 / timing.least
