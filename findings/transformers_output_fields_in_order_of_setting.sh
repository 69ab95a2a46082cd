#!/usr/bin/env bash
#
# transformers 5.23.0: the fields of a model's output come in the order in which they were SET, not in that of the class.
#
# Expected: `outputs[0]` and `outputs.to_tuple()[0]` are the first field of the class, which is `loss` where there is one.
# Instead: a loss that is set on a finished output (`outputs.loss = ...`, the natural way to add one outside of
#   `forward`) becomes its LAST element. `outputs[0]` is then the logits, without a word.
# Your training: code that takes `outputs[0]` as the loss, as older scripts and wrappers do, minimizes the logits.
# What to do: build the output anew with the loss as an argument, or read `outputs.loss` by name.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF'
import sys
from importlib.metadata import version

import torch
from transformers.modeling_outputs import SemanticSegmenterOutput

print("transformers", version("transformers"))
logits, loss = torch.zeros(1, 3, 4, 4), torch.tensor(5.0)
together = SemanticSegmenterOutput(loss=loss, logits=logits)
later = SemanticSegmenterOutput(logits=logits)
later.loss = loss
print("fields of the class:   ", list(SemanticSegmenterOutput.__dataclass_fields__))
print("loss given with logits:", list(together), "-> outputs[0] has shape", tuple(together[0].shape))
print("loss set afterwards:   ", list(later), "-> outputs[0] has shape", tuple(later[0].shape))
as_stated = (
    list(together) == ["loss", "logits"]
    and list(later) == ["logits", "loss"]
    and later[0] is logits
    and later.to_tuple()[0] is logits
)
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
