"""The scripts of `examples/` as functions, and the demo as a module."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from helpers.paths import ROOT

EXAMPLES = ROOT / "examples"
DEMO = ROOT / "spaces" / "dataseg-demo"


def main_of(name: str) -> Callable[..., int]:
    """The `main` of `examples/{name}.py`."""
    return _module(f"example_{name}", EXAMPLES / f"{name}.py").main


def demo_app() -> ModuleType:
    """`spaces/dataseg-demo/app.py`, beside whose modules it runs."""
    if str(DEMO) not in sys.path:
        sys.path.append(str(DEMO))
    return _module("dataseg_demo", DEMO / "app.py")


def _module(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
