"""`convscope verify`: is the graph that we visualize the model in the file?

Four questions: do both executors agree on every tensor, is the gradient the derivative of what the forward
pass computes, does an image's result depend on its batch, and does the source agree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.export.build import layers_for
from ..engine.export.metadata import read_record
from ..engine.export.scores import score_of
from ..engine.export.verification import BOUND, Question
from ..engine.export.verification import verify as verify_map
from ..engine.graph.cut import extract
from ..engine.graph.graph import Graph
from ..engine.graph.index import reads
from ..engine.pictures.photographs import photographs
from ..engine.runs.verify import Verification
from .check import Rounding, compare_executors, least_scale, random_inputs, refuse_nan_weights, relative_difference
from .referee import culprit
from .source import MAX_REL, source_difference

MAX_GRADIENT_REL = 1e-4  # float64 against central differences
MAX_HEATMAP_REL = BOUND
_STEPS, _USUAL_STEP = range(2, 11), 7  # powers of a tenth, along a direction of length 1
_ROUNDING = 64 * 2.0**-53  # what a difference of two nearby float64 results may be by rounding alone, relative


def verify(
    graph: Graph,
    *,
    size: tuple[int, int] | None = None,
    batch: int = 2,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Verification:
    """Runs all the comparisons.

    Args:
        graph: loaded with or without the check at import.
        size: (height, width); default the graph's image size.
        batch: random images at once; a model with a fixed batch of one needs 1.
        seed: of the random images.
        progress: called with the name of each stage as it starts.
    """
    from .twin.converters.quantize import without_rounding

    refuse_nan_weights(graph)
    batch = batch if graph.mixes_batch is None and not graph.opaque else 1
    chosen = size or graph.image_size
    feeds = random_inputs(graph, chosen, batch, seed)
    progress("executors on random images")
    verdicts = _Verdicts(graph)
    verdicts.compare(feeds)
    images: list[str] = [f"{batch} random"]
    for name, pixels in _photographs(graph, chosen):
        progress(f"executors on {name}")
        images.append(name)
        real = {**random_inputs(graph, chosen, 1, seed), graph.inputs[0].name: pixels}
        verdicts.compare(real)
    progress("gradient against finite differences")
    with without_rounding():
        gradient = gradient_difference(graph, feeds)
    progress("batch 3 against batch 1")
    batches = batch_difference(graph, chosen, seed)
    progress("source")
    source = source_difference(graph, feeds)
    progress("heatmap")
    heatmap = heatmap_difference(graph)
    worst, rel, reason = verdicts.worst()
    ok = (
        not verdicts.parted
        and batches <= MAX_REL
        and (gradient is None or gradient <= MAX_GRADIENT_REL)
        and (source.rel is None or source.rel <= source.bound)
        and (heatmap is None or heatmap <= MAX_HEATMAP_REL)
    )
    return Verification(
        ok=ok,
        tensors_compared=len(verdicts.differences),
        tensors_total=sum(bool(o) for n in graph.model.graph.node for o in n.output),
        worst={"tensor": worst, "rel": rel},
        rounded=len(verdicts.rounded),
        reason=reason,
        opaque=tuple(graph.opaque.values()),
        gradient_rel=gradient,
        batch_rel=batches,
        source_rel=source.rel,
        source_tensors=source.tensors,
        source_reason=source.reason,
        source_by=source.by,
        bounds={
            "rel": MAX_REL,
            "gradient_rel": MAX_GRADIENT_REL,
            "heatmap_rel": MAX_HEATMAP_REL,
            "source_rel": source.bound,
        },
        images=tuple(images),
        heatmap_rel=heatmap,
    )


class _Verdicts:
    """The differences of the executors over several images, and what of them rounding explains.

    Attributes:
        differences: largest relative difference by tensor.
        parted: tensors that part beyond what rounding explains -> (difference, on which input).
        rounded: tensors that part by rounding alone.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.differences: dict[str, float] = {}
        self.parted: dict[str, tuple[float, dict[str, np.ndarray]]] = {}
        self.rounded: set[str] = set()

    def compare(self, feeds: dict[str, np.ndarray]) -> None:
        """Takes in another input."""
        rounding = Rounding(self._graph, feeds)
        for found in compare_executors(self._graph, feeds):
            self.differences[found.tensor] = max(self.differences.get(found.tensor, 0.0), found.rel)
            if found.rel <= MAX_REL:
                continue
            if rounding.explains(found, MAX_REL):
                self.rounded.add(found.tensor)
            elif found.tensor not in self.parted:
                self.parted[found.tensor] = found.rel, feeds

    def worst(self) -> tuple[str, float, str | None]:
        """The first tensor that parts, with who is off; else the largest difference."""
        if self.parted:
            tensor, (rel, feeds) = next(iter(self.parted.items()))
            return tensor, rel, culprit(self._graph, tensor, feeds, relative_difference)
        if not self.differences:  # an opaque operator makes every tensor
            return self._graph.outputs[0].name, 0.0, None
        tensor = max(self.differences, key=lambda name: self.differences[name])
        return tensor, self.differences[tensor], None


