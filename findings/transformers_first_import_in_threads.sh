#!/usr/bin/env bash
#
# transformers 5.23.0: its first import is not safe in two threads: a name that is there is reported as missing.
#
# Expected: `from transformers import PreTrainedConfig` works in any thread, as Python locks each module while it is imported.
# Instead: where another thread imports something else of transformers at that moment, it raises
#   `ImportError: cannot import name 'PreTrainedConfig' from 'transformers'` in about every second process (5 of 8 measured, torch
#   imported before). The modules import each other in circles; Python breaks the deadlock of two threads by handing out a module
#   that is not finished, and the lazy top of transformers turns the missing name into an ImportError.
# Your server: a demo or service whose first two requests both reach transformers fails one of them, and never again afterwards.
# What to do: import what you use of transformers in the main thread, before any thread starts.
#
# Exit code: 0 while this is so, 1 if it was not seen in 30 processes, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6" "pillow" || exit 2
cat > threads.py <<'EOF'
import sys
from threading import Barrier, Thread

import torch

lines = [
    "import transformers",
    "from transformers import PreTrainedConfig",
    "from transformers import ImageSegmentationPipeline",
]
start, failed = Barrier(len(lines)), []


def run(line):
    start.wait()
    try:
        exec(line)
    except ImportError as error:
        failed.append(f"{line}: {error}".split(" (")[0])


threads = [Thread(target=run, args=[line]) for line in lines]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for line in lines:
    exec(line)  # all of them work now, in the main thread
print("\n".join(failed) or "no failure")
sys.exit(bool(failed))
EOF
venv/bin/python -c 'from importlib.metadata import version; print("transformers", version("transformers"))'
for process in $(seq 30); do
    venv/bin/python threads.py > said.txt 2>&1
    if [ $? -eq 1 ] && grep -q "cannot import name" said.txt; then
        echo "process $process:" && cat said.txt && echo "as stated"
        exit 0
    fi
done
echo "CHANGED: 30 processes without a failure"
exit 1
