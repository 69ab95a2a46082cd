"""The floor of coverage only rises."""

import re
import subprocess

import pytest

from helpers.paths import ROOT

FILE = "pyproject.toml"
FLOOR = r"fail_under = (\d+(?:\.\d+)?)"


def test_the_floor_is_no_lower_than_any_earlier_one() -> None:
    """In a clone without history there is nothing to compare."""
    command = ["git", "log", "-p", "--format=", "--", FILE]
    history = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if history.returncode != 0:
        pytest.skip("not a git repository")
    (floor,) = re.findall(f"^{FLOOR}$", (ROOT / FILE).read_text(), re.MULTILINE)
    assert float(floor) >= max(
        map(float, re.findall(rf"^\+{FLOOR}$", history.stdout, re.MULTILINE)), default=0
    )
