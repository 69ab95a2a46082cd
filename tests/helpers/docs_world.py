"""A folder that holds what the pages take for granted: photographs, small datasets in the right
places, checkpoints.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset, Image
from PIL import Image as Pillow
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from dataseg_hf.data.catalog import COCO_PANOPTIC
from helpers.annotation_files import rgb_of, save, write_json
from helpers.benchmark_files import write_ade20k, write_objects365
from helpers.docs_blocks import blocks
from helpers.drawings import IMAGES_OF_SAMPLE, lay_sample
from helpers.paths import ROOT
from helpers.tiny_teachers import save_segformer, save_yolos
from helpers.tiny_towers import save_clip

REPOSITORY = ("benchmarks", "checkpoints", "examples", "experiments", "spaces", "src", "tests")
"""Folders of the checkout that lines name."""
DATA = "data"
"""The folder that settings call ${DATA}."""
TINY_RUN: Mapping[str, Any] = {
    "output_dir": "outputs/mine",
    "num_threads": 1,
    "text_encoder": {"kind": "hashed_ngrams", "dim": 32},
    "model": {
        "backbone_config": {
            "model_type": "convnext",
            "hidden_sizes": [8, 8, 16],
            "depths": [1, 1, 1],
            "num_stages": 3,
            "patch_size": 2,
            "out_features": ["stage1", "stage2", "stage3"],
        },
        "hidden_dim": 16,
        "mask_dim": 8,
        "encoder_layers": 1,
        "encoder_feedforward_dim": 16,
        "decoder_layers": 2,
        "dim_feedforward": 16,
        "num_attention_heads": 2,
        "num_queries": 8,
    },
}
"""Settings of a run that a page's own leave to the reader."""


def make_world(folder: Path) -> None:
    """Everything but the trained model, which `make cotrain` makes there."""
    for name in REPOSITORY:
        (folder / name).symlink_to(ROOT / name)
    make_files(folder)


def make_files(folder: Path) -> None:
    """What a reader of the pages has without a clone."""
    _photographs(folder)
    _coco(folder / DATA)
    _street_scenes(folder / DATA)
    _boxes(folder / DATA / "vehicles", ["car", "delivery van", "traffic cone"])
    _boxes(folder / DATA / "warehouse", ["forklift", "pallet"])
    _thermal(folder / DATA / "thermal")
    _open_images(folder / DATA / "open_images")
    for tool in IMAGES_OF_SAMPLE:
        lay_sample(tool, folder / DATA)
    _rows_of_the_hub(folder / "org" / "dataset")
    write_objects365(folder / "objects365")
    write_ade20k(folder / "ade20k")
    # a folder stands for the repository of the Hub that has its name
    save_segformer(folder / "nvidia" / "segformer-b0-finetuned-ade-512-512")
    save_yolos(folder / "hustvl" / "yolos-tiny")
    _mask2former(folder / "facebook" / "mask2former-swin-tiny-coco-panoptic")
    save_clip(folder / "openai" / "clip-vit-large-patch14")
    (block,) = [block for block in blocks("README.md") if block.language == "yaml"]
    (folder / "my.yaml").write_text(settings(block.text))
    if "DATASEG_DATA" in os.environ:
        (folder / "bdd_sem_seg").symlink_to(
            Path(os.environ["DATASEG_DATA"]) / "metric_fixtures/bdd_sem_seg"
        )


def settings(text: str) -> str:
    """The settings of a page, completed to those of a small run."""
    given = yaml.safe_load(text)
    completed = {
        **TINY_RUN,
        "datasets": {"shapes_panoptic": {"spec": "shapes_panoptic", "reader": "shapes"}},
        **given,
    }
    if "mask2former_weights" in given:
        completed["model"] = given.get("model", {})  # the checkpoint brings its own
    return yaml.safe_dump(completed, sort_keys=False)


def use_exports(folder: Path, task: str) -> None:
    """Lay a set's exported truth and predictions of a task where the pages have anyone's."""
    exported = folder / "outputs/shapes_scores/exports/shapes_panoptic" / task
    places = {
        "gt.json": "truth.json",
        "gt": "truth",
        "pred.json": "predictions.json",
        "pred": "predictions",
        "results.json": "predictions.json",
    }
    for place, name in places.items():
        (folder / place).unlink(missing_ok=True)
        (folder / place).symlink_to(exported / name)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _photographs(folder: Path) -> None:
    for name, size in {
        "photo.png": (50, 90),
        "photo.jpg": (50, 90),
        "folder/one.png": (40, 40),
    }.items():
        save(folder / name, noise(*size))
    save(folder / "aerial.tif", noise(100, 150))  # larger than the model's images


