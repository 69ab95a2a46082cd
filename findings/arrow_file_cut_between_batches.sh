#!/usr/bin/env bash
#
# datasets 5.2.0, pyarrow 26.0.1: an Arrow file that was cut between two of its batches is read as a smaller dataset.
#
# Expected: a file that lost its end (an interrupted copy, a full disk) is refused, as one that is cut within a batch is.
# Instead: a stream needs no end marker to be read, so `Dataset.from_file` and `load_from_disk` give the batches that are
#   there. The number of rows that `dataset_info.json` states is not compared.
# Your training: images are missing without a word; a resumed run draws others than before.
# What to do: look for the end marker (the last 8 bytes are FF FF FF FF 00 00 00 00), or compare `len(dataset)` with
#   `dataset.info.splits`, or keep checksums.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_DATASETS_OFFLINE=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
export HF_HOME="$work/home"
python3 -m venv venv || exit 2
venv/bin/pip install -q "datasets==5.2.0" "pyarrow==26.0.1" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF'
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, load_from_disk

print("datasets", version("datasets"), "pyarrow", version("pyarrow"))
rows = [{"image": f"{number}.jpg", "label": number % 7} for number in range(3000)]
Dataset.from_list(rows).save_to_disk("saved")
(file,) = Path("saved").glob("*.arrow")

# the same rows in three batches, as a writer of many rows makes them
table = pa.ipc.open_stream(file.read_bytes()).read_all().combine_chunks()
ends = []
with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
    for batch in table.to_batches(max_chunksize=1000):
        writer.write_batch(batch)
        ends.append(sink.tell())
whole = file.read_bytes()


def read(content):
    file.write_bytes(content)
    try:
        return len(load_from_disk("saved")), len(Dataset.from_file(str(file)))
    except Exception as error:
        return type(error).__name__


complete, between, within = read(whole), read(whole[: ends[1]]), read(whole[: ends[1] - 100])
print("whole file:                 ", complete)
print("cut between two batches:    ", between)
print("cut within a batch:         ", within)
print("end marker of the whole one:", whole[-8:].hex(" "))
as_stated = (
    complete == (3000, 3000)
    and between == (2000, 2000)
    and isinstance(within, str)
    and whole.endswith(b"\xff\xff\xff\xff\0\0\0\0")
)
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
