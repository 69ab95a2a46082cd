"""Which runs stand in which table, and what is read off them."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.claims.grid import BOXES, PANOPTIC, SEMANTIC


@dataclass(frozen=True)
class Column:
    """A metric (`{set}/{metric}`) and what it is called."""

    name: str
    metric: str


@dataclass(frozen=True)
class Table:
    """rows: (what it is called, run). The first row is what the others are compared with."""

    columns: Sequence[Column]
    rows: Sequence[tuple[str, str]]


PQ = Column("PQ", f"{PANOPTIC}/pq")
PQ_THINGS = Column("things", f"{PANOPTIC}/pq_things")
PQ_STUFF = Column("stuff", f"{PANOPTIC}/pq_stuff")
SEMANTIC_MIOU = Column("semantic mIoU", f"{SEMANTIC}/miou")
SEMANTIC_PQ = Column("its PQ (never annotated)", f"{SEMANTIC}/pq")
BOXES_AP50 = Column("mask AP50 from boxes", f"{BOXES}/mask_ap50")
BOXES_AP = Column("mask AP", f"{BOXES}/mask_ap")
OPEN_PQ = Column("PQ, unseen combinations", "shapes_open/pq")
MAIN = (PQ, PQ_THINGS, PQ_STUFF, SEMANTIC_MIOU, SEMANTIC_PQ, BOXES_AP50, OPEN_PQ)

SEMANTIC_PQ_THINGS = Column("things", f"{SEMANTIC}/pq_things")
WEAK = (SEMANTIC_PQ, SEMANTIC_PQ_THINGS, Column("stuff", f"{SEMANTIC}/pq_stuff"), SEMANTIC_MIOU)

COCO_PQ = Column("COCO PQ", "coco_val/pq")
COCO_MIOU = Column("COCO mIoU", "coco_val/miou")
COCO_AP50 = Column("COCO mask AP50", "coco_val/mask_ap50")
CAMVID_MIOU = Column("CamVid mIoU", "camvid_test/miou")
PHOTOS = (COCO_PQ, COCO_MIOU, COCO_AP50, CAMVID_MIOU)
OWN_WORDS = Column("13 COCO classes, own words, mIoU", "coco_few/miou")
OTHER_WORDS = Column("the same, other datasets' words", "coco_few_other_words/miou")

CORRUPTIONS = tuple(
    Column(f"{kind} {strength}", f"{PANOPTIC}_{kind}{strength}/pq")
    for kind in ("noise", "blur", "contrast", "jpeg")
    for strength in (1, 2, 3)
)

TABLES: dict[str, Table] = {
    "equal_total": Table(
        (PQ, SEMANTIC_MIOU, BOXES_AP50),
        (
            ("co-trained, all steps shared", "co"),
            ("panoptic set alone, all steps", "alone_panoptic"),
            ("semantic set alone, all steps", "alone_semantic"),
            ("boxes set alone, all steps", "alone_boxes"),
        ),
    ),
    "equal_each": Table(
        (PQ, SEMANTIC_MIOU, BOXES_AP50),
        (
            ("co-trained, a third of the steps for each", "co"),
            ("panoptic set alone, a third", "alone_panoptic_third"),
            ("semantic set alone, a third", "alone_semantic_third"),
            ("boxes set alone, a third", "alone_boxes_third"),
        ),
    ),
    **{
        f"small_{count}": Table(
            (SEMANTIC_MIOU, SEMANTIC_PQ, PQ),
            (
                (f"co-trained, {count} semantic images", "co" if count == 64 else f"co_{count}"),
                (
                    "semantic set alone, all steps",
                    f"alone_semantic{'' if count == 64 else f'_{count}'}",
                ),
                (
                    "semantic set alone, a third",
                    f"alone_semantic{'' if count == 64 else f'_{count}'}_third",
                ),
            ),
        )
        for count in (16, 64, 256)
    },
    "shared": Table(
        MAIN,
        (
            ("text classifier, everything shared", "co"),
            ("a classifier for each dataset", "own_classifiers"),
            ("a decoder for each dataset", "own_decoders"),
            ("class numbers instead of text", "class_numbers"),
            ("class numbers, stuff merged by hand", "merged_by_hand"),
            ("images of all datasets in every step", "every_dataset_in_a_step"),
        ),
    ),
    "boxes": Table(
        (BOXES_AP50, BOXES_AP),
        (
            ("co-trained, projection and colour affinity", "co"),
            ("co-trained, projection alone", "co_no_affinity"),
            ("co-trained, full masks", "co_masks"),
            ("boxes alone, projection and colour affinity", "alone_boxes"),
            ("boxes alone, projection alone", "alone_boxes_no_affinity"),
            ("alone, full masks", "alone_masks"),
        ),
    ),
    "weak": Table(
        WEAK,
        (
            ("co-trained", "co"),
            ("semantic set alone, all steps", "alone_semantic"),
            ("semantic set alone, a third", "alone_semantic_third"),
            ("with the panoptic set only", "two_panoptic_semantic"),
        ),
    ),
    "weak_whole": Table(
        WEAK,
        (
            ("co-trained", "whole_classes"),
            ("semantic set alone, all steps", "alone_semantic_whole"),
            ("co-trained, MERGE in training", "merge_whole_classes"),
            ("semantic set alone, all steps, MERGE in training", "alone_semantic_whole_merge"),
        ),
    ),
    "open": Table(
        (
            OPEN_PQ,
            Column("things", "shapes_open/pq_things"),
            Column("stuff", "shapes_open/pq_stuff"),
        ),
        (
            ("co-trained", "co"),
            ("panoptic set alone", "alone_panoptic"),
            ("panoptic and boxes", "two_panoptic_boxes"),
            ("class numbers instead of text", "class_numbers"),
        ),
    ),
    "number": Table(
        MAIN,
        (
            ("three datasets", "co"),
            ("one: panoptic", "alone_panoptic"),
            ("two: panoptic, semantic", "two_panoptic_semantic"),
            ("two: panoptic, boxes", "two_panoptic_boxes"),
            ("five: and masks, and 64 panoptic images", "five"),
        ),
    ),
    "ratios": Table(
        MAIN,
        (
            ("equal shares", "co"),
            ("by size (600 : 64 : 600)", "by_size"),
            ("by size ** (1/3)", "temperature_3"),
            ("panoptic twice the others", "more_panoptic"),
            ("boxes half of the others", "fewer_boxes"),
        ),
    ),
    "merge": Table(
        MAIN,
        (
            ("no MERGE in training", "co"),
            ("maximum, more than half inside the target", "merge_maximum"),
            ("maximum, wherever its mask lies", "merge_any_overlap"),
            ("soft: any of them covers the pixel", "merge_soft"),
            ("no MERGE, a class of the semantic set is one target", "whole_classes"),
            ("maximum, and the same (the paper's way)", "merge_whole_classes"),
        ),
    ),
    "head": Table(
        MAIN, (("class head sees its mask", "co"), ("class head does not", "no_mask_view"))
    ),
    "remedies": Table(
        (PQ, PQ_THINGS, PQ_STUFF, SEMANTIC_MIOU, BOXES_AP50),
        (
            ("panoptic set alone, all steps", "alone_panoptic"),
            ("co-trained", "co"),
            ("panoptic twice the others", "more_panoptic"),
            ("boxes half of the others", "fewer_boxes"),
            ("by size", "by_size"),
            ("images of all datasets in every step", "every_dataset_in_a_step"),
            ("a wider model, co-trained", "wider"),
            ("co-trained, 600 steps of 4 images", "small_batches"),
            ("panoptic set alone, the same", "alone_panoptic_small_batches"),
            ("co-trained, then a third more on the panoptic set", "fine_tuned_panoptic"),
        ),
    ),
    "half": Table(
        (PQ, PQ_THINGS, PQ_STUFF, SEMANTIC_MIOU, BOXES_AP50),
        (
            ("panoptic set alone, half", "alone_panoptic_half"),
            ("co-trained, half", "co_half"),
            ("panoptic set alone, all steps", "alone_panoptic"),
            ("co-trained, all steps", "co"),
        ),
    ),
    "unseen_sets": Table(
        (PQ, SEMANTIC_MIOU, BOXES_AP50),
        (
            ("co-trained on all three", "co"),
            ("panoptic alone", "alone_panoptic"),
            ("semantic alone", "alone_semantic"),
            ("boxes alone", "alone_boxes"),
            ("panoptic and boxes", "two_panoptic_boxes"),
            ("panoptic and semantic", "two_panoptic_semantic"),
        ),
    ),
    "corrupted": Table(
        (PQ, *CORRUPTIONS), (("panoptic alone", "alone_panoptic"), ("co-trained", "co"))
    ),
    "photos": Table(
        PHOTOS,
        (
            ("co-trained", "photos_co"),
            ("COCO's panoptic part alone", "photos_alone_panoptic"),
            ("CamVid alone", "photos_alone_camvid"),
            (
                "COCO's panoptic part alone, a third of the steps as in the mix",
                "photos_alone_panoptic_share",
            ),
            ("CamVid alone, a sixth of the steps as in the mix", "photos_alone_camvid_share"),
            ("co-trained, CamVid in half of the steps", "photos_more_camvid"),
            ("all of COCO's parts, no CamVid", "photos_coco_only"),
            ("without boxes", "photos_no_boxes"),
            ("class head does not see its mask", "photos_no_mask_view"),
        ),
    ),
    "words": Table(
        (OWN_WORDS, OTHER_WORDS, COCO_PQ, COCO_MIOU, CAMVID_MIOU),
        (
            ("CLIP embeddings", "photos_co"),
            ("hashed n-grams", "photos_hashed"),
            ("CLIP, CamVid never seen", "photos_coco_only"),
        ),
    ),
    "photos_corrupted": Table(
        (
            CAMVID_MIOU,
            *(
                Column(f"{kind} {strength}", f"camvid_test_{kind}{strength}/miou")
                for kind in ("noise", "blur", "contrast", "jpeg")
                for strength in (1, 2, 3)
            ),
        ),
        (("CamVid alone", "photos_alone_camvid"), ("co-trained", "photos_co")),
    ),
}
