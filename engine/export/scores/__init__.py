"""Which number an exported file explains: the same in every picture, or chosen by the file's own inputs and outputs."""

from .base import Sample, Score
from .choose import one_question, score_of

__all__ = ["Sample", "Score", "one_question", "score_of"]
