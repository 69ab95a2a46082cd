"""The folder of a finished run, made without training, with all that a run leaves."""

import json
from pathlib import Path
from typing import Any

import yaml

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

HIDDEN = "secret-folder"  # what a run knows of the machine and nobody else should
RUN_CONFIG: dict[str, Any] = {
    "output_dir": f"/{HIDDEN}/out",
    "datasets": {
        "scene": {"spec": "coco_panoptic", "images": f"/{HIDDEN}/images", "image_size": 64},
        "pets": {
            "spec": {"task": "boxes", "name": "my pets", "homepage": "javascript:alert(1)"},
            "image_size": 96,
        },
    },
    "evaluation": {
        "held_out": {
            "spec": "coco_panoptic",
            "images": f"/{HIDDEN}/val",
            "vocabulary": "scene",
            "image_size": 64,
        },
        "open": {"spec": "shapes_open", "vocabulary": None, "image_size": 96},
    },
    "max_steps": 30,
    "learning_rate": 0.002,
    "schedule": "cosine",
    "weight_decay": 0.02,
    "seed": 7,
}
MIX: list[dict[str, Any]] = [
    {
        "name": "scene",
        "task": "panoptic",
        "images": 2000,
        "classes": 4,
        "share": 0.75,
        "batch_size": 8,
        "passes_per_1000_steps": 3.0,
        "license": "CC BY 4.0",
    },
    {
        "name": "pets",
        "task": "boxes",
        "images": 20,
        "classes": 3,
        "share": 0.25,
        "batch_size": 4,
        "passes_per_1000_steps": 50.0,
        "license": "<b>mine</b> | only",
    },
]
RESULTS: dict[str, Any] = {
    "steps": 30,
    "train_seconds": 1.5,
    "parameters": 1500000,
    "held_out/pq": 0.123456,
    "held_out/pq_things": 0.5,
    "held_out/mask_ap_large": None,
    "open/miou": 0.25,
    "open/unknown_number": 0.9,
}
FACTS: dict[str, Any] = {
    "processes": 4,
    "device": "cuda",
    "device_name": "Example GPU 80GB",
    "precision": "bf16",
    "threads": 2,
    "platform": f"Linux-{HIDDEN}",
    "python": "3.12.1",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "dataseg_hf": "0.1.0",
    "started_from": [],
}


def write_run(folder: Path, **files: Any) -> Path:
    """Write the records of a run beside a model.

    Args:
        folder: that has the model, or only its `config.json`.
        files: other content for `run_config`, `mix`, `all_results` or `run`.
    """
    content = {"run_config": RUN_CONFIG, "mix": MIX, "all_results": RESULTS, "run": [FACTS]} | files
    (folder / "run_config.yaml").write_text(yaml.safe_dump(content.pop("run_config")))
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def finished_run(folder: Path) -> Path:
    """Fill a folder with a small random model, the records of a run, and what must stay there."""
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    write_run(folder)
    (folder / "history.csv").write_text("step\n")
    for name in ("pictures/a.png", "checkpoints/step-1/state/optimizer.bin", "notes.py", ".env"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not for everyone")
    return folder
