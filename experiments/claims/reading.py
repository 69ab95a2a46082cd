"""What the numbers say, in words. Each sentence rests on comparisons over at least three seeds, and
stands only while all of them come out as it says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.claims.tables import (
    BOXES_AP50,
    CAMVID_MIOU,
    COCO_MIOU,
    CORRUPTIONS,
    OPEN_PQ,
    OTHER_WORDS,
    OWN_WORDS,
    PQ,
    PQ_STUFF,
    SEMANTIC_MIOU,
    SEMANTIC_PQ,
    SEMANTIC_PQ_THINGS,
    Column,
)

REMEDIES = (
    "more_panoptic",
    "fewer_boxes",
    "every_dataset_in_a_step",
    "wider",
    "fine_tuned_panoptic",
)
STRONGEST = ("noise 3", "blur 3", "jpeg 3")
Verdict = Literal["better", "worse", "tie"]


@dataclass(frozen=True)
class Comparison:
    """`run` is so (`verdict`) against `other` in a metric."""

    run: str
    verdict: Verdict
    other: str
    column: Column


@dataclass(frozen=True)
class Sentence:
    """Plain words, and what they rest on."""

    text: str
    rests_on: Sequence[Comparison]


def ties(run: str, other: str, *columns: Column) -> tuple[Comparison, ...]:
    """A tie in each of the metrics."""
    return tuple(Comparison(run, "tie", other, column) for column in columns)


HOLDS = (
    Sentence(
        "**At equal steps for each dataset, co-training wins on all three**: one model with a "
        "third of its "
        "steps on each set beats three models that each had that third.",
        (
            Comparison("co", "better", "alone_panoptic_third", PQ),
            Comparison("co", "better", "alone_semantic_third", SEMANTIC_MIOU),
            Comparison("co", "better", "alone_boxes_third", BOXES_AP50),
        ),
    ),
    Sentence(
        "**So it is on photographs**: COCO's part and the street scenes are far better in the mix "
        "than with as many "
        "steps alone.",
        (
            Comparison("photos_co", "better", "photos_alone_panoptic_share", COCO_MIOU),
            Comparison("photos_co", "better", "photos_alone_camvid_share", CAMVID_MIOU),
        ),
    ),
    Sentence(
        "**A set of 16 images gains much**: co-training beats even training on them alone for all "
        "steps, in "
        "the classes that were annotated and in objects that never were.",
        (
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_MIOU),
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_PQ),
        ),
    ),
    Sentence(
        "**A partner with masks makes a small set better than all steps alone would**, in half of "
        "the steps: the 64 "
        "semantic images beside the panoptic set, and the boxes beside it, too.",
        (
            Comparison("two_panoptic_semantic", "better", "alone_semantic", SEMANTIC_MIOU),
            Comparison("two_panoptic_boxes", "better", "alone_boxes", BOXES_AP50),
        ),
    ),
    Sentence(
        "**Boxes do nearly what masks do** when trained along with sets that have masks; the "
        "colour term of "
        "the loss is then neither needed nor harmful.",
        (*ties("co", "co_masks", BOXES_AP50), *ties("co", "co_no_affinity", BOXES_AP50)),
    ),
    Sentence(
        "**Text carries over what class numbers cannot**: combinations of known words that no "
        "training image "
        "shows; merging the label spaces by hand does not help there.",
        (
            Comparison("co", "better", "class_numbers", OPEN_PQ),
            Comparison("co", "better", "merged_by_hand", OPEN_PQ),
        ),
    ),
    Sentence(
        "**Sets that bring names help with names never seen**, boxes no less than masks: beside "
        "the panoptic set they "
        "raise unseen combinations above what that set reaches alone; the semantic set does not.",
        (
            Comparison("two_panoptic_boxes", "better", "alone_panoptic", OPEN_PQ),
            Comparison("two_panoptic_boxes", "better", "two_panoptic_semantic", OPEN_PQ),
            *ties("two_panoptic_semantic", "alone_panoptic", OPEN_PQ),
        ),
    ),
    Sentence(
        "**Share the decoder**: a decoder for each dataset, which sees a third of the steps, finds "
        "fewer of "
        "the objects that only have boxes.",
        (Comparison("co", "better", "own_decoders", BOXES_AP50),),
    ),
    Sentence(
        "**A classifier for each dataset** costs panoptic quality and gains nothing on the other "
        "two.",
        (
            Comparison("co", "better", "own_classifiers", PQ),
            *ties("co", "own_classifiers", SEMANTIC_MIOU, BOXES_AP50),
        ),
    ),
    Sentence(
        "**One dataset in a step is as good as all of them in every step**, for as many images.",
        ties("co", "every_dataset_in_a_step", PQ, SEMANTIC_MIOU, BOXES_AP50),
    ),
    Sentence(
        "**Let the class head see its own mask**: without that view panoptic quality and unseen "
        "combinations drop.",
        (
            Comparison("co", "better", "no_mask_view", PQ),
            Comparison("co", "better", "no_mask_view", OPEN_PQ),
        ),
    ),
    Sentence(
        "**On photographs CLIP's embeddings beat hashed n-grams**, most of all in the words of "
        "other "
        "datasets for the same things.",
        tuple(
            Comparison("photos_co", "better", "photos_hashed", column)
            for column in (OTHER_WORDS, OWN_WORDS, COCO_MIOU, CAMVID_MIOU)
        ),
    ),
)

LIMITS = (
    Sentence(
        "**At equal steps in all co-training does not win**: three separate models with three "
        "times the training are "
        "within the spread of the one that replaces them, and in stuff the panoptic set alone is "
        "better.",
        (
            *ties("co", "alone_panoptic", PQ),
            Comparison("co", "worse", "alone_panoptic", PQ_STUFF),
            *ties("co", "alone_semantic", SEMANTIC_MIOU),
            *ties("co", "alone_boxes", BOXES_AP50),
        ),
    ),
    Sentence(
        "**The distance shrinks with length.** With half of the steps the co-trained model is far "
        "behind the panoptic "
        "set alone; with all it is within the spread.",
        (
            Comparison("co_half", "worse", "alone_panoptic_half", PQ),
            *ties("co", "alone_panoptic", PQ),
        ),
    ),
    Sentence(
        "**Nothing else that we tried moves the large set**, and all stays below that set alone: "
        "twice the share, "
        "half the boxes, all datasets in every step, a wider model, training on with that set "
        "alone; more steps of "
        "smaller batches, a quarter fewer images in all, make it worse.",
        (
            *(Comparison(run, "tie", "co", PQ) for run in REMEDIES),
            *(Comparison(run, "worse", "alone_panoptic", PQ) for run in REMEDIES),
            Comparison("small_batches", "worse", "co", PQ),
        ),
    ),
    Sentence(
        "**On photographs the street scenes alone win at equal steps in all**, by far: they have a "
        "sixth of the steps "
        "of the mix, and little in common with its other sets. Half of the steps win back most of "
        "it.",
        (
            Comparison("photos_co", "worse", "photos_alone_camvid", CAMVID_MIOU),
            Comparison("photos_more_camvid", "better", "photos_co", CAMVID_MIOU),
            Comparison("photos_more_camvid", "worse", "photos_alone_camvid", CAMVID_MIOU),
        ),
    ),
    Sentence(
        "**More datasets are not better by themselves.** With the steps of all unchanged, five are "
        "as good as three; "
        "and the boxes, which teach no stuff, take steps from the sets that do: without them stuff "
        "and the small set "
        "are better, while without the semantic set panoptic quality drops.",
        (
            *ties("five", "co", PQ, SEMANTIC_MIOU, BOXES_AP50),
            Comparison("two_panoptic_semantic", "better", "co", PQ_STUFF),
            Comparison("two_panoptic_semantic", "better", "co", SEMANTIC_MIOU),
            Comparison("two_panoptic_boxes", "worse", "co", PQ),
        ),
    ),
    Sentence(
        "**What the small set gains it gains from its partner**: through the names, the panoptic "
        "set alone is better "
        "on it than its own 64 images and than the mix of three; beside it they add nothing that "
        "shows, 16 neither.",
        (
            Comparison("alone_panoptic", "better", "alone_semantic", SEMANTIC_MIOU),
            Comparison("alone_panoptic", "better", "co", SEMANTIC_MIOU),
            *ties("two_panoptic_semantic", "alone_panoptic", SEMANTIC_MIOU),
            *ties("co_16", "alone_panoptic", SEMANTIC_MIOU),
        ),
    ),
    Sentence(
        "**Weak transfer is not shown with 64 images**: alone, and with all steps, the semantic "
        "set reaches "
        "the same panoptic quality from its connected regions; it takes a third of those steps, or "
        "16 images,"
        " for the other sets to help.",
        (
            *ties("co", "alone_semantic", SEMANTIC_PQ),
            Comparison("co", "better", "alone_semantic_third", SEMANTIC_PQ),
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_PQ),
        ),
    ),
    Sentence(
        "**Nor is it with a whole class as one target**, the paper's way, with MERGE in training "
        "or without.",
        (
            *ties("whole_classes", "alone_semantic_whole", SEMANTIC_PQ),
            Comparison("merge_whole_classes", "worse", "alone_semantic_whole_merge", SEMANTIC_PQ),
        ),
    ),
    Sentence(
        "**MERGE in training does not pay here**, in any reading: stuff gets worse, with the "
        "maximum the small set, "
        "too. (Merging at inference is in all of these numbers.)",
        (
            Comparison("merge_maximum", "worse", "co", PQ_STUFF),
            Comparison("merge_any_overlap", "worse", "co", PQ_STUFF),
            Comparison("merge_soft", "worse", "co", PQ_STUFF),
            Comparison("merge_maximum", "worse", "co", SEMANTIC_MIOU),
            Comparison("merge_any_overlap", "worse", "co", SEMANTIC_MIOU),
        ),
    ),
    Sentence(
        "**Corrupted images tell the two apart no better than clean ones**: at the strongest "
        "noise, blur and JPEG "
        "artefacts co-trained and separate models are within the spread of each other.",
        tuple(
            Comparison("co", "tie", "alone_panoptic", column)
            for column in CORRUPTIONS
            if column.name in STRONGEST
        ),
    ),
    Sentence(
        "**100 photographs teach nobody to find COCO's 133 classes** in so few steps: its numbers "
        "are near zero "
        "and say nothing; leaving the boxes out changes neither COCO nor the street scenes.",
        ties("photos_co", "photos_no_boxes", COCO_MIOU, CAMVID_MIOU),
    ),
)

ADVICE = (
    Sentence(
        "**Start with equal shares, whatever the sizes.** Shares by size starve the small set; "
        "their cube root changes "
        "nothing.",
        (
            Comparison("by_size", "worse", "co", SEMANTIC_PQ),
            Comparison("by_size", "worse", "co", PQ_STUFF),
            *ties("temperature_3", "co", PQ, SEMANTIC_MIOU, BOXES_AP50),
        ),
    ),
    Sentence(
        "**Co-train a set of a few dozen images or less; a few hundred do better alone**, if they "
        "may have the steps "
        "of the whole mix: at 16 images co-training wins, at 64 it is a tie, at 256 it loses.",
        (
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_MIOU),
            *ties("co", "alone_semantic", SEMANTIC_MIOU),
            Comparison("co_256", "worse", "alone_semantic_256", SEMANTIC_MIOU),
        ),
    ),
    Sentence(
        "**Train the one model at least as long as you would train each of the separate ones.** "
        "Short schedules are "
        "where it loses.",
        (
            Comparison("co_half", "worse", "alone_panoptic_half", PQ),
            *ties("co", "alone_panoptic", PQ),
            *ties("co", "alone_semantic", SEMANTIC_MIOU),
            *ties("co", "alone_boxes", BOXES_AP50),
        ),
    ),
    Sentence(
        "**Give a set with boxes half the share of those with masks.** The small set gets better "
        "than it is alone with "
        "all steps, and the objects from boxes lose nothing that shows. (The larger model of "
        "[shapes.md](shapes.md) "
        "gains less and loses some of them: try it.)",
        (
            Comparison("fewer_boxes", "better", "co", SEMANTIC_MIOU),
            Comparison("fewer_boxes", "better", "alone_semantic", SEMANTIC_MIOU),
            *ties("fewer_boxes", "co", PQ, BOXES_AP50),
        ),
    ),
    Sentence(
        "**A set that has little in common with the others needs its own steps**: raise its share "
        "until it is good "
        "enough, or train it alone.",
        (Comparison("photos_more_camvid", "better", "photos_co", CAMVID_MIOU),),
    ),
    Sentence(
        "**Let semantic sets split things** (`split_things`): their objects come out better, those "
        "from boxes, too.",
        (
            Comparison("co", "better", "whole_classes", SEMANTIC_PQ_THINGS),
            Comparison("co", "better", "whole_classes", BOXES_AP50),
        ),
    ),
)

READING: Mapping[str, Sequence[Sentence]] = {
    "What holds": HOLDS,
    "What does not, at this scale": LIMITS,
    "With your own datasets": ADVICE,
}
