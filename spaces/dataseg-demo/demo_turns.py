"""The work of the demo, one request at a time, however it comes: the queue of the page counts what
the page sends, but not calls of the app's functions and endpoints beside it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from demo_inputs import InputError

MAX_WAITING = 20
LONGEST_WAIT = 120.0  # seconds

BUSY = "Too many people are waiting just now. Try again in a minute."


class Turns:
    """One request at a time works; so many may wait, and no longer than so many seconds."""

    def __init__(self, waiting: int = MAX_WAITING, seconds: float = LONGEST_WAIT) -> None:
        self._places = threading.BoundedSemaphore(1 + waiting)
        self._work = threading.Lock()
        self._seconds = seconds

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the work to be free; InputError where that would take too long."""
        if not self._places.acquire(blocking=False):
            raise InputError("button", BUSY)
        try:
            if not self._work.acquire(timeout=self._seconds):
                raise InputError("button", BUSY)
            try:
                yield
            finally:
                self._work.release()
        finally:
            self._places.release()
