"""What the numbers say, in words. Each sentence rests on comparisons over at least three seeds, and stands only while
all of them come out as it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.claims.tables import BOXES_AP50, OPEN_PQ, PQ, SEMANTIC_MIOU, SEMANTIC_PQ, Column

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


READING: tuple[Sentence, ...] = (
    Sentence(
        "**At equal steps for each dataset, co-training wins on all three**: one model with a third of its "
        "steps on each set beats three models that each had that third.",
        (
            Comparison("co", "better", "alone_panoptic_third", PQ),
            Comparison("co", "better", "alone_semantic_third", SEMANTIC_MIOU),
            Comparison("co", "better", "alone_boxes_third", BOXES_AP50),
        ),
    ),
    Sentence(
        "**At equal steps in all it is a tie**: three separate models with three times the training are within "
        "the spread of the one that replaces them.",
        (
            Comparison("co", "tie", "alone_panoptic", PQ),
            Comparison("co", "tie", "alone_semantic", SEMANTIC_MIOU),
            Comparison("co", "tie", "alone_boxes", BOXES_AP50),
        ),
    ),
    Sentence(
        "**A set of 16 images gains much**: co-training beats even training on them alone for all steps, in "
        "the classes that were annotated and in objects that never were.",
        (
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_MIOU),
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_PQ),
        ),
    ),
    Sentence(
        "**Text carries over what class numbers cannot**: combinations of known words that no training image "
        "shows; merging the label spaces by hand does not help there.",
        (
            Comparison("co", "better", "class_numbers", OPEN_PQ),
            Comparison("co", "better", "merged_by_hand", OPEN_PQ),
        ),
    ),
    Sentence(
        "**Share the decoder**: a decoder for each dataset, which sees a third of the steps, finds fewer of "
        "the objects that only have boxes.",
        (Comparison("co", "better", "own_decoders", BOXES_AP50),),
    ),
    Sentence(
        "**A classifier for each dataset** costs panoptic quality and gains nothing on the other two.",
        (
            Comparison("co", "better", "own_classifiers", PQ),
            Comparison("co", "tie", "own_classifiers", SEMANTIC_MIOU),
            Comparison("co", "tie", "own_classifiers", BOXES_AP50),
        ),
    ),
    Sentence(
        "**Weak transfer is not shown with 64 images**: alone, and with all steps, the semantic set reaches "
        "the same panoptic quality from its connected regions; it takes a third of those steps, or 16 images,"
        " for the other sets to help.",
        (
            Comparison("co", "tie", "alone_semantic", SEMANTIC_PQ),
            Comparison("co", "better", "alone_semantic_third", SEMANTIC_PQ),
            Comparison("co_16", "better", "alone_semantic_16", SEMANTIC_PQ),
        ),
    ),
    Sentence(
        "**Boxes do nearly what masks do** when trained along with sets that have masks; the colour term of "
        "the loss is then neither needed nor harmful.",
        (
            Comparison("co", "tie", "co_masks", BOXES_AP50),
            Comparison("co", "tie", "co_no_affinity", BOXES_AP50),
        ),
    ),
)
