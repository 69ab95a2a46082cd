"""SIGTERM, SIGINT and SIGHUP (the terminal was closed) as a request to stop at a safe place."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from ..ending import SIGHUP, stopping_signals


class StopRequested(Exception):  # noqa: N818 - a request, not an error
    """A signal asked the run to stop, and its state is saved.

    Args:
        number: of the signal.
        step: steps done.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.number, self.step = number, step


class StopSignals:
    """While entered, the signals are noted instead of ending the process; a second SIGINT
    interrupts at once.

    received: the signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> "StopSignals":
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        self._before = {number: signal.signal(number, self._note) for number in stopping_signals()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if number == SIGHUP:
            self._leave_terminals()

    def _leave_terminals(self) -> None:
        """Write nowhere from now on: to a terminal that is gone, every line would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
