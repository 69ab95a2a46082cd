"""The demo under load: every request is answered or refused, and nothing grows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.paths import ROOT
from helpers.thoroughness import HOSTILE

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOSTILE, reason="takes minutes: make hostile runs it"),
]
GROWTH = 0.05
MISTAKES = 0.2  # of the requests


def test_200_requests_of_8_clients(tmp_path: Path) -> None:
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path / "model")
    command = [sys.executable, "-m", "benchmarks.space_load", "--model", str(tmp_path / "model")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{") :])
    print(json.dumps(found, indent=1))
    assert found["answered"] == round((1 - MISTAKES) * found["requests"])
    assert found["memory_growth"] <= GROWTH
    assert found["files_growth"] <= GROWTH
