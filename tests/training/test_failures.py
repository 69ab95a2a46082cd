"""What a run says of images that could not be loaded."""

from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import pytest

from dataseg_hf.training.failures import data_failure


def cut_off() -> Any:
    """Receive from a process that is gone."""
    ours, theirs = Pipe()
    theirs.close()
    return ours.recv()


def reset_by_a_server() -> Any:
    raise ConnectionResetError("the server hung up")


def noticed_by_torch() -> Any:
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")


def fault_in_a_reader() -> Any:
    raise KeyError("Caught KeyError in DataLoader worker process 0.")


@pytest.mark.parametrize("died", [cut_off, noticed_by_torch])
def test_a_loading_process_that_died_is_said_to_have_died(died: Callable[[], Any]) -> None:
    with pytest.raises((EOFError, OSError, RuntimeError)) as failure:
        died()
    assert data_failure(failure.value).startswith("a loading process died")


@pytest.mark.parametrize("fault", [reset_by_a_server, fault_in_a_reader])
def test_what_a_reader_raises_is_the_readers_fault(fault: Callable[[], Any]) -> None:
    with pytest.raises((OSError, KeyError)) as failure:
        fault()
    assert "while loading images" in data_failure(failure.value)
    assert "mend the reader" in data_failure(failure.value)
