"""What the runs on photographs need beside the repository."""

import os
from pathlib import Path

from benchmarks.photos.convert_mobilenet_v2 import convert
from experiments.claims.runner import ROOT

BACKBONE = "backbone_mobilenet_v2/mobilenet_v2_1.0_224_uint8_weights.npz"


def photographs_at_hand() -> bool:
    """Whether `DATASEG_DATA` is set; then the backbone is there in torch's format, converted where
    it was not.
    """
    data = os.environ.get("DATASEG_DATA")
    if data is None:
        return False
    output = ROOT / "outputs/mobilenet_v2"
    if not (output / "model.safetensors").exists():
        convert(Path(data) / BACKBONE, output)
    return True