def gradient_difference(graph: Graph, feeds: dict[str, np.ndarray], seed: int = 0) -> float | None:
    """The directional derivative by autograd against central differences, both in float64.

    f is a random weighting of the logits. The best of several step widths counts, since wide steps cross
    kinks of ReLU and narrow ones drown in rounding. Where none agrees narrower ones are tried: a network that rounds
    its biases by the scale of each picture, as ONNX Runtime's dynamic quantizer writes them, jumps often.
    None where every step drowns in it: the logits do not depend on the image, as in an untrained network whose signal
    dies out on the way. None too where the image consists of whole numbers (uint8 pictures). Where an opaque operator
    lies before the logits, what it reads takes their place. Quantized networks are to be compared `without_rounding`.
    """
    import torch

    ends = _gradient_ends(graph)
    if np.dtype(graph.inputs[0].dtype).kind != "f" or not ends:
        return None
    twin = graph.twin(ends, dtype=torch.float64, fold=False)
    name = graph.inputs[0].name
    fixed = {k: _double(v[:1]) for k, v in feeds.items()}
    generator = torch.Generator().manual_seed(seed)
    x = fixed.pop(name).requires_grad_(True)
    first = twin({**fixed, name: x})
    kept = [end for end in ends if first[end].requires_grad]
    if not kept:
        return None
    weights = [torch.randn(first[end].shape, generator=generator, dtype=torch.float64) for end in kept]

    def weighted(found: dict[str, Any]) -> Any:
        return sum((found[end] * weight).sum() for end, weight in zip(kept, weights, strict=True))

    (gradient,) = torch.autograd.grad(weighted(first), x)
    # along the gradient itself the derivative is largest, a random part makes the test see every pixel
    direction = gradient / gradient.norm().clamp_min(1e-300) + 0.5 * _unit(x.shape, generator)
    slope = float((gradient * direction).sum())
    differences: list[float] = []
    with torch.no_grad():
        for exponent in _STEPS:
            if exponent > _USUAL_STEP and min(differences, default=1.0) <= MAX_GRADIENT_REL:
                break
            step = 10.0**-exponent * direction
            ahead, behind = (float(weighted(twin({**fixed, name: x + s}))) for s in (step, -step))
            central = (ahead - behind) / (2 * 10.0**-exponent)
            larger = max(abs(slope), abs(central))
            if larger > _ROUNDING * max(abs(ahead), abs(behind)) / 10.0**-exponent:
                differences.append(abs(central - slope) / larger)
    return min(differences, default=None)


