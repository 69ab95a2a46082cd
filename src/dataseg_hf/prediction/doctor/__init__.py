"""Where annotation and a model disagree, so that a person should look; and which images are worth
annotating next.
"""

from .doubts import DOUBT_KINDS, Doubt, DoubtKind, doubts
from .examination import Examination, examined
from .files import SuggestionFiles
from .seen import Known, Seen
from .top import Found, TopDoubts
from .words import Words, embedded, words_of_mix
from .worth import worth_in_order, worth_of_image

__all__ = [
    "DOUBT_KINDS",
    "Doubt",
    "DoubtKind",
    "Examination",
    "Found",
    "Known",
    "Seen",
    "SuggestionFiles",
    "TopDoubts",
    "Words",
    "doubts",
    "embedded",
    "examined",
    "words_of_mix",
    "worth_in_order",
    "worth_of_image",
]
