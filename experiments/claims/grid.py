"""The grid: every run of the experiments, as changes to one of two configurations (`shapes.yaml`,
`photos.yaml`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from dataseg_hf.data.catalog import CATALOG

HERE = Path(__file__).parent
World: TypeAlias = Literal["shapes", "photos"]
Settings: TypeAlias = dict[str, Any]

SEEDS = (0, 1, 2)
STEPS = {"shapes": 400, "photos": 400}
QUICK_STEPS = {"shapes": 24, "photos": 8}
QUICK_IMAGES = 8
DROP = "<drop>"
"""In the place of a value: take the key away."""


@dataclass(frozen=True)
class Run:
    """One configuration, trained once per seed.

    name: as in the tables. world: which base configuration. keep: entries of `datasets` that stay
        (all by default).
    share_of_steps: of the base's steps. settings: merged into the base. start: run whose final
    model it starts from.
    """

    name: str
    world: World = "shapes"
    keep: Sequence[str] | None = None
    share_of_steps: float = 1.0
    settings: Settings = field(default_factory=dict)
    start: str | None = None


def composed(
    run: Run, seed: int, output_dir: str, start: str | None = None, quick: bool = False
) -> Settings:
    """The settings of a run, as `examples/cotrain.py` takes them.

    start: folder of the model that `run.start` left. quick: a few steps and images, to see that all
        of it runs.
    """
    settings: Settings = yaml.safe_load((HERE / f"{run.world}.yaml").read_text())
    if run.keep is not None:
        settings["datasets"] = {name: settings["datasets"][name] for name in run.keep}
    settings = merged(settings, run.settings)
    steps = (QUICK_STEPS if quick else STEPS)[run.world]
    settings |= {
        "seed": seed,
        "output_dir": output_dir,
        "max_steps": max(1, round(run.share_of_steps * steps)),
    }
    if start is not None:
        settings |= {"model_weights": start, "model": {}}
    if quick:
        for entry in settings["evaluation"].values():
            entry["max_samples"] = QUICK_IMAGES
    return settings


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """The base with the changes in it, mapping by mapping."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value == DROP:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


# --- shapes ---------------------------------------------------------------------------------------

PANOPTIC, SEMANTIC, BOXES = "shapes_panoptic", "shapes_semantic", "shapes_boxes"
THIRD = 1 / 3
NO_AFFINITY: Settings = {"model": {"color_affinity_weight": 0.0}}
# every class of an image is one target, as in the paper, instead of each connected part of a thing
# class
WHOLE_CLASSES: Settings = {"datasets": {SEMANTIC: {"split_things": False}}}
MERGE: Settings = {"model": {"merge_in_training": True}}
# scenes of the same kind whose objects have masks, apart from those of training and of the held-out
# sets
FULL_MASKS: Settings = {"datasets": {BOXES: {"split": "eval", "count": 600, "seed": 1}}}
STORED_ONLY: Settings = {
    "evaluation": {
        **{name: {"vocabulary": name} for name in (PANOPTIC, SEMANTIC, BOXES)},
        "shapes_open": DROP,
    }
}
# by hand: the stuff of the semantic set under the words of the panoptic one
STUFF_BY_HAND = {
    "meadow grass": "grass field",
    "lake water": "rippled water",
    "sand": "sandy ground",
    "wall of bricks": "brick wall",
}


def semantic_images(count: int) -> Settings:
    """So many training images in the small set."""
    return {"datasets": {SEMANTIC: {"count": count}}}


def batches_of(size: int, *names: str) -> Settings:
    """Batches of so many images, of the named sets or of all."""
    return {
        "datasets": {name: {"batch_size": size} for name in names or (PANOPTIC, SEMANTIC, BOXES)}
    }


def corruptions(name: str, entry: Settings) -> Settings:
    """A held-out set once more for each kind of corruption and strength."""
    return {
        f"{name}_{kind}{strength}": {**entry, "corruption": {"kind": kind, "strength": strength}}
        for kind in ("noise", "blur", "contrast", "jpeg")
        for strength in (1, 2, 3)
    }


SHAPES_EVALUATION: Settings = yaml.safe_load((HERE / "shapes.yaml").read_text())["evaluation"]
CORRUPTED_SHAPES: Settings = {
    "evaluation": corruptions(
        PANOPTIC, {**SHAPES_EVALUATION[PANOPTIC], "count": 60, "metrics": ["pq"]}
    )
}


