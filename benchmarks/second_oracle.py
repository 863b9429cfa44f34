"""What onnx2pytorch makes of the ONNX node tests that it takes, beside the expected values and beside the twin.

It is none of our dependencies; in an environment of its own::

    python -m venv --system-site-packages FOLDER && FOLDER/bin/pip install --no-deps onnx2pytorch==0.6.0
    FOLDER/bin/python -m benchmarks.second_oracle

Prints the counts, and each test on which the two part, with what the expected values say of either.
"""

from __future__ import annotations

import warnings
from collections import Counter

import torch

from convscope.adapters.torch.export import flat_outputs
from tests.node_tests import NodeTest, _difference, _tensor, _with_weights, node_tests, outcome


def main() -> None:
    """Runs every test in the form "constant"."""
    torch.set_num_threads(1)
    # torchvision's wheels do not load beside CPU builds of torch; onnx2pytorch imports them for two operators
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    counts: Counter[str] = Counter()
    for test in node_tests():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = theirs_of(test)
            ours = outcome(test, "constant").partition(": ")[0]
        kind = theirs.partition(": ")[0]
        counts[f"onnx2pytorch {kind}, twin {ours}"] += 1
        if kind == "other":
            print(f"{test.name}: onnx2pytorch {theirs}; twin {ours}")
    for line, count in sorted(counts.items()):
        print(f"{count:5} {line}")


def theirs_of(test: NodeTest) -> str:
    """What became of a test beside its expected values: "passed", "refused: ..." or "other: ..."."""
    from onnx2pytorch import ConvertModel

    model = _with_weights(test)
    try:
        network = ConvertModel(model, experimental=True).eval()
        with torch.no_grad():
            found = network(*(_tensor(test.inputs[i.name]) for i in model.graph.input))
    except Exception as error:  # whatever it raises, it does not compute the test
        return f"refused: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
    for value, (name, expected) in zip(flat_outputs(found), test.outputs.items(), strict=False):
        if (problem := _difference(value, expected, test)) is not None:
            return f"other: {name}: {problem}"
    return "passed"


if __name__ == "__main__":
    main()
