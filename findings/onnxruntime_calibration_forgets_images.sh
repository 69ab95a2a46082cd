#!/usr/bin/env bash
#
# onnxruntime 1.32.0, onnx 1.23.2: a limit on the memory of calibration makes static quantization forget its images.
#
# Expected: `max_intermediate_outputs=N` (of `quantize_static`: CalibMaxIntermediateOutputs) bounds the memory: after every N
#   images their ranges are merged into those before, and all images count.
# Instead: after every N images what was collected is thrown away unread. Only the images after the last multiple of N count;
#   where their number is a multiple of N, none does, and the error says "No data is collected".
# Your 8-bit model: the ranges of its maps come from a few images, so others are cut off, and nothing says so.
# What to do: leave the option out and give the images in parts, `collect_data` for each: ranges of calls are merged.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "onnxruntime==1.32.0" "onnx==1.23.2" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF'
import sys
from importlib.metadata import version

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

print("onnxruntime", version("onnxruntime"), "onnx", version("onnx"))
given = helper.make_tensor_value_info("given", TensorProto.FLOAT, [1, 4])
made = helper.make_tensor_value_info("made", TensorProto.FLOAT, [1, 4])
weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
node = helper.make_node("MatMul", ["given", "weight"], ["made"])
graph = helper.make_graph([node], "graph", [given], [made], [weight])
opset = helper.make_opsetid("", 17)
onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), "model.onnx")


class Images(CalibrationDataReader):
    """Eight 'images', of the values 1 to 8."""

    def __init__(self, first=1, last=8):
        self.images = iter(range(first, last + 1))

    def get_next(self):
        value = next(self.images, None)
        return None if value is None else {"given": np.full((1, 4), value, np.float32)}


def seen(limit, *parts):
    options = {} if limit is None else {"max_intermediate_outputs": limit}
    calibrator = create_calibrator(
        "model.onnx", None, augmented_model_path="augmented.onnx",
        calibrate_method=CalibrationMethod.MinMax, extra_options=options,
    )
    try:
        for part in parts:
            calibrator.collect_data(part)
    except ValueError as error:
        return str(error)
    low, high = calibrator.compute_data().data["given"].range_value
    return float(np.ravel(low)[0]), float(np.ravel(high)[0])


found = {
    "no limit": seen(None, Images()),
    "at most 3 at once": seen(3, Images()),
    "at most 4 at once": seen(4, Images()),
    "in two parts": seen(None, Images(1, 4), Images(5, 8)),
}
for name, value in found.items():
    print(f"{name}: {value}")
expected = {
    "no limit": (1.0, 8.0),
    "at most 3 at once": (7.0, 8.0),
    "at most 4 at once": "No data is collected.",
    "in two parts": (1.0, 8.0),
}
sys.exit(found != expected)
EOF
