"""Sound and arrays in the place of pictures: what the model reads is what the file holds, or the file is refused."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import wave
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.io import wavfile

import convscope
from convscope.cli.main import run
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.read import Picture, image_paths, model_input, read_image
from convscope.errors import RefusedInput, UsageError

from .. import tiny

RATE = 8000


def sound(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """A WAV file of samples (T,) or (T, channels), of any type that scipy writes."""
    wavfile.write(path, rate, samples)
    return path


def listener(path: Path, length: int | None = 64) -> Path:
    """A network on samples (N, T): a convolution, its mean over time, two classes."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(2, 1, 9)).astype(np.float32), "axes": np.array([1])}
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["u"]), helper.make_node("Conv", ["u", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]), helper.make_node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "listener", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", length])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Graph]:
    path = listener(tmp_path_factory.mktemp("net") / "listener.onnx")
    return path, convscope.load(path, trust=True, check=False)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["u1", "<i2", "<i4", "<f4", "<f8"]),
    channels=st.integers(1, 3),
    length=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_samples_are_those_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, channels: int, length: int, seed: int
) -> None:
    true = np.random.default_rng(seed).uniform(-1, 1, (length, channels))
    if kind == "u1":
        written, steps = np.floor((true + 1) * 127.99).astype(np.uint8), 128
    elif kind[1] == "i":
        steps = 2 ** (8 * int(kind[2]) - 1)
        written = np.floor(true * (steps - 1)).astype(kind)
    else:
        written, steps = true.astype(kind), 2**20
    found = read_image(sound(tmp_path_factory.mktemp("wav") / "a.wav", written))
    assert found.is_sound and found.pixels.shape == (1, length, 1) and found.pixels.dtype == np.float32
    np.testing.assert_allclose(2 * found.pixels[0, :, 0] - 1, true.mean(axis=1), atol=2 / steps + 1e-6)
    assert any(f"{RATE:,} Hz" in note for note in found.notes)
    assert any("averaged" in note for note in found.notes) == (channels > 1)


def test_24_bits_and_the_extensible_form_are_read(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "deep.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(b"".join(int(v).to_bytes(3, "little", signed=True) for v in (-(2**23), 0, 2**22)))
    assert (2 * read_image(tmp_path / "deep.wav").pixels[0, :, 0] - 1).tolist() == [-1, 0, 0.5]
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, RATE * 2, 2, 16, 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    body = struct.pack("<hh", -(2**15), 2**14)
    data = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST\x01\0\0\0x\0data" + struct.pack("<I", 4) + body
    (tmp_path / "form.wav").write_bytes(b"RIFF" + struct.pack("<I", len(data)) + data)
    assert (2 * read_image(tmp_path / "form.wav").pixels[0, :, 0] - 1).tolist() == [-1, 0.5]


def _edited(start: int, new: bytes) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, RATE, np.zeros(20, np.int16))
    data = bytearray(file.getvalue())
    data[start : start + len(new)] = new
    return bytes(data)


BROKEN = {
    "without samples": _edited(36, b"none"),
    "without a form": _edited(12, b"none"),
    "of another coding": _edited(20, b"\x55\0"),
    "without channels": _edited(22, b"\0\0"),
    "of odd bits": _edited(34, b"\x0c\0"),
    "of frames that do not fit": _edited(32, b"\x07\0"),
    "cut in its form": _edited(0, b"")[:30],
    "of 20,000 chunks": b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 20_000 + _edited(12, b""),
    "of NaN": b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0"
    + struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    + b"data\x04\0\0\0\0\0\xc0\x7f",
}


def _is_refused_in_one_line(path: Path) -> None:
    with pytest.raises(RefusedInput, match=re.escape(f"{path.name}'")) as refused:
        read_image(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sound_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.wav").write_bytes(BROKEN[name])
    _is_refused_in_one_line(tmp_path / "broken.wav")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(_edited(0, b""))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "f.wav"
    path.write_bytes(bytes(whole[: data.draw(st.integers(12, len(whole)))]))
    try:
        found = read_image(path)
        assert found.pixels.min() >= 0 and found.pixels.max() <= 1
    except RefusedInput:
        pass


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "cut.wav").write_bytes(_edited(40, b"\xff\xff\xff\xff")[:-1])
    assert read_image(tmp_path / "cut.wav").pixels.shape == (1, 19, 1)


