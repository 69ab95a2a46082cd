"""Imports what transformers imports, but not transformers; `helpers.warm_python` forks from a process
that has done so.
"""

import accelerate  # noqa: F401
import huggingface_hub.repocard
import huggingface_hub.serialization  # noqa: F401
import jinja2  # noqa: F401
import numpy as np  # noqa: F401
import PIL.Image  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.ndimage
import scipy.optimize  # noqa: F401
import tokenizers  # noqa: F401
import torch._dynamo
import torch.distributed.checkpoint
import torch.distributed.tensor
import torch.nn.attention.flex_attention  # noqa: F401