def shapes_runs() -> list[Run]:
    """All runs on the embedded world; `co` is what the others are compared with."""
    alone = {"panoptic": PANOPTIC, "semantic": SEMANTIC, "boxes": BOXES}
    return [
        Run("co", settings=CORRUPTED_SHAPES),
        # a: one dataset alone, for as many steps as the whole mix had, and for as many as it had in
        # the mix
        *(
            Run(
                f"alone_{short}", keep=[name], settings=CORRUPTED_SHAPES if name == PANOPTIC else {}
            )
            for short, name in alone.items()
        ),
        *(
            Run(f"alone_{short}_third", keep=[name], share_of_steps=THIRD)
            for short, name in alone.items()
        ),
        *(Run(f"co_{count}", settings=semantic_images(count)) for count in (16, 256)),
        *(
            Run(f"alone_semantic_{count}", keep=[SEMANTIC], settings=semantic_images(count))
            for count in (16, 256)
        ),
        *(
            Run(
                f"alone_semantic_{count}_third",
                keep=[SEMANTIC],
                share_of_steps=THIRD,
                settings=semantic_images(count),
            )
            for count in (16, 256)
        ),
        # b: what is shared
        Run(
            "own_classifiers",
            settings=merged(STORED_ONLY, {"model": {"dataset_classifiers": True}}),
        ),
        Run("own_decoders", settings=merged(STORED_ONLY, {"model": {"dataset_decoders": True}})),
        Run("class_numbers", settings={"text_encoder": {"kind": "hashed_names"}}),
        Run("merged_by_hand", settings=merged_label_space()),
        Run("every_dataset_in_a_step", settings=every_dataset_in_a_step(), share_of_steps=8 / 11),
        # c: boxes
        Run("co_no_affinity", settings=NO_AFFINITY),
        Run("alone_boxes_no_affinity", keep=[BOXES], settings=NO_AFFINITY),
        Run("co_masks", settings=FULL_MASKS),
        Run("alone_masks", keep=[BOXES], settings=FULL_MASKS),
        # d, g: the semantic set as the paper trains it, with and without MERGE in training
        Run("whole_classes", settings=WHOLE_CLASSES),
        Run("merge_whole_classes", settings=merged(WHOLE_CLASSES, MERGE)),
        Run("alone_semantic_whole", keep=[SEMANTIC], settings=WHOLE_CLASSES),
        Run("alone_semantic_whole_merge", keep=[SEMANTIC], settings=merged(WHOLE_CLASSES, MERGE)),
        # f: number of datasets, and their shares
        Run("two_panoptic_semantic", keep=[PANOPTIC, SEMANTIC]),
        Run("two_panoptic_boxes", keep=[PANOPTIC, BOXES]),
        Run("five", settings=five_datasets()),
        Run("by_size", settings=shares_by_size(1.0)),
        Run("temperature_3", settings=shares_by_size(3.0)),
        # g: MERGE in training (`co` has none)
        Run("merge_maximum", settings=MERGE),
        Run("merge_any_overlap", settings=merged(MERGE, {"model": {"merge_overlap": None}})),
        Run("merge_soft", settings=merged(MERGE, {"model": {"merge_reduction": "soft"}})),
        # k: the class head
        Run("no_mask_view", settings={"model": {"class_head_sees_mask": False}}),
        # where co-training loses on the large set, is it the length of training? Half of it for
        # both sides
        Run("co_half", share_of_steps=1 / 2),
        Run("alone_panoptic_half", keep=[PANOPTIC], share_of_steps=1 / 2),
        # remedies
        Run("more_panoptic", settings={"datasets": {PANOPTIC: {"ratio": 2}}}),
        Run("fewer_boxes", settings={"datasets": {PANOPTIC: {"ratio": 2}, SEMANTIC: {"ratio": 2}}}),
        Run(
            "wider", settings={"model": {"hidden_dim": 96, "mask_dim": 48, "dim_feedforward": 384}}
        ),
        Run("small_batches", share_of_steps=1.5, settings=batches_of(4)),
        Run(
            "alone_panoptic_small_batches",
            keep=[PANOPTIC],
            share_of_steps=1.5,
            settings=batches_of(4, PANOPTIC),
        ),
        Run("fine_tuned_panoptic", keep=[PANOPTIC], share_of_steps=THIRD, start="co"),
    ]


