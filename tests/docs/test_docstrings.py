"""Docstrings of public functions say the shapes of their arrays and name the errors they raise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import ROOT

PACKAGE = ROOT / "src" / "dataseg_hf"
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|BoolArray|FloatArray|IntArray)\b")
SHAPE = re.compile(r"\[[^\]]*\]|\bscalar\b|\b\d-D\b")
"""`[B, N, h, w]`, or a number without a shape."""
HOLLOW = re.compile(r"^None\.?$|\blest\b|^Of \b", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
FILES = sorted(PACKAGE.rglob("*.py"))


def public_functions(file: Path) -> Iterator[tuple[Function, str]]:
    """Functions and methods without an underscore, each with the text that documents it: its own
    docstring and that of its class.
    """
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node, ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            about = ast.get_docstring(node) or ""
            for method in node.body:
                if isinstance(method, Function) and not method.name.startswith("_"):
                    yield method, f"{ast.get_docstring(method) or ''}\n{about}"


def takes_or_gives_arrays(function: Function) -> bool:
    """Whether an annotation of the signature names an array type."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    return any(ARRAYS.search(ast.unparse(node)) for node in annotations if node is not None)


def raised(function: Function) -> set[str]:
    """Names of the errors that the function's own body raises, re-raised ones aside."""
    inner = {
        child
        for node in ast.walk(function)
        if isinstance(node, Function | ast.Lambda) and node is not function
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and node not in inner and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).split(".")[-1])
    found = {name for name in found if name[:1].isupper()}  # others are functions that make errors
    return found - {"SystemExit", "NotImplementedError", "AssertionError", "StopIteration"}


def missing_shapes(file: Path) -> list[str]:
    return [
        function.name
        for function, text in public_functions(file)
        if takes_or_gives_arrays(function) and not SHAPE.search(text)
    ]


def missing_errors(file: Path) -> list[str]:
    return [
        f"{function.name}: {error}"
        for function, text in public_functions(file)
        for error in sorted(raised(function))
        if error not in text
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrays_have_shapes(file: Path) -> None:
    assert missing_shapes(file) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_errors_are_named(file: Path) -> None:
    assert missing_errors(file) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_docstrings_say_something(file: Path) -> None:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    documented = [n for n in nodes if isinstance(n, Function | ast.ClassDef | ast.Module)]
    texts = [ast.get_docstring(node) for node in documented]
    assert [text for text in texts if text and HOLLOW.search(text)] == []


def test_a_function_without_them_is_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "def mean(values: Tensor) -> float:\n"
        '    """The mean."""\n'
        "    if not len(values):\n"
        '        raise ValueError("empty")\n'
        "    return values.mean()\n"
    )
    assert missing_shapes(file) == ["mean"]
    assert missing_errors(file) == ["mean: ValueError"]
