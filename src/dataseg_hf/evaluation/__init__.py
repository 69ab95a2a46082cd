"""Scores of a model on held-out sets, on any number of processes, and what is made of them:
reports, pictures, files.

`evaluate` is what training calls; `evaluation.run` is the whole evaluation that
`dataseg evaluate` starts.
"""

from .gallery import pictures, titles
from .inference import Inference
from .scoring import Processes, SetResult, evaluate, metric_names, score, values_of
from .sets import EvaluationSet

__all__ = [
    "EvaluationSet",
    "Inference",
    "Processes",
    "SetResult",
    "evaluate",
    "metric_names",
    "pictures",
    "score",
    "titles",
    "values_of",
]
