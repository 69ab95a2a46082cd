"""Signals that end a command as `sys.exit` does: what it has is written, temporary folders go."""

import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows


def stopping_signals() -> list[int]:
    """The signals that ask to stop. Under nohup, SIGHUP (the terminal was closed) is ignored and
    stays so.
    """
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    if SIGHUP is not None and signal.getsignal(SIGHUP) != signal.SIG_IGN:
        numbers.append(SIGHUP)
    return numbers


class EndingSignals:
    """While entered, SIGTERM and SIGHUP raise SystemExit; SIGINT raises KeyboardInterrupt anyway.

    For the main thread alone, as only it may say what a signal does; elsewhere nothing happens.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "EndingSignals":
        ending = [number for number in stopping_signals() if number != signal.SIGINT]
        with suppress(ValueError):  # not the main thread
            self._before = {number: signal.signal(number, _end) for number in ending}
        return self

    def __exit__(self, *ending: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # what shells give a process that a signal ended
