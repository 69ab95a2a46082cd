#!/usr/bin/env bash
#
# torch 2.13.0: workers that torchrun starts again try to connect to the addresses of the dead ones (gloo).
#
# Expected: with `--max-restarts`, a worker that dies costs one restart, and the next attempt trains.
# Instead: all attempts share one store, in which gloo's addresses of the attempt before still stand. Whoever comes first
#   reads the old address of the other and is refused ("Connection refused"), and that attempt fails, too. It goes on so until
#   two workers come within the same moment, or no restart is left. A comment in `rendezvous.py` says that each retry
#   has a store of its own.
# Your training: one lost worker uses up several restarts, or ends the run.
# What to do: `export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`; then each attempt makes its own store.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "torch==2.13.0" "numpy==2.4.6" || exit 2
cat > worker.py <<'EOF'
import os
import signal
import time

import torch
import torch.distributed as dist

attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
time.sleep(rank)  # one of two processes is always later
dist.init_process_group("gloo")
with open(os.environ["LOG"], "a") as log:
    log.write(f"{attempt} {rank}\n")
for _ in range(3):
    dist.all_reduce(torch.ones(1))
if attempt == 0 and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
dist.barrier()
dist.destroy_process_group()
EOF
joined() {  # the attempts in which both workers found each other, and torchrun's exit code
    LOG=$1.txt timeout 240 venv/bin/python -m torch.distributed.run --standalone --nproc_per_node 2 --max-restarts 2 worker.py >"$1.log" 2>&1
    local code=$?
    echo "attempts with both workers: $(cut -d' ' -f1 "$1.txt" | sort | uniq -d | tr '\n' ' ')exit code: $code refused: $(grep -q 'Connection refused' "$1.log" && echo yes || echo no)"
}
venv/bin/python -c "import torch; print('torch', torch.__version__)"
shared=$(joined shared)
own=$(TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 joined own)
echo "one store for all attempts: $shared"
echo "a store for each attempt:   $own"
if [ "$shared" = "attempts with both workers: 0 exit code: 1 refused: yes" ] &&
    [ "$own" = "attempts with both workers: 0 1 exit code: 0 refused: no" ]; then
    echo "as stated"
else
    echo "CHANGED"
    exit 1
fi
