"""Scores of a model on held-out sets, on any number of processes, and what is made of them: reports, pictures, files.

`evaluate` is what training calls; `evaluation.run` is the whole evaluation that `examples/evaluate.py` starts.
"""

from .gallery import pictures
from .scoring import evaluate, metric_names
from .sets import EvaluationSet

__all__ = ["EvaluationSet", "evaluate", "metric_names", "pictures"]