def _coco(folder: Path) -> None:
    """One image: a person on grass."""
    ids = np.full((48, 64), 2)
    ids[10:30, 20:40] = 1
    save(folder / "train2017/000000000009.jpg", noise(48, 64))
    save(folder / "panoptic_train2017/000000000009.png", rgb_of(ids))
    images = [{"id": 9, "file_name": "000000000009.jpg", "height": 48, "width": 64}]
    infos = [
        {"id": 1, "category_id": 1, "iscrowd": 0, "area": 400, "bbox": [20, 10, 20, 20]},
        {"id": 2, "category_id": 193, "iscrowd": 0, "area": 2672, "bbox": [0, 0, 64, 48]},
    ]
    annotations = [{"image_id": 9, "file_name": "000000000009.png", "segments_info": infos}]
    write_json(
        folder / "panoptic_train2017.json",
        {"images": images, "annotations": annotations, "categories": []},
    )


def _street_scenes(folder: Path) -> None:
    """One image with the page's ids: road, building, car, void."""
    ids = np.repeat(np.array([[7, 11, 12, 0], [26, 7, 255, 0]], np.uint8), 16, axis=0)
    save(folder / "streets/images/a.jpg", noise(32, 4))
    save(folder / "streets/labels/a_ids.png", ids)


def _boxes(folder: Path, categories: Sequence[str]) -> None:
    """One image with a box of each category, numbered from 1, and the json beside the folder."""
    save(folder / "b.jpg", noise(40, 60))
    annotations = [
        {
            "id": k,
            "image_id": 5,
            "category_id": k,
            "bbox": [8 * k, 4, 12, 20],
            "iscrowd": 0,
            "area": 240,
        }
        for k in range(1, len(categories) + 1)
    ]
    images = [{"id": 5, "file_name": "b.jpg", "height": 40, "width": 60}]
    named = [{"id": k, "name": name} for k, name in enumerate(categories, start=1)]
    content = {"images": images, "annotations": annotations, "categories": named}
    write_json(folder.with_suffix(".json"), content)


def _thermal(folder: Path) -> None:
    """One image of 16 bits in the format of YOLO, with a person."""
    save(folder / "images/c.tiff", (noise(40, 60)[..., 0] * np.uint16(20) + 6000).astype(np.uint16))
    (folder / "labels").mkdir()
    (folder / "labels/c.txt").write_text("0 0.5 0.5 0.2 0.4\n")


def _rows_of_the_hub(folder: Path) -> None:
    """Two rows of image and label: sky above trees, a pixel unlabeled."""
    labels = np.ones((8, 8), np.uint8)
    labels[4:], labels[0, 0] = 2, 0
    rows = {"image": [_png(noise(8, 8))] * 2, "label": [_png(labels)] * 2}
    table = Dataset.from_dict(rows).cast_column("image", Image()).cast_column("label", Image())
    folder.mkdir(parents=True)
    table.to_parquet(folder / "train-00000-of-00001.parquet")


def _png(array: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _mask2former(folder: Path) -> None:
    """A small Mask2Former of random weights with COCO's names."""
    torch.manual_seed(0)
    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    labels = COCO_PANOPTIC.labels
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        hidden_dim=32,
        mask_feature_size=32,
        encoder_layers=1,
        encoder_feedforward_dim=32,
        decoder_layers=3,
        dim_feedforward=32,
        num_attention_heads=2,
        num_queries=8,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)


def _open_images(folder: Path) -> None:
    """A cat's box, and that no dog is in the image."""
    (folder / "train").mkdir(parents=True)
    save(folder / "train/one.png", noise(48, 64))
    files = {
        "train-annotations-bbox.csv": (
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
            "IsGroupOf,IsDepiction,IsInside\none,xclick,/m/01yrx,1,0.25,0.5,0.25,0.75,0,0,0,0,0\n"
        ),
        "train-annotations-human-imagelabels-boxable.csv": (
            "ImageID,Source,LabelName,Confidence\none,verification,/m/01yrx,1\n"
            "one,verification,/m/0bt9lr,0\n"
        ),
        "class-descriptions-boxable.csv": "/m/01yrx,Cat\n/m/0bt9lr,Dog\n/m/01g317,Person\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