def batch_difference(graph: Graph, size: tuple[int, int], seed: int) -> float:
    """The largest relative difference of any output between an image alone and in a batch of three."""
    import torch

    names = list(dict.fromkeys([*(o.name for o in graph.outputs), graph.logits]))
    feeds = random_inputs(graph, size, 3, seed)
    singles = [{k: v[i : i + 1] for k, v in feeds.items()} for i in range(3)]
    session = graph.session(names, device="cpu")
    runs: list[Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = [session.run]
    if twinned := [name for name in names if name not in graph.beyond_opaque]:
        twin = graph.twin(twinned)

        def run_twin(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with torch.no_grad():
                found = twin({k: torch.from_numpy(v) for k, v in given.items()})
            return {k: v.numpy() for k, v in found.items()}

        runs.append(run_twin)
    worst = 0.0
    for run in runs:
        together, alone = run(feeds), [run(single) for single in singles]
        for name, three in together.items():
            axis = session.batch_axes.get(name, 0)
            ends = np.cumsum([0, *(np.atleast_1d(row[name]).shape[axis] for row in alone)])
            for i, row in enumerate(alone):
                # of pictures that are run one at a time the results follow one another, however many each has
                own = range(ends[i], ends[i + 1])
                share = _share(three, row[name], i) if graph.mixes_batch is None else np.take(three, own, axis)
                single = np.atleast_1d(row[name]) if share.ndim else row[name]
                worst = max(worst, relative_difference(share, single, least_scale(graph, name)))
    return worst


def _gradient_ends(graph: Graph) -> list[str]:
    """The logits, or floating tensors that opaque operators before them read and that the twin can compute."""
    if graph.logits not in graph.beyond_opaque:
        return [graph.logits]
    floats = {layer.tensor for layer in graph.layers} - graph.beyond_opaque
    read = [name for first in graph.opaque for name in reads(graph.index.producer[first])]
    return [name for name in dict.fromkeys(read) if name in floats]


def _share(together: np.ndarray, alone: np.ndarray, i: int) -> np.ndarray:
    """What picture ``i`` of three has of an output, along whichever axis is three times as long as of one alone.

    Recurrent networks put time first, and states their number of layers. Of one picture a number may lack its axis, as
    torch's ``squeeze()`` leaves it.
    """
    if not alone.ndim and together.ndim == 1:
        return together[i : i + 1]
    for axis, (three, one) in enumerate(zip(together.shape, alone.shape, strict=False)):
        if three == 3 * one and one:
            return np.take(together, range(i * one, (i + 1) * one), axis)
    return together


def heatmap_difference(graph: Graph) -> float | None:
    """How far the map of an exported file is from the map of the plain model's twin; None for any other file.

    The plain model is cut out of the file, so nothing that the file says of its map is taken on trust.
    """
    if graph.source.path is None or graph.source.format != "onnx":
        return None
    from .build import build_graph
    from .exported import Exported
    from .onnx.read import read_onnx

    path = Path(graph.source.path)
    file = read_onnx(path)
    record = read_record({p.key: p.value for p in file.metadata_props})
    if record is None or "heatmap" not in {o.name for o in file.graph.output}:
        return None
    known = {i.name: i for i in (*file.graph.value_info, *file.graph.input)}
    own = graph.own_input[0] if graph.own_input is not None else graph.inputs[0].name
    image = known[record.image or own]
    core = (
        file if not record.image else extract(file, [image, *file.graph.input[1:]], [o.name for o in file.graph.output])
    )
    outputs = [o.name for o in file.graph.output if o.name != "heatmap"]
    part = extract(file, [image], outputs)
    part.metadata_props.extend(file.metadata_props)
    plain = build_graph(Exported(part), "onnx", None, graph.preprocessing, graph.labels)
    asked = record.asked
    score = score_of(plain, asked.question, asked.decoder, asked.output)
    layers = [plain.layer(name) for name in record.layers]
    places = layers_for(plain, record.method, layers or None, score)
    question = Question(score, record.method, places, record.resize, record.normalize, record.steps)
    return verify_map(plain, core, question, pictures=8 if record.steps is None else 2).difference


def _photographs(graph: Graph, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Model input of the shipped photographs; none where the model takes no pictures in gray or colour, but signals."""
    from ..engine.pictures.read import model_input, read_image

    shape = graph.inputs[0].shape
    if graph.own_input is not None or len(shape) not in (0, 4) or graph.channels not in (1, 3):
        return []
    found = []
    for path in photographs()[:2]:
        found.append((path.name, model_input(read_image(path), graph, size).astype(graph.inputs[0].dtype)))
    return found


def _double(value: np.ndarray) -> Any:
    import torch

    tensor = torch.from_numpy(value)
    return tensor.double() if tensor.is_floating_point() else tensor


def _unit(shape: Any, generator: Any) -> Any:
    import torch

    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise / noise.norm()
