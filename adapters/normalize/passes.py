"""The passes from a file's graph to the canonical one, in order: what each needs and gives, and why it stands there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from ...engine.graph.index import reads
from ..onnx.sizes import check_sizes
from .batch import flatten_reshapes, free_batch, free_input, one_row, settle_shape_vectors
from .channels_first import to_channels_first
from .cleanup import remove_idle_nodes
from .constants import constants_to_weights, fold_constants, name_cast_types, to_float32
from .control import settle_control_flow
from .draft import Draft, attribute
from .flatten import fold_flatten_order
from .fuse import fuse
from .inputs import settle_inputs
from .integers import float_image
from .sequences import split_sequences
from .shapes import image_shape, infer
from .stated import state_order, state_padding

_WIDE = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Request:
    """What the user says of the model.

    Attributes:
        size: (height, width) where the file leaves them open.
        layout: of the image input, "NCHW" or "NHWC"; None tells from the graph.
        keep: tensors that the source names and that must stay taps.
        given: name -> value, for one picture, of inputs beside the picture.
    """

    size: tuple[int, int]
    layout: str | None
    keep: frozenset[str]
    given: Mapping[str, np.ndarray]

    def kept(self, draft: Draft) -> set[str]:
        """The tensors to keep, by the names that they have by now."""
        return {draft.aliases.get(name, name) for name in self.keep}


@dataclass(frozen=True)
class Fact:
    """Something that is true of a draft between two passes.

    Attributes:
        text: the fact in words.
        holds: whether it is so.
    """

    text: str
    holds: Callable[[Draft, Request], bool]


@dataclass(frozen=True)
class Pass:
    """A step of normalization.

    Attributes:
        run: edits the draft.
        requires: what it relies on.
        ensures: what is true behind it.
        why: why it stands where it stands.
        undoes: what was true before and need not be any more.
    """

    run: Callable[[Draft, Request], object]
    requires: tuple[Fact, ...]
    ensures: tuple[Fact, ...]
    why: str
    undoes: tuple[Fact, ...] = ()


def _is_ordered(draft: Draft, _request: Request) -> bool:
    made = {name for node in draft.nodes for name in node.output}
    ready = {*draft.tensors, *(i.name for i in draft.inputs), ""}
    for node in draft.nodes:
        if any(name in made and name not in ready for name in reads(node)):
            return False
        ready.update(node.output)
    return True


def _has_one_picture(draft: Draft, _request: Request) -> bool:
    return len(draft.inputs) == 1 and len(image_shape(draft.inputs[0]) or ()) == 4


def _is_still(edit: Callable[[Draft], object]) -> Callable[[Draft, Request], bool]:
    """Whether an edit has nothing left to do."""

    def holds(draft: Draft, _request: Request) -> bool:
        tried = copy.deepcopy(draft)
        edit(tried)
        return [n.SerializeToString() for n in tried.nodes] == [n.SerializeToString() for n in draft.nodes]

    return holds


def _is_free(draft: Draft, request: Request) -> bool:
    return _is_still(lambda tried: free_batch(tried, request.size))(draft, request)


def _is_read_in_another_layout(draft: Draft, _request: Request) -> bool:
    picture = draft.inputs[0].name
    return any(
        node.op_type == "Transpose" and node.input[0] == picture and list(attribute(node, "perm", ())) == [0, 3, 1, 2]
        for node in draft.nodes
    )


def _has_fresh_shapes(draft: Draft, request: Request) -> bool:
    tried = copy.deepcopy(draft)
    infer(tried, request.size)
    made = [name for node in draft.nodes for name in node.output]
    return all(tried.shapes.get(name) == draft.shapes.get(name) for name in made)


def _has_settled_aliases(draft: Draft, _request: Request) -> bool:
    alive = {o for n in draft.nodes for o in n.output} | {i.name for i in draft.inputs} | set(draft.tensors)
    return all(target in alive and name not in alive for name, target in draft.aliases.items())


ORDERED = Fact("every node stands behind those that it reads", _is_ordered)
CONSTANTS = Fact("constants are weights, not nodes", _is_still(constants_to_weights))
ONE_PICTURE = Fact("the only input is a picture of rank 4", _has_one_picture)
DECIDED = Fact(
    "no branch hangs on a constant",
    lambda draft, _: not any(n.op_type == "If" and n.input[0] in draft.tensors for n in draft.nodes),
)
FLOAT32 = Fact(
    "no weight or input is of another floating type",
    lambda draft, _: not any(t.data_type in _WIDE for t in _typed(draft)),
)
FOLDED = Fact("what follows from constants alone is computed", _is_still(fold_constants))
BUSY = Fact("no node does nothing", _is_still(remove_idle_nodes))
ALIVE = Fact("an output needs every node", _is_still(Draft.drop_dead))
SHAPED = Fact("shapes are what inference says of the graph as it is", _has_fresh_shapes)
PIECES = Fact("no sequence is left that is known to be pieces of one tensor", _is_still(split_sequences))
TYPED = Fact("no CastLike has a type that is known", _is_still(name_cast_types))
CHANNELS_FIRST = Fact(
    "the picture is read as (N, C, H, W)", lambda draft, request: not _is_read_in_another_layout(draft, request)
)
FREE_BATCH = Fact("no node holds the number of pictures", _is_free)
ALIASES = Fact("a removed tensor's alias is a tensor that is there", _has_settled_aliases)


def _typed(draft: Draft) -> list[onnx.TensorProto]:
    inputs = [TensorProto(data_type=i.type.tensor_type.elem_type) for i in draft.inputs]
    return [*draft.tensors.values(), *inputs]


def _split_all(draft: Draft, request: Request) -> None:
    while split_sequences(draft):
        infer(draft, request.size)


def _state(draft: Draft, request: Request) -> None:
    if loose := state_order(draft.nodes):
        draft.notes.append(f"the order of what {loose[0]} (TopK) chooses is left open: the first come first here")
    if state_padding(draft):
        infer(draft, request.size)


def _free_all(draft: Draft, request: Request) -> None:
    while free_batch(draft, request.size) | one_row(draft):
        infer(draft, request.size)


def _infer(draft: Draft, request: Request) -> None:
    infer(draft, request.size)


def _free_input(draft: Draft, _request: Request) -> None:
    stated = {i.name: image_shape(i) for i in draft.inputs}
    free_input(draft)
    for name, shape in stated.items():
        draft.shapes[name] = shape or draft.shapes.get(name, ())


PASSES = (
    Pass(
        lambda draft, _: constants_to_weights(draft),
        (ORDERED,),
        (CONSTANTS,),
        "all passes look for constants among the weights",
    ),
    Pass(
        lambda draft, request: settle_inputs(draft, request.given, request.size),
        (CONSTANTS,),
        (ONE_PICTURE,),
        "what is not the picture becomes constant, so that folding sees it",
        (ORDERED, CONSTANTS),
    ),
    Pass(lambda draft, _: float_image(draft), (ONE_PICTURE,), (), "a gradient needs a picture of floats"),
    Pass(lambda draft, _: constants_to_weights(draft), (), (CONSTANTS,), "the two before may have written constants"),
    Pass(
        lambda draft, request: settle_control_flow(draft, request.size),
        (ONE_PICTURE, CONSTANTS),
        (DECIDED,),
        "what stands in branches and bodies must be plain nodes before anything is done to nodes",
        (CONSTANTS,),
    ),
    Pass(
        lambda draft, _: check_sizes(draft.nodes, [i.name for i in draft.inputs], "the model"),
        (ONE_PICTURE, DECIDED),
        (),
        "branches and rounds are nodes, so that what they take sizes from is seen",
    ),
    Pass(
        lambda draft, _: to_float32(draft),
        (DECIDED,),
        (FLOAT32,),
        "the casts in bodies are seen; folding computes in the type that the executors use",
    ),
    Pass(
        lambda draft, _: fold_constants(draft),
        (FLOAT32,),
        (FOLDED,),
        "a padding or a repeat of nothing is known as such when its numbers are",
        (ALIVE,),
    ),
    Pass(
        lambda draft, _: remove_idle_nodes(draft),
        (FOLDED,),
        (BUSY,),
        "shape inference and the search for the layout read fewer nodes",
    ),
    Pass(lambda draft, _: draft.drop_dead(), (), (ALIVE,), "nothing is asked of nodes that no output needs"),
    Pass(_infer, (ALIVE,), (SHAPED,), "sequences and the layout are told by shapes", (BUSY,)),  # a Cast may prove idle
    Pass(_state, (SHAPED,), (SHAPED,), "padding hangs on sizes, and what comes behind it on the padding"),
    Pass(
        _split_all,
        (SHAPED,),
        (PIECES, SHAPED),
        "the layout is carried through tensors, and a sequence is none",
        (BUSY, FOLDED, ALIVE),
    ),
    Pass(
        lambda draft, _: name_cast_types(draft),
        (SHAPED,),
        (TYPED,),
        "types are known, and a Cast of a constant is computed, one to the same type dropped",
        (BUSY, FOLDED, ALIVE),
    ),
    Pass(
        lambda draft, _: remove_idle_nodes(draft),
        (),
        (BUSY,),
        "inference shows casts to the same type, and a sequence of one piece leaves a node that does nothing",
    ),
    Pass(
        lambda draft, request: to_channels_first(draft, request.layout, request.kept(draft)),
        (ONE_PICTURE, SHAPED, BUSY, PIECES),
        (CHANNELS_FIRST,),
        "the batch is looked for on the first axis, and fusing wants channels on the second",
        (BUSY, FOLDED, ALIVE, SHAPED, ORDERED),
    ),
    Pass(
        _free_all,
        (CHANNELS_FIRST,),
        (FREE_BATCH,),
        "axes are where they stay, so a number of pictures is told from a size",
        (BUSY, FOLDED, ALIVE),
    ),
    Pass(
        lambda draft, _: settle_shape_vectors(draft),
        (FREE_BATCH,),
        (),
        "shapes that the model computes are constant but for the free batch",
        (FREE_BATCH, BUSY, FOLDED, ALIVE, SHAPED),
    ),
    Pass(
        lambda draft, _: flatten_reshapes(draft),
        (CHANNELS_FIRST,),
        (),
        "a Reshape to a constant (N, rest) is a Flatten, which the next passes know",
        (FREE_BATCH, BUSY, FOLDED, ALIVE, SHAPED),
    ),
    Pass(lambda draft, _: fold_constants(draft), (FLOAT32,), (FOLDED,), "the arithmetic of shapes has become constant"),
    Pass(lambda draft, _: remove_idle_nodes(draft), (FOLDED,), (BUSY,), "moved transposes may cancel"),
    Pass(lambda draft, _: draft.drop_dead(), (), (ALIVE,), "fusing asks who else reads a tensor", (ALIASES,)),
    Pass(lambda draft, _: draft.settle_aliases(), (ALIVE,), (ALIASES,), "what is kept is named by what it became"),
    Pass(_infer, (ALIVE,), (SHAPED,), "fusing compares shapes", (BUSY,)),
    Pass(
        lambda draft, request: fuse(draft, request.kept(draft)),
        (CHANNELS_FIRST, SHAPED, ALIASES),
        (),
        "all that exporters write in many ways has one form by now",
        (ORDERED, ALIVE, ALIASES, SHAPED, FOLDED, BUSY),
    ),
    Pass(
        lambda draft, _: fold_flatten_order(draft),
        (CHANNELS_FIRST,),
        (),
        "the dense layers that it reorders are fused",
        (ORDERED, ALIVE, ALIASES, SHAPED, FOLDED, BUSY),
    ),
    Pass(lambda draft, _: draft.sort(), (), (ORDERED,), "fused nodes were appended where they were found"),
    Pass(lambda draft, _: draft.drop_dead(), (ORDERED,), (ALIVE,), "what was fused away is not kept", (ALIASES,)),
    Pass(lambda draft, _: draft.settle_aliases(), (ALIVE,), (ALIASES,), "names that were fused away are forgotten"),
    Pass(_infer, (ORDERED, ALIVE), (SHAPED,), "layers report the shapes of what is left"),
    Pass(
        _free_input,
        (SHAPED, ONE_PICTURE),
        (),
        "last, since inference works at the batch that the file states",
        (SHAPED,),
    ),
)


def run_passes(draft: Draft, request: Request, check: bool = False) -> None:
    """Runs all passes.

    Args:
        draft: edited.
        request: what the user says of the model.
        check: look before and behind each pass whether what should hold does; slow, for tests.

    Raises:
        AssertionError: with ``check``, a fact does not hold where a pass relies on it or left it.
    """
    known = {ORDERED}
    for number, step in enumerate(PASSES):
        missing = set(step.requires) - known
        assert not missing, f"pass {number} ({step.why}) relies on what nobody ensured: {[f.text for f in missing]}"
        step.run(draft, request)
        known = (known - set(step.undoes)) | set(step.ensures)
        if check:
            broken = [fact.text for fact in known if not fact.holds(draft, request)]
            assert not broken, f"behind pass {number} ({step.why}) it is not true that {' or that '.join(broken)}"
