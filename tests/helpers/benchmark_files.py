"""Tiny files in the layouts of the published benchmarks: never the data itself."""

from pathlib import Path

import numpy as np

from helpers.annotation_files import rgb_of, save, write_json

SIDE = 64


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def write_objects365(folder: Path) -> None:
    """Two images as the authors' file lists them: polygons beside boxes, file names that begin with
    no folder.
    """
    images, annotations = [], []
    for number, (image_id, version) in enumerate([(215264, 1), (908726, 2)]):
        name = f"patch{4 + number}/objects365_v{version}_{image_id:08d}.jpg"
        save(folder / "val" / name, noise(number))
        images.append(
            {
                "id": image_id,
                "file_name": f"images/v{version}/{name}",
                "height": SIDE,
                "width": SIDE,
                "license": 5,
                "url": "",
            }
        )
        for place, (category, x, y, w, h) in enumerate(
            [(1, 4, 4, 20, 30), (93, 10, 10, 40, 40), (365, 50, 2, 8, 8)]
        ):
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {
                    "id": 10 * number + place + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [polygon],
                }
            )
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 366)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "o365_instance_seg_val.json", content)


def write_ade20k(folder: Path) -> None:
    """Two images as Mask2Former's preparation leaves them: ids are words, category ids one less
    than in the PNGs.
    """
    (folder / "ade20k_panoptic_val").mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2):
        name = f"ADE_val_{number:08d}"
        save(folder / f"images/validation/{name}.jpg", noise(number))
        ids = np.full((SIDE, SIDE), 7 + 256 * 300)  # wall
        # sky, two beds, void
        ids[:20], ids[30:50, 5:20], ids[30:50, 30:45], ids[60:] = 12, 500, 501, 0
        save(folder / f"ade20k_panoptic_val/{name}.png", rgb_of(ids))
        infos = [(7 + 256 * 300, 0), (12, 2), (500, 7), (501, 7)]
        images.append({"id": name, "file_name": f"{name}.jpg", "height": SIDE, "width": SIDE})
        annotations.append(
            {
                "image_id": name,
                "file_name": f"{name}.png",
                "segments_info": [
                    {
                        "id": i,
                        "category_id": c,
                        "iscrowd": 0,
                        "area": int((ids == i).sum()),
                        "bbox": [0, 0, 1, 1],
                    }
                    for i, c in infos
                ],
            }
        )
    categories = [{"id": number, "name": f"class {number}", "isthing": 0} for number in range(150)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "ade20k_panoptic_val.json", content)
