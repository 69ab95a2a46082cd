"""Imports all that a run needs; `helpers.warm_python` forks from a process that has done so.

The commands import little before they have read their options, so importing them is not enough.
"""

import pkgutil
from importlib import import_module

import hotcoco  # noqa: F401
import scipy.io  # noqa: F401
import transformers.models.convnext.modeling_convnext
import transformers.trainer  # noqa: F401

import dataseg_hf

for module in pkgutil.walk_packages(dataseg_hf.__path__, "dataseg_hf."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
