"""The demo's work is guarded where it is done: one request at a time, so many that wait."""

import importlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.example_scripts import demo_app

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def turns() -> Any:
    demo_app()  # makes its modules known
    return importlib.import_module("demo_turns")


def test_one_works_some_wait_and_the_others_are_refused_at_once(turns: Any) -> None:
    guard = turns.Turns(waiting=2, seconds=60)
    working: list[int] = []
    most: list[int] = []
    refused: list[str] = []
    begun = threading.Barrier(12)

    def request() -> None:
        begun.wait()
        try:
            with guard.turn():
                working.append(1)
                most.append(len(working))
                time.sleep(0.2)
                working.pop()
        except turns.InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=request) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert refused == [turns.BUSY] * 9
    with guard.turn():
        pass  # free again


def test_nobody_waits_longer_than_stated(turns: Any) -> None:
    guard = turns.Turns(waiting=2, seconds=0.05)
    refused: list[str] = []

    def wait() -> None:
        try:
            with guard.turn():
                pass
        except turns.InputError as error:
            refused.append(str(error))

    with guard.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert refused == [turns.BUSY]


@pytest.mark.parametrize(("most", "most_bytes"), [(2, 100), (100, 25)])
def test_the_newest_files_are_kept_and_the_upload_in_use(
    turns: Any, tmp_path: Path, most: int, most_bytes: int
) -> None:
    keep_newest = importlib.import_module("demo_kept").keep_newest
    for number in range(6):
        file = tmp_path / str(number) / "image.png"
        file.parent.mkdir()
        file.write_text("x" * 10)
        os.utime(file, (number, number))
    keep_newest(tmp_path, most, most_bytes, but=(tmp_path / "1/image.png").resolve())
    assert sorted(file.parent.name for file in tmp_path.rglob("*.png")) == ["1", "4", "5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4", "5"]
