"""`import dataseg_hf` is quick, and the Auto classes know DaTaSeg whatever is imported first. Each
order needs a process of its own.
"""

import os
import pickle
import subprocess
import sys

import pytest

import dataseg_hf
from dataseg_hf import DaTaSegConfig
from helpers import warm_python

KNOWN = """
import sys
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from dataseg_hf import DaTaSegConfig, DaTaSegModel
assert type(AutoConfig.for_model("dataseg")) is DaTaSegConfig
assert AutoModel._model_mapping[DaTaSegConfig] is DaTaSegModel
assert "dataseg-segmentation" in PIPELINE_REGISTRY.supported_tasks
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("dataseg_hf")]
assert type(sys.modules["transformers"].__spec__.loader).__module__.startswith("_frozen_importlib")
"""
ORDERS = {
    "package first": "import dataseg_hf, transformers",
    "transformers first": "import transformers, dataseg_hf",
    "Auto classes first": "from transformers import AutoModel; import dataseg_hf",
    "a class of the package": "from dataseg_hf import DaTaSegModel",
    "a module of the model": "from dataseg_hf.model.modeling_dataseg import DaTaSegModel",
    "the pipeline's module": "import dataseg_hf.model.pipeline_dataseg",
    "a room above": "import dataseg_hf.sharing.checkpoint",
    "image reading alone": "import dataseg_hf.model.image_reading_dataseg, transformers",
    "looked for, not imported": """
import dataseg_hf
from importlib.util import find_spec
assert find_spec("transformers") and find_spec("dataseg_hf.model.modeling_dataseg")
assert "torch" not in sys.modules
import transformers
""",
}
COLD = ("looked for, not imported",)
"""Orders in which torch is part of what is proven."""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return warm_python.run_code(f"import sys\n{script}", os.environ)


def run_cold(script: str) -> subprocess.CompletedProcess[str]:
    """In a process that has not imported torch either."""
    command = [sys.executable, "-c", f"import sys\n{script}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_importing_the_package_or_its_metrics_needs_no_torch() -> None:
    done = run_cold("""
for name in ("torch", "transformers", "datasets"):
    sys.modules[name] = None  # importing it fails
import dataseg_hf
assert "DaTaSegModel" in dir(dataseg_hf)
from dataseg_hf.metrics import PanopticQuality
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_auto_classes_know_the_model_in_every_order_of_imports(order: str) -> None:
    done = (run_cold if order in COLD else run)(ORDERS[order] + KNOWN)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_transformers_imports_where_the_package_cannot_be_registered() -> None:
    done = run("""
import dataseg_hf
sys.modules["dataseg_hf.model.losses_dataseg"] = None  # stands for what is broken
import transformers
assert "bert" in transformers.models.auto.configuration_auto.CONFIG_MAPPING
try:
    dataseg_hf.DaTaSegModel
except ImportError as error:
    assert "losses_dataseg" in str(error)
else:
    raise AssertionError("imported")
""")
    assert done.returncode == 0, done.stderr
    assert "DaTaSeg is not registered with transformers" in done.stderr


@pytest.mark.slow
def test_pickles_open_in_a_process_that_has_imported_nothing() -> None:
    config = pickle.dumps(DaTaSegConfig(num_queries=7))
    done = run(f"import pickle\nassert pickle.loads({config!r}).num_queries == 7{KNOWN}")
    assert done.returncode == 0, done.stderr


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        AttributeError, match="module 'dataseg_hf' has no attribute 'DaTaSegModels'"
    ):
        dataseg_hf.DaTaSegModels  # noqa: B018
