"""What commands share: units, clean text, JSON, opening a model with its flags."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

import convscope
from convscope.cli import loading, main, options, output
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.units import Units, parse_units
from convscope.engine.runs.events import Event, Note, OnEvent, ignore
from convscope.engine.runs.opening import opened
from convscope.errors import ConvscopeError, UsageError

from ..tiny import small_cnn


@given(st.sets(st.integers(0, 499), min_size=1))
def test_units_written_as_numbers_come_back_sorted(units: set[int]) -> None:
    assert parse_units(",".join(map(str, units)), 500).indices == tuple(sorted(units))


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted), min_size=1, max_size=5))
def test_ranges_are_the_union_with_both_ends(ranges: list[list[int]]) -> None:
    text = ", ".join(f"{low}-{high}" for low, high in ranges)
    expected = sorted({u for low, high in ranges for u in range(low, high + 1)})
    assert parse_units(text, 100).indices == tuple(expected)


@given(st.text(max_size=20), st.integers(1, 600))
def test_any_other_text_is_wrong_use_in_one_line(text: str, channels: int) -> None:
    try:
        units = parse_units(text, channels)
    except UsageError as exc:
        assert str(exc)
    else:
        assert all(0 <= u < channels for u in units.indices)
        assert units.indices == tuple(sorted(set(units.indices)))


def test_all_and_top() -> None:
    assert parse_units("all", 3) == Units((0, 1, 2))
    assert parse_units("top:2", 3) == Units((0, 1, 2), 2)
    assert parse_units("top:36", 3) == Units((0, 1, 2), 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64", "unit 64 is out of range, the layer has 64 units"),
        ("0-64", "unit 64 is out of range"),
        ("9-3", "the range 9-3 runs backwards; write 3-9"),
        ("", "is not understood; write all, top:36, or like 0-63,70"),
        ("-3", "is not understood"),
        ("1,,2", "is not understood"),
        ("top:0", "must be at least 1"),
        ("top:x", "is not understood"),
        ("9" * 40, "is not understood"),
        ("٣", "is not understood"),
    ],
)
def test_wrong_units_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_units(text, 64)


@given(st.text())
def test_clean_text_is_one_line_that_a_terminal_only_prints(text: str) -> None:
    cleaned = output.clean(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in cleaned)
    assert len(cleaned.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_names_stay_as_they_are(text: str) -> None:
    assert output.clean(text) == text


def test_json_begins_with_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_json({"b": 1, "a": float("nan")})
    out, err = capsys.readouterr()
    assert list(json.loads(out).items()) == [("schema_version", 1), ("b", 1), ("a", None)]
    assert err == ""


def test_say_is_for_stderr_and_can_be_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("one\ntwo")
    output.say("three", quiet=True)
    assert capsys.readouterr() == ("", "one two\n")


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "tiny.onnx"
    onnx.save(small_cnn(), path)
    return str(path)


def _open(model: str, on_event: OnEvent = ignore, **stated: Any) -> Graph:
    words = {name: default for name, (_, default) in loading.LOADING.items()}
    return opened(loading.opener(model, **{**words, "check": False, **stated}), None, on_event)


def test_flags_change_only_what_they_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    p = _open(model, preprocessing="caffe", mean=(1, 2, 3), range=(-1, 1), order="rgb").preprocessing
    assert (p.mean, p.low, p.high, p.order, p.std) == ((1.0, 2.0, 3.0), -1.0, 1.0, "RGB", (1.0,))
    assert p.found == "flag"
    assert capsys.readouterr().out == ""


def test_assumed_preprocessing_is_said_once_and_not_when_quiet(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["info", model, "--no-check"]) == 0
    said = capsys.readouterr().err
    assert said.count("assumed: range 0..1, RGB") == 1
    assert said.endswith("give --preprocessing, or --mean --std --range --order\n")
    assert main.run(["info", model, "--no-check", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main.run(["info", model, "--no-check", "--preprocessing", "unit"]) == 0
    assert "assumed" not in capsys.readouterr().err


def test_of_two_models_it_is_said_which_is_meant(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["compare", model, model, "--no-check", "--preprocessing-b", "unit"]) == 0
    assert [line[:17] for line in capsys.readouterr().err.splitlines() if "assumed" in line] == ["assumed: A: range"]


def test_python_is_told_what_was_assumed_of_a_model_that_a_verb_opens(model: str) -> None:
    told: list[Event] = []
    convscope.weights(model, on_event=told.append)
    assert any(isinstance(event, Note) and event.text.startswith("assumed: range 0..1, RGB") for event in told)
    told.clear()
    convscope.weights(convscope.load(model, check=False), on_event=told.append)
    assert not [event for event in told if isinstance(event, Note)]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: convscope.filters(m, "conv1", preset="lucit"),
        lambda m: convscope.filters(m, "conv1", start="nowhere.png"),
        lambda m: convscope.maximize(m, "top:0"),
        lambda m: convscope.activations(m, "nowhere.png"),
        lambda m: convscope.activations(m, [], save="hdf5"),
        lambda m: convscope.predict(m, "", top=1),
        lambda m: convscope.stats(m, ".", device="tpu"),
        lambda m: convscope.weights(m, units="x"),
        lambda m: convscope.verify(m, batch=0),
        lambda m: convscope.compare(m, m, size=0),
        lambda m: convscope.weights(m, folder=__file__),
    ],
)
def test_python_too_refuses_what_no_model_can_have_before_it_opens_one(
    call: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("convscope.models.load.load", never)
    with pytest.raises(UsageError):
        call("lenet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (1, 2)}, "mean has 2 values, but the model's input has 3 channels"),
        ({"std": (0.0,)}, "std='0' divides by zero"),
        ({"range": (1,)}, "range='1' has 1 values; write LOW,HIGH"),
        ({"order": "rbg"}, "order='rbg' is unknown; choose RGB, BGR or GRAY"),
        ({"image_size": 0}, "size 0 is not positive"),
        ({"image_size": 99999}, "size 99999 is too large: at most 65536 pixels a side"),
        ({"preprocessing": "tensorflow"}, "'tensorflow' is unknown; choose one of caffe, tf"),
    ],
)
def test_flags_that_do_not_fit_are_wrong_use(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _open(model, **options)


@pytest.mark.parametrize("text", ["a,b", "nan", "", "1,,2"])
def test_numbers_of_another_form_are_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match=f"--mean '{text}' is not understood; write numbers with commas"):
        _read("mean", loading.LOADING, text)


def test_info_s_json_is_what_the_issue_says(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["info", model, "--json", "--no-check"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert set(report) >= {"schema_version", "layers", "inputs", "outputs", "preprocessing", "source"}
    first = report["layers"][0]
    assert set(first) >= {"index", "name", "tensor", "op", "channels", "shape", "receptive_field", "parameters", "macs"}
    assert first["receptive_field"]["size"] == [3, 3]
    assert set(first["receptive_field"]) == {"size", "stride", "offset"}
    assert (first["op"], first["channels"], first["parameters"]) == ("Conv", 8, 8 * 3 * 9 + 8)
    assert report["source"]["sha256"]
    assert "assumed" in err


def test_info_in_a_pipe_shows_whole_rows_without_escapes(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["info", model, "--no-check", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out and "\r" not in out and "…" not in out
    assert any(line.split()[1:4] == ["conv1", "Conv", "Nx8x16x16"] for line in out.splitlines())


def test_command_line_takes_every_loading_option(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--mean", "1,2,3", "--std", "4", "--range", "-1,1", "--order", "BGR", "--no-check"]
    assert main.run(["info", model, "--json", *flags]) == 0
    p = json.loads(capsys.readouterr().out)["preprocessing"]
    assert (p["mean"], p["std"], p["low"], p["high"], p["order"]) == ([1, 2, 3], [4], -1, 1, "BGR")


def test_hostile_layer_names_reach_the_terminal_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = small_cnn()
    for node in evil.graph.node:
        node.name = "\x1b[2J\u202e[red]" + node.name
    onnx.save(evil, tmp_path / "evil.onnx")
    try:
        _open(str(tmp_path / "evil.onnx"))
    except ConvscopeError:
        pytest.skip("the loader refuses such names altogether")
    assert main.run(["info", str(tmp_path / "evil.onnx"), "--no-check"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out


def _read(name: str, group: options.Group, text: str) -> Any:
    """What an option makes of a text."""
    return group[name][0].__metadata__[0].parser(text)


@pytest.mark.parametrize(("text", "size"), [("128", 128), ("48x320", (48, 320)), ("48,320", (48, 320)), ("0", 0)])
def test_a_size_is_a_side_or_height_and_width(text: str, size: int | tuple[int, int]) -> None:
    assert _read("size", options.ASCENT, text) == size


@pytest.mark.parametrize("text", ["", "a", "1x2x3", "12px", "99999999999999"])
def test_a_size_of_another_form_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match=r"--size '.*' is not understood; write 128 or HEIGHTxWIDTH"):
        _read("size", options.ASCENT, text)


def test_inputs_are_numbers_rows_or_files() -> None:
    texts = ("sr=16000", "im_shape=640,480", "state:0=state.npy")
    found = dict(_read("input", loading.LOADING, text) for text in texts)
    assert found == {"sr": 16000.0, "im_shape": (640.0, 480.0), "state:0": Path("state.npy")}
    for text in ("sr", "=3", "sr=", "sr=fast"):
        with pytest.raises(UsageError, match=r"--input .* numbers with commas, NAME=FILE\.npy"):
            _read("input", loading.LOADING, text)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("units='x' is not understood", "--units 'x' is not understood"),
        ("pass trust=True, or check=False if", "pass --trust, or --no-check if"),
        ("name layers with layer=", "name layers with --layer"),
        ("(layer= overrides)", "(--layer overrides)"),
        ("tuning['decay']=7: give less", "--set decay=7: give less"),
        ("inputs['state']: of another shape", "--input state: of another shape"),
        ("give load(size=(HEIGHT, WIDTH))", "give --image-size HEIGHTxWIDTH"),
        ("'a units=3 b' /units=3/ other=True", "'a --units 3 b' /units=3/ other=True"),
    ],
)
def test_what_python_says_of_a_parameter_is_said_of_the_flag(said: str, shown: str) -> None:
    with output.running(["filters"]):
        assert output.in_flags(said) == said.replace(*output._SIZE_OF_INPUT)  # no command runs yet
        output.understand(get_command(main.build()).commands["filters"].params)  # type: ignore[attr-defined]
        assert output.in_flags(said) == shown