@pytest.mark.parametrize("length", [40, 64, 200])
def test_the_model_hears_the_first_samples_and_then_silence(
    hearing: tuple[Path, Graph], tmp_path: Path, length: int
) -> None:
    path, graph = hearing
    samples = np.random.default_rng(1).uniform(-1, 1, length).astype(np.float32)
    heard = np.pad(samples, (0, max(0, 64 - length)))[:64]
    x = model_input(read_image(sound(tmp_path / "a.wav", samples)), graph)
    np.testing.assert_allclose(x.reshape(-1), heard, atol=1e-6)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": heard[None]})
    (found,) = graph.session(["y"]).run(x).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_same_sound_as_an_array_gives_the_same(hearing: tuple[Path, Graph], tmp_path: Path) -> None:
    _, graph = hearing
    samples = np.random.default_rng(2).uniform(-1, 1, 64).astype(np.float32)
    by_sound = model_input(read_image(sound(tmp_path / "a.wav", samples)), graph)
    for array in (samples, samples[None]):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_allclose(model_input(read_image(tmp_path / "a.npy"), graph), by_sound, atol=1e-6)
    np.save(tmp_path / "a.npy", samples[:63])
    with pytest.raises(RefusedInput, match=r"shape 63, and listener takes 64 for one picture"):
        model_input(read_image(tmp_path / "a.npy"), graph)


@pytest.mark.parametrize("shape", [(16, 16, 3), (1, 16, 16, 3)])
def test_an_array_is_model_input_in_the_files_own_layout_and_units(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]  # fmt: skip
    weights = {"w": rng.normal(size=(2, 3, 3, 3)).astype(np.float32)}
    onnx.save(tiny.model(nodes, weights, ("N", 16, 16, 3)), tmp_path / "last.onnx")
    graph = convscope.load(tmp_path / "last.onnx", trust=True, check=False, preprocessing="caffe")
    array = (300 * rng.normal(size=shape)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    (expected,) = onnxruntime.InferenceSession(tmp_path / "last.onnx").run(None, {"x": array.reshape(1, 16, 16, 3)})
    found = graph.session(["y"]).run(model_input(read_image(tmp_path / "a.npy"), graph))["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    np.save(tmp_path / "a.npy", array.reshape(3, 16, 16))
    with pytest.raises(RefusedInput, match="shape 3x16x16, and last takes 16x16x3"):
        model_input(read_image(tmp_path / "a.npy"), graph)


def _npy(header: str) -> bytes:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8)


ARRAYS = {
    "larger than its file": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"),
    "of objects": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
    "of text": _npy("{'descr': '<U2', 'fortran_order': False, 'shape': (1,), }"),
    "without values": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }"),
    "without axes": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }"),
    "with a header that is none": _npy("(" * 90),
    "cut": b"\x93NUMPY",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_no_model_takes_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "array.npy").write_bytes(ARRAYS[name])
    _is_refused_in_one_line(tmp_path / "array.npy")


def test_an_array_of_nan_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, np.nan], np.float32))
    with pytest.raises(RefusedInput, match="finite"):
        read_image(tmp_path / "a.npy")