def merged_label_space() -> Settings:
    """Class numbers instead of text, the words of one set given to the other by hand."""
    by_hand = {"category_map": STUFF_BY_HAND}
    return {
        "text_encoder": {"kind": "hashed_names"},
        "datasets": {SEMANTIC: by_hand},
        "evaluation": {SEMANTIC: by_hand},
    }


def every_dataset_in_a_step() -> Settings:
    """Eleven images of all datasets in every step instead of eight of one; as many images in all,
    in fewer steps.
    """
    sizes = {PANOPTIC: 4, SEMANTIC: 3, BOXES: 4}
    return {
        "every_dataset_in_a_step": True,
        "datasets": {name: {"batch_size": size} for name, size in sizes.items()},
    }


def five_datasets() -> Settings:
    """Two more: objects with masks under the names of the boxes, and a panoptic set of 64 images
    under those of the semantic one.
    """
    common = {
        "reader": "shapes",
        "ratio": 1,
        "batch_size": 8,
        "image_size": 64,
        "keep_in_memory": True,
    }
    return {
        "datasets": {
            "shapes_masks": {
                "spec": "shapes_boxes",
                "split": "eval",
                "count": 600,
                "seed": 1,
                **common,
            },
            "shapes_fine": {
                "spec": "shapes_semantic",
                "split": "eval",
                "count": 64,
                "seed": 1,
                **common,
            },
        }
    }


def shares_by_size(temperature: float) -> Settings:
    """Shares in proportion to (number of images) ** (1 / temperature)."""
    ratios = {name: {"ratio": DROP} for name in (PANOPTIC, SEMANTIC, BOXES)}
    return {"size_temperature": temperature, "datasets": ratios}


# --- photographs ----------------------------------------------------------------------------------


# COCO's classes that VOC, ADE20K or Cityscapes call otherwise
SYNONYMS = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "television",
    "window": "windowpane",
    "pavement": "sidewalk",
    "dirt": "earth",
    "pillow": "cushion",
    "stairs": "stairway",
    "grass": "field",
    "tree": "vegetation",
}
PHOTOS: Settings = yaml.safe_load((HERE / "photos.yaml").read_text())
UNLABELLED: dict[str, str | None] = {
    name: None for name in CATALOG["coco_panoptic"].labels if name not in SYNONYMS
}
"""Every other class: these pixels count nowhere."""
COCO_TRUTH: Settings = {**PHOTOS["evaluation"]["coco_val"], "metrics": ["miou"]}
OTHER_WORDS: Settings = {
    "evaluation": {
        "coco_few": {**COCO_TRUTH, "category_map": UNLABELLED},
        "coco_few_other_words": {**COCO_TRUTH, "category_map": {**UNLABELLED, **SYNONYMS}},
        **corruptions("camvid_test", PHOTOS["evaluation"]["camvid_test"]),
    }
}


def photos_runs() -> list[Run]:
    """Real photographs: co-trained, separate, without boxes; text and class head; some under other
    words, too.
    """
    coco = ["coco_panoptic", "coco_semantic", "coco_boxes", "coco_instances"]
    no_text = {
        "text_encoder": {"kind": "hashed_ngrams", "dim": 512, "files": DROP},
        "model": {"initial_logit_scale": 10.0},
    }
    return [
        Run("photos_co", "photos", settings=OTHER_WORDS),
        Run("photos_alone_panoptic", "photos", keep=["coco_panoptic"]),
        Run("photos_alone_camvid", "photos", keep=["camvid"], settings=OTHER_WORDS),
        Run("photos_coco_only", "photos", keep=coco, settings=OTHER_WORDS),
        # as many steps as the set has in the mix: two and one of six parts
        Run("photos_alone_panoptic_share", "photos", keep=["coco_panoptic"], share_of_steps=2 / 6),
        Run("photos_alone_camvid_share", "photos", keep=["camvid"], share_of_steps=1 / 6),
        # a remedy for the street scenes: half of all steps
        Run("photos_more_camvid", "photos", settings={"datasets": {"camvid": {"ratio": 5}}}),
        Run(
            "photos_no_boxes",
            "photos",
            keep=["coco_panoptic", "coco_semantic", "camvid", "coco_instances"],
        ),
        Run("photos_hashed", "photos", settings=merged(OTHER_WORDS, no_text)),
        Run("photos_no_mask_view", "photos", settings={"model": {"class_head_sees_mask": False}}),
    ]


RUNS: dict[str, Run] = {run.name: run for run in (*shapes_runs(), *photos_runs())}
