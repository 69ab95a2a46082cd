"""The demo under load: so many clients at once, valid requests and mistakes, what they wait, and
what the server's memory and temporary files grow by.

    python -m benchmarks.space_load --model outputs/shapes [--clients 8 --requests 200]

Growth is measured from the end of as many requests before. Prints one JSON object.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psutil
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from PIL import Image

APP = Path(__file__).resolve().parents[1] / "spaces" / "dataseg-demo" / "app.py"
STARTS_WITHIN = 180  # seconds
MEGABYTE = 2**20
MISTAKES = (
    {"words": ",,"},
    {"words": "x" * 5000},
    {"vocabulary": "no such one"},
    {"threshold": 7},
    {"task": "dreams"},
)


@contextmanager
def server(model: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The demo of a model, its temporary files in a folder; its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    used = {
        **os.environ,
        "DATASEG_MODEL": model,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    process = subprocess.Popen([sys.executable, str(APP)], env=used, stdout=subprocess.DEVNULL)
    try:
        address, started = f"http://127.0.0.1:{port}/", time.monotonic()
        while True:
            try:
                urlopen(address, timeout=5).close()
                break
            except (URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() - started > STARTS_WITHIN:
                    raise
                time.sleep(0.2)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def request(client: Client, number: int, folder: Path, vocabulary: str) -> tuple[float, str]:
    """Seconds of a request, and what came of it: "answered", or the first words of a refusal.

    Every fifth is a mistake. Each has a photograph of its own, as Gradio writes results of the same
    content into the same file.
    """
    photo = folder / f"{number}.png"
    pixels = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    given: dict[str, Any] = {"task": "panoptic", "vocabulary": vocabulary, "words": ""}
    given |= {"threshold": 0.05, "nms": 0.7}
    if number % 5 == 4:
        given |= MISTAKES[number // 5 % len(MISTAKES)]
    started = time.perf_counter()
    try:
        client.predict(handle_file(photo), *given.values(), api_name="/segment")
        outcome = "answered"
    except Exception as error:  # what a client sees of any refusal
        outcome = str(error)[:60]
    return time.perf_counter() - started, outcome


def measured(model: str, clients: int, requests: int) -> dict[str, Any]:
    """Twice so many requests; times, and growth over the second half."""
    config = json.loads((Path(model) / "config.json").read_text())
    vocabulary = config["default_vocabulary"]
    with tempfile.TemporaryDirectory() as temporary:
        folder, photos = Path(temporary) / "gradio", Path(temporary) / "photos"
        photos.mkdir()
        with server(model, folder) as (address, process):
            each = [Client(address, verbose=False) for _ in range(clients)]

            def batch(first: int) -> list[tuple[float, str]]:
                with ThreadPoolExecutor(clients) as pool:
                    return list(
                        pool.map(
                            lambda n: request(each[n % clients], n, photos, vocabulary),
                            range(first, first + requests),
                        )
                    )

            batch(0)
            before = process.memory_info().rss, size_of(folder)
            results = batch(requests)
            after = process.memory_info().rss, size_of(folder)
    seconds = [one for one, _ in results]
    outcomes = sorted({outcome for _, outcome in results})
    return {
        "clients": clients,
        "requests": requests,
        "answered": sum(outcome == "answered" for _, outcome in results),
        "outcomes": outcomes,
        "seconds_median": float(np.median(seconds)),
        "seconds_p95": float(np.percentile(seconds, 95)),
        "memory_mb": [one[0] / MEGABYTE for one in (before, after)],
        "memory_growth": after[0] / before[0] - 1,
        "files_mb": [one[1] / MEGABYTE for one in (before, after)],
        "files_growth": after[1] / before[1] - 1,
    }


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a checkpoint")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    print(json.dumps(measured(options.model, options.clients, options.requests), indent=1))


if __name__ == "__main__":
    main()
