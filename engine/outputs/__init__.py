"""What a model really puts out, and the numbers that can be asked about it.

`read_outputs` tells what the outputs are taken for and why; a `Reading` answers for one picture (classes, boxes, masks,
text, vectors) and makes `Target` objects, one number per picture each, which every method and measure takes.
"""

from .reading import Answer, Question, Reading
from .registry import DECODERS, Decoder, find_decoder, read_outputs
from .target import Target

__all__ = ["DECODERS", "Answer", "Decoder", "Question", "Reading", "Target", "find_decoder", "read_outputs"]
