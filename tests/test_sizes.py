"""Functions that are read at a glance, and files that are read in one sitting."""

import ast
from pathlib import Path

import numpy as np

from helpers.paths import ROOT

FILES = sorted((ROOT / "src" / "dataseg_hf").rglob("*.py"))
MAX_LINES_OF_FUNCTION = 80
MAX_LINES_OF_NINE_IN_TEN = 25
MAX_LINES_OF_FILE = 450


def functions(file: Path) -> dict[str, int]:
    """Lines of each function of a file, docstring included, by its place."""
    return {
        f"{file.name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_are_short() -> None:
    lines = {place: count for file in FILES for place, count in functions(file).items()}
    assert len(lines) > 1000
    assert {p: n for p, n in lines.items() if n > MAX_LINES_OF_FUNCTION} == {}
    assert np.quantile(list(lines.values()), 0.9) <= MAX_LINES_OF_NINE_IN_TEN


def test_files_are_short() -> None:
    lines = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {f: n for f, n in lines.items() if n > MAX_LINES_OF_FILE} == {}
