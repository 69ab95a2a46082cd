"""What the tests' processes are forked from is warm, and not warmer than the tests say."""

import os
from pathlib import Path

import pytest

from helpers import warm_python
from helpers.run_programs import environment, script

pytestmark = pytest.mark.slow

COUNT_IMPORTS = """
import runpy, sys
before = set(sys.modules)
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code
new = sorted(name for name in set(sys.modules) - before if name.startswith(("dataseg", "transf", "torch")))
print("imported:", *new)
"""
ALL_BUT = """
import sys
assert "torch" in sys.modules
assert "transformers" not in sys.modules and "dataseg_hf" not in sys.modules
from huggingface_hub import constants
print(constants.HF_HOME, constants.HF_HUB_OFFLINE)
"""


def test_a_run_imports_next_to_nothing(tmp_path: Path) -> None:
    """Else each of a hundred runs imports it again, which takes longer than to train."""
    (tmp_path / "count.py").write_text(COUNT_IMPORTS)
    run = script(tmp_path / "out" / "run", "--max_steps", "1")
    done = warm_python.run([str(tmp_path / "count.py"), *run], environment())
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert len(line.split()) < 10, line


@pytest.mark.parametrize("offline", ["0", "1"])
def test_code_finds_what_transformers_needs_and_the_variables_of_its_own(offline: str) -> None:
    variables = {**os.environ, "HF_HOME": "/somewhere", "HF_HUB_OFFLINE": offline}
    done = warm_python.run_code(ALL_BUT, variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["/somewhere", str(offline == "1")]
