"""A run of several processes that fails when its DDP wrapper outlives it into the end of the
process group.

python ends_whole.py CONFIG
"""

import gc
import sys

import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.training.run import run

destroy = torch.distributed.destroy_process_group
left: list[int] = []


def count_and_destroy(group: torch.distributed.ProcessGroup | None = None) -> None:
    """What Accelerate calls at the end."""
    # not `gc.collect()` first: cycles must have been collected by then
    left.append(sum(type(one) is DistributedDataParallel for one in gc.get_objects()))
    destroy(group)


torch.distributed.destroy_process_group = count_and_destroy
run(parse_run_config([], sys.argv[1]))
assert left == [0], left
