#!/usr/bin/env bash
#
# accelerate 1.15.0: `load_state` of a checkpoint without this process's random states goes on, and says nothing.
#
# Expected: a checkpoint that lacks `random_states_0.pkl` (copied by halves, or of a run with fewer processes) is refused, or
#   a warning says that random numbers start anew.
# Instead: `load_state` returns; the reason is a message of level INFO, which is not shown by default.
# Your training: dropout, augmentation and sampling go on with other numbers than the run that was interrupted. A run on
#   more processes than before does so on every new one.
# What to do: look for the file of your rank before loading, and say so if it is not there.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "accelerate==1.15.0" "torch==2.13.0" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF' 2>stderr.txt
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

print("accelerate", version("accelerate"))
accelerator = Accelerator()
model = accelerator.prepare(torch.nn.Linear(2, 2))


def draw_after_loading():
    torch.manual_seed(1)  # as a new process begins
    accelerator.load_state("state")
    return round(torch.rand(1).item(), 6)


torch.manual_seed(7)
accelerator.save_state("state")
whole = draw_after_loading()
Path("state/random_states_0.pkl").unlink()
without = draw_after_loading()
torch.manual_seed(7)
saved = round(torch.rand(1).item(), 6)
torch.manual_seed(1)
anew = round(torch.rand(1).item(), 6)
said = Path("stderr.txt").read_text().strip()
print("next number of the saved run:         ", saved)
print("after loading the whole checkpoint:   ", whole)
print("after loading it without random states:", without, "which is that of a new process:", anew)
print("said on standard error:               ", repr(said))
as_stated = whole == saved and without == anew != saved and not said
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
