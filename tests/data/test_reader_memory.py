"""The readers of COCO's files in a process of their own: what they hold must not grow with the
JSON.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

from helpers.annotation_files import save

pytestmark = pytest.mark.slow

IMAGES_PER_MB = {"instances": 157, "panoptic": 970}
LIMIT = {"instances": 150, "panoptic": 200}
"""MB above what the smallest file takes. Instances are mapped from disk; of panoptic files the
segments of each image are held, about 3 MB per MB of JSON (COCO's own is 45 MB).
"""

READ = """
import re, sys
from pathlib import Path
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.sample import ClassInfo, DatasetSpec

kind, folder, annotation_file = sys.argv[1:]
spec = DatasetSpec("large", "instance" if kind == "instances" else "panoptic", (ClassInfo("cat", True),), {17: 0})
every_image = {"file_name_pattern": (".+", "a.png")}
if kind == "instances":
    data = read_coco_instances(spec, folder, annotation_file, **every_image)
else:
    data = read_coco_panoptic(spec, folder, folder, annotation_file, **every_image)
assert not data.problems, str(data.problems[0])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(len(data), int(peak) / 1024)
"""


def write_annotations(file: TextIO, kind: str, images: int) -> None:
    """A JSON of COCO's form, of 7 polygons of 60 points per image, or of 11 segments."""
    polygon = [round(i * 7.31 % 29, 2) for i in range(120)]
    left, top = min(polygon[0::2]), min(polygon[1::2])
    box = [left, top, max(polygon[0::2]) - left, max(polygon[1::2]) - top]
    instance = {
        "category_id": 17,
        "iscrowd": 0,
        "area": 9.5,
        "bbox": box,
        "segmentation": [polygon],
    }
    segments = [
        {"id": i * 7001, "category_id": 17, "iscrowd": 0, "bbox": [1, 2, 3, 4], "area": 33}
        for i in range(1, 12)
    ]
    listed = [
        {"id": i, "file_name": f"{i:012}.png", "height": 30, "width": 40} for i in range(images)
    ]
    file.write(f'{{"images": {json.dumps(listed)}, "annotations": [')
    for i in range(images):
        if kind == "instances":
            entries = [{"id": 7 * i + n, "image_id": i, **instance} for n in range(7)]
        else:
            entries = [{"image_id": i, "file_name": "a.png", "segments_info": segments}]
        file.write(("," if i else "") + json.dumps(entries)[1:-1])
    file.write("]}")


def peak_memory(kind: str, folder: Path, images: int) -> float:
    """In MB, of a process that reads a file of so many images."""
    path = folder / f"{images}.json"
    with path.open("w") as file:
        write_annotations(file, kind, images)
    command = [sys.executable, "-c", READ, kind, str(folder), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    read, peak = result.stdout.split()
    assert int(read) == images
    return float(peak)


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc"
)
@pytest.mark.parametrize("kind", IMAGES_PER_MB)
def test_memory_is_bounded(kind, tmp_path):
    save(tmp_path / "a.png", np.zeros((30, 40, 3), np.uint8))
    least = peak_memory(kind, tmp_path, 1)
    images = 50 * IMAGES_PER_MB[kind]
    most = peak_memory(kind, tmp_path, images)
    assert (tmp_path / f"{images}.json").stat().st_size > 48e6
    assert most - least < LIMIT[kind]