def test_an_archive_of_one_array_is_that_array_and_of_several_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.savez_compressed(tmp_path / "one.npz", values)
    np.testing.assert_array_equal(read_image(tmp_path / "one.npz").values, values)
    np.savez(tmp_path / "two.npz", a=values, b=values)
    _is_refused_in_one_line(tmp_path / "two.npz")
    with zipfile.ZipFile(tmp_path / "large.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**28 + 1))  # 256 KiB of them in the file
    _is_refused_in_one_line(tmp_path / "large.npz")
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for number in range(1200):
            archive.writestr(f"{number}.npy", b"")
    _is_refused_in_one_line(tmp_path / "many.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:60])
    _is_refused_in_one_line(tmp_path / "cut.npz")


def test_a_folder_gives_its_pictures_or_else_its_sound_or_else_its_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "heat.npy", np.zeros((2, 2)))
    np.savez(tmp_path / "a.npz", np.zeros((2, 2)))
    assert [p.name for p in image_paths([tmp_path])] == ["a.npz", "heat.npy"]
    sound(tmp_path / "b.wav", np.zeros(9, np.int16))
    assert [p.name for p in image_paths([tmp_path])] == ["b.wav"]
    (tmp_path / "a.png").touch()
    assert [p.name for p in image_paths([tmp_path])] == ["a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"\.wav"):
        image_paths([tmp_path / "empty"])


def test_every_verb_over_pictures_takes_sound_and_arrays(
    hearing: tuple[Path, Graph], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = hearing
    wav = sound(tmp_path / "a.wav", np.random.default_rng(3).uniform(-1, 1, 100).astype(np.float32))
    np.save(tmp_path / "b.npy", np.random.default_rng(4).uniform(-1, 1, 64).astype(np.float32))
    both, out = [str(wav), str(tmp_path / "b.npy")], ["-q", "-o"]
    assert run(["predict", str(path), *both]) == 0
    assert "the model hears the first 64" in capsys.readouterr().err
    for verb in ("explain", "activations", "stats"):
        assert run([verb, str(path), *both, *out, str(tmp_path / verb)]) == 0, verb
    assert run(["top", str(path), *both, "--layer", "0", *out, str(tmp_path / "top")]) == 0


def test_sound_and_arrays_are_refused_where_pictures_are_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav = sound(tmp_path / "a.wav", np.zeros(9, np.int16))
    np.save(tmp_path / "b.npy", np.zeros((1, 28, 28), np.float32))
    assert run(["predict", "lenet", str(wav), "-q"]) == 3
    assert "is sound, and lenet takes 1x28x28" in capsys.readouterr().err
    assert run(["dream", "lenet", str(tmp_path / "b.npy"), "--layer", "conv1", "-q", "-o", str(tmp_path / "d")]) == 3
    assert "a photograph is needed here" in capsys.readouterr().err
    assert run(["predict", "lenet", str(tmp_path / "b.npy"), "-q"]) == 0


def test_a_sound_of_one_row_is_never_scaled(hearing: tuple[Path, Graph]) -> None:
    _, graph = hearing
    ramp = np.linspace(0, 1, 128, dtype=np.float32)[None, :, None]
    assert np.array_equal(model_input(Picture(ramp, "ramp"), graph).reshape(-1), 2 * ramp[0, :64, 0] - 1)


@pytest.mark.parametrize(("count", "is_read"), [(2**22, True), (2**26 + 1, False)])
def test_a_long_recording_takes_room_for_its_samples_once(tmp_path: Path, count: int, is_read: bool) -> None:
    """256 MiB of 8 bits are 2 GiB in double, several times over."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE, 1, 8)
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WAVEfmt " + form + b"data" + struct.pack("<I", count))
        file.truncate(file.tell() + count)
    if not is_read:
        _is_refused_in_one_line(path)
        return
    tracemalloc.start()
    try:
        assert read_image(path).pixels.shape == (1, count, 1)
        assert tracemalloc.get_traced_memory()[1] < 8 * count + 40 * 2**20
    finally:
        tracemalloc.stop()


def test_an_array_of_more_values_than_a_picture_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    head = b"\x93NUMPY\1\0" + struct.pack("<H", 118)
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**26 + 1},), }}".ljust(117) + "\n"
    with path.open("wb") as file:
        file.write(head + text.encode())
        file.truncate(128 + 2**26 + 1)
    _is_refused_in_one_line(path)


def test_the_first_samples_of_a_recording_are_the_ones_that_count(tmp_path: Path) -> None:
    whole = _edited(0, b"")
    (tmp_path / "twice.wav").write_bytes(whole + b"data\x04\0\0\0" + b"\xff\x7f" * 2)
    assert read_image(tmp_path / "twice.wav").pixels.shape == (1, 20, 1)
