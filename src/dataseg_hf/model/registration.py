"""Registration with transformers: what makes `AutoModel.from_pretrained` and `pipeline` know
DaTaSeg.

Importing torch and transformers takes seconds, which `import dataseg_hf` does not spend: it calls
`register_with_transformers`, and registration follows at the end of the first import that brings
transformers in, whoever makes it.
"""

import sys
import threading
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_OWN_MODULES = f"{__package__}."


def register() -> None:
    """Make the Auto classes and `pipeline` know DaTaSeg. Repeating it does no harm."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageSegmentation,
        AutoModelForUniversalSegmentation,
    )

    from .configuration_dataseg import DaTaSegConfig
    from .image_processing_dataseg import DaTaSegImageProcessor
    from .modeling_dataseg import DaTaSegModel
    from .registered_pipelines import register_pipelines

    AutoConfig.register(DaTaSegConfig.model_type, DaTaSegConfig, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForUniversalSegmentation, AutoModelForImageSegmentation):
        auto_class.register(DaTaSegConfig, DaTaSegModel, exist_ok=True)
    AutoImageProcessor.register(
        DaTaSegConfig, image_processor_classes={"pil": DaTaSegImageProcessor}, exist_ok=True
    )
    DaTaSegConfig.register_for_auto_class()
    DaTaSegModel.register_for_auto_class("AutoModel")
    DaTaSegImageProcessor.register_for_auto_class()
    register_pipelines()


def register_with_transformers() -> None:
    """Register now if transformers is imported, else once it is."""
    if sys.modules.get("transformers") is not None:
        register()
    elif not any(isinstance(finder, _ImportWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportWatcher())


class _ImportWatcher(MetaPathFinder):
    """Registers DaTaSeg at the end of the import that brings transformers in, then withdraws.

    Modules of this room import transformers themselves, so their imports are watched too:
    registration needs them whole, and waits for the outermost import to end.
    """

    def __init__(self) -> None:
        self._running = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that reports when the module is there."""
        if name != "transformers" and not name.startswith(_OWN_MODULES):
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec

    def execute(self, loader: Loader, module: ModuleType) -> None:
        """Execute a module; register if that was the outermost import."""
        depth = getattr(self._running, "depth", 0)
        self._running.depth = depth + 1
        try:
            loader.exec_module(module)
        finally:
            self._running.depth = depth
        if depth == 0 and self in sys.meta_path and sys.modules.get("transformers"):
            self._register()

    def _register(self) -> None:
        self._running.depth = 1  # registering imports more of this room
        try:
            register()
            sys.meta_path.remove(self)
        except Exception as error:  # an import of transformers must not fail because of DaTaSeg
            warnings.warn(f"DaTaSeg is not registered with transformers: {error}", stacklevel=2)
        finally:
            self._running.depth = 0


class _WatchedLoader(Loader):
    """Stands in for a loader until its module is executed."""

    def __init__(self, loader: Loader, watcher: _ImportWatcher) -> None:
        self._loader, self._watcher = loader, watcher

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own loader back, then execute it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._watcher.execute(self._loader, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
