#!/usr/bin/env bash
#
# accelerate 1.15.0: under torchrun on CPUs, each process that makes a `PartialState()` believes that it is alone.
#
# Expected: two processes of one launch are told so, as `Accelerator()` tells them, and `ACCELERATE_USE_CPU=true` means
#   the same to both.
# Instead: `PartialState()` has num_processes 1 and process_index 0 in each of them, with the variable or without; only
#   `PartialState(cpu=True)` and `Accelerator()` find the others. There is no warning.
# Your job: what "the main process" alone shall do, every process does: the same folder is written twice at once, the same
#   images are predicted twice, and `gather` returns one process's part.
# What to do: make an `Accelerator()` first, or pass `cpu=True` where there is no GPU.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
unset ACCELERATE_USE_CPU
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "accelerate==1.15.0" "torch==2.13.0" "numpy==2.4.6" || exit 2
cat > count.py <<'EOF'
import os
import sys
from pathlib import Path

from accelerate import Accelerator, PartialState

kind, folder = sys.argv[1:]
state = {"PartialState()": PartialState, "Accelerator()": Accelerator}.get(kind, lambda: PartialState(cpu=True))()
Path(folder, os.environ["RANK"]).write_text(f"{state.num_processes} {state.process_index}")
EOF
cat > compare.py <<'EOF'
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

print("accelerate", version("accelerate"))
TOLD_ALONE, TOLD_TWO = ["1 0", "1 0"], ["2 0", "2 1"]
expected = {
    ("PartialState()", False): TOLD_ALONE,
    ("PartialState()", True): TOLD_ALONE,
    ("PartialState(cpu=True)", False): TOLD_TWO,
    ("Accelerator()", True): TOLD_TWO,
}
found = {}
for kind, variable in expected:
    folder = mkdtemp(dir=".")
    environment = {**os.environ, **({"ACCELERATE_USE_CPU": "true"} if variable else {})}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*command, "count.py", kind, folder], env=environment, check=True, capture_output=True)
    found[kind, variable] = [Path(folder, rank).read_text() for rank in ("0", "1")]
    with_variable = "with" if variable else "without"
    print(f"{kind:<22} {with_variable:>7} ACCELERATE_USE_CPU: processes and own number {found[kind, variable]}")
sys.exit(0 if found == expected else 1)
EOF
venv/bin/python compare.py
