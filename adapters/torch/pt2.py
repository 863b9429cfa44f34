"""``.pt2`` archives of torch.export, read without letting them run code.

`torch.export.load` is not made for files from strangers: it unpickles without restriction (weights marked so,
custom and opaque objects, sample inputs that the safe loader refuses), loads compiled libraries, evaluates
symbolic expressions and guards as Python, and resolves any dotted name under ``torch`` as an operator. So the
archive is not given to it. What a network needs (graph, weights, constants) is checked against lists of what is
known to be harmless and written into a new archive in memory; everything else stays behind.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...engine.executors.session import first_line
from ...errors import RefusedInput, UnsafeFile
from ..archives import Archive, inspect_zip
from .export import Export, export_program, flat_outputs
from .operators import is_listed

_MAX_WEIGHT = 2**32  # bytes of one record
_RECORD = re.compile(r"(weight|tensor)_\d+")
_SYMBOL = re.compile(r"[a-z]+\d+")
_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*)|'([^']*)'|\d{1,19}(?:\.\d{1,19})?|\*\*|[-+*/(),=<>!~&|])")
_WORD = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod"
    r"|ModularIndexing|CleanDiv|IntTrueDiv|FloatTrueDiv|PowByNatural|TruncToInt|FloorToInt|CeilToInt"
    r"|RoundToInt|ToFloat|Identity|Where|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|StrictLessThan|LessThan"
    r"|StrictGreaterThan|GreaterThan|And|Or|Not|positive|nonnegative|nonzero|integer|real|zero|True"
    r"|False|oo|int_oo"
)
_ATEN = re.compile(r"torch\.ops\.(aten|prims)\.(\w+)\.(\w+)")
_ARITHMETIC = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|index)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|max|min|ite|not|sqrt|sum)"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
    r"|torch\._C\._set_grad_enabled"
)
_SMALL_POWER = re.compile(
    r"\*\*\s*[0-4](?![\d.]|\s*\*\*)|Pow(?:ByNatural)?\((?:Symbol\('\w+'[^()]*\)|\w+)\s*,\s*(?:Integer\()?[0-4]\)"
)
_RESIZES = {"resize", "resize_", "resize_as", "resize_as_", "set", "set_", "resize_output"}
_MAKES = re.compile(
    r"(new_)?(full|zeros|ones|empty|rand|randn|randint|randperm)(_like|_strided|_permuted)?$|arange|linspace|logspace|eye"
    r"|col2im|max_unpool|adaptive_|conv_transpose|affine_grid|fft_|_fft_|i?stft|(hann|hamming|blackman)_window|bincount"
    r"|histc|nonzero_static|tri[lu]_indices|expand|repeat|tile|one_hot|constant_pad_nd|pad|reflection_pad|replication_pad|upsample|as_strided"
)
_MAX_MADE = 2**28  # values
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_TOP = ("graph_module", "opset_version", "range_constraints", "schema_version", "verifiers", "torch_version")


def export_archive(path: Path) -> Export:
    """The archive's network as ONNX, checked against the archive's own program.

    Raises:
        UnsafeFile: it holds pickled objects, compiled code, operators or expressions that are not on the list.
        RefusedInput: damaged, of another version of torch, or not exportable.
    """
    program = _program(path)
    module = program.module(check_guards=False)
    assert isinstance(module, nn.Module)
    return export_program(program, module, example_of(program, str(path)))


def run_archive(path: Path, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What the archive's own program makes of one picture.

    Args:
        path: the archive.
        feeds: its inputs by name; of a program of one input whatever its name.

    Raises:
        UnsafeFile, RefusedInput: as `export_archive`, or it takes other inputs.
    """
    program = _program(path)
    known = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    if len(names) == len(feeds) == 1:
        feeds = {names[0]: next(iter(feeds.values()))}
    if set(names) != feeds.keys():
        raise RefusedInput(f"{path} takes the inputs {', '.join(map(str, names))}, not {', '.join(feeds)}")
    batch = known[names[0]].shape[0]
    rows = batch if isinstance(batch, int) else 1
    given = [torch.tensor(feeds[name]).to(known[name].dtype) for name in names]
    given = [x.repeat(rows, *[1] * (x.ndim - 1)) if x.ndim and len(x) == 1 else x for x in given]
    with torch.no_grad():
        outputs = flat_outputs(program.module(check_guards=False)(*given))
    return [value[:1] if value.ndim and len(value) == rows else value for value in outputs]


def _program(path: Path) -> Any:
    """The archive's program, checked."""
    copy = harmless_copy(inspect_zip(path, stored=True))
    try:
        return torch.export.load(io.BytesIO(copy))
    except RefusedInput:
        raise
    except Exception as error:
        raise RefusedInput(
            f"{path} cannot be read by torch {torch.__version__}: {first_line(error, 160)}; "
            "save it again with this version, or export to ONNX"
        ) from None


def harmless_copy(archive: Archive) -> bytes:
    """An archive in memory that holds what a network needs, as far as it is on the lists.

    Raises:
        UnsafeFile, RefusedInput: as `export_archive`.
    """
    try:
        return _harmless_copy(archive)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        raise RefusedInput(
            f"{archive.path} is a damaged torch.export archive: {type(error).__name__} {first_line(error, 100)}"
        ) from None


def _harmless_copy(archive: Archive) -> bytes:
    path = archive.path
    root = next((n.split("/", 1)[0] for n in archive.members if n.endswith("/models/model.json")), None)
    if root is None:
        raise RefusedInput(f"{path} holds no models/model.json; save it again with torch 2.8 or newer")
    for name in archive.members:
        if "/data/aotinductor/" in name:
            raise UnsafeFile(f"{path} holds compiled code; save the exported program alone (torch.export.save)")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as copy:

        def put(name: str, data: bytes) -> None:
            copy.writestr(f"model/{name}", data)

        put("archive_format", b"pt2")
        put("archive_version", archive.read(f"{root}/archive_version", 100))
        put(".data/version", b"3\n")
        put("byteorder", b"little")
        put("data/sample_inputs/model.pt", b"")
        put("models/model.json", json.dumps(_checked_program(archive, root)).encode())
        for folder, config in (("weights", "model_weights_config"), ("constants", "model_constants_config")):
            name = f"data/{folder}/{config}.json"
            entries = _checked_payloads(_json(archive, f"{root}/{name}"), archive, f"{root}/data/{folder}")
            put(name, json.dumps({"config": entries}).encode())
            for record in sorted({entry["path_name"] for entry in entries.values()}):
                put(f"data/{folder}/{record}", archive.read(f"{root}/data/{folder}/{record}", _MAX_WEIGHT))
    return buffer.getvalue()


def _checked_program(archive: Archive, root: str) -> dict[str, Any]:
    program = {k: v for k, v in _json(archive, f"{root}/models/model.json").items() if k in _TOP}
    program["guards_code"] = []  # Python source, which torch would run
    for name in program.get("range_constraints", {}):
        if not _SYMBOL.fullmatch(name):
            raise UnsafeFile(f"{archive.path} has a symbol named {name[:60]!r}")
    inner = program.get("graph_module", {})
    inner["metadata"] = {}
    inner["treespec_namedtuple_fields"] = {}
    for call in inner.get("module_call_graph", []):
        for spec in (call.get("signature") or {}).get("in_spec"), (call.get("signature") or {}).get("out_spec"):
            if spec:
                _check_tree(json.loads(spec)[1], archive.path)
    try:
        _check_values(program, archive.path)
    except RecursionError:
        raise UnsafeFile(f"{archive.path} nests its graph too deep") from None
    return program


def _check_values(value: Any, path: Path) -> None:
    """Walks the whole program: operators, expressions, and no objects that only pickle can restore."""
    if isinstance(value, list):
        for item in value:
            _check_values(item, path)
    elif isinstance(value, dict):
        if isinstance(value.get("metadata"), dict):  # keeps module paths for the names, nothing else
            stack = value["metadata"].get("nn_module_stack")
            value["metadata"] = {"nn_module_stack": stack} if isinstance(stack, str) else {}
        for key in ("device", "as_device"):
            if isinstance(value.get(key), dict):
                value[key] = {"type": "cpu", "index": None}
        if isinstance(value.get("target"), str):
            _check_size(value, path)
        for key, item in value.items():
            if key in ("target", "as_operator") and isinstance(item, str):
                _check_operator(item, path)
            elif key == "expr_str":
                _check_expression(item, path)
            elif key in ("as_custom_obj", "custom_obj", "as_opaque", "opaque"):
                raise UnsafeFile(f"{path} holds a pickled object ({key}); export the model to ONNX")
            else:
                _check_values(item, path)


def _check_operator(name: str, path: Path) -> None:
    if _ARITHMETIC.fullmatch(name):
        return
    match = _ATEN.fullmatch(name)
    packet = getattr(getattr(torch.ops, match[1]), match[2], None) if match else None
    overload = getattr(packet, match[3], None) if match else None
    schema = getattr(overload, "_schema", None)
    if match is None or schema is None or not is_listed(match[2]):
        raise UnsafeFile(
            f"{path} calls {name[:80]!r}, which is none of the operators that networks are made of; export it to ONNX"
        )


def _check_expression(text: Any, path: Path) -> None:
    """Symbolic sizes are evaluated as Python by sympy, so only known words and arithmetic may be in them."""
    position = 0
    while isinstance(text, str) and len(text) <= 2000 and position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        word, quoted = (match[1], match[2]) if match else (None, None)
        if match is None or (word and not _WORD.fullmatch(word) and not _SYMBOL.fullmatch(word)):
            break
        if quoted is not None and not _SYMBOL.fullmatch(quoted):
            break
        position = match.end()
    else:
        if isinstance(text, str) and len(text) <= 2000 and _is_small(text):
            return
    raise UnsafeFile(f"{path} has the size expression {str(text)[:60]!r}, which is not plain arithmetic")


def _is_small(text: str) -> bool:
    """Whether an expression has no powers but small ones, at most two, and no shifts: ``9**9**9`` never ends."""
    powers = text.count("**") + text.count("Pow")
    return powers <= 2 and powers == len(_SMALL_POWER.findall(text)) and "<<" not in text and ">>" not in text


def _check_size(node: dict[str, Any], path: Path) -> None:
    """A call that makes a tensor out of numbers may not make an absurd one."""
    target = str(node.get("target", ""))
    name = target.split(".")[-2] if target.count(".") >= 2 else ""
    if name in _RESIZES:
        raise UnsafeFile(f"{path} calls {target[:80]!r}, which changes a tensor's memory")
    if not _MAKES.match(name):
        return
    for argument in node.get("inputs") or []:
        given = argument.get("arg") if isinstance(argument, dict) else None
        numbers = _numbers(given)
        if any(abs(n) > _MAX_MADE for n in numbers) or prod(max(abs(n), 1) for n in numbers) > _MAX_MADE:
            raise UnsafeFile(f"{path} calls {target[:80]!r} with the absurd size {numbers[:6]}")


def _numbers(argument: Any) -> list[int]:
    """The whole numbers of an argument, at most as many as a shape has."""
    if not isinstance(argument, dict):
        return []
    value = argument.get("as_int", argument.get("as_ints"))
    found = value if isinstance(value, list) else [value]
    found += [s.get("as_int") for s in argument.get("as_sym_ints") or [] if isinstance(s, dict)]
    return [n for n in found if isinstance(n, int)][:64]


def _check_tree(spec: Any, path: Path) -> None:
    """The structure of inputs and outputs: plain containers, since others import modules by name."""
    if not isinstance(spec, dict) or spec.get("type") not in _CONTAINERS or "__enum__" in str(spec.get("context")):
        raise UnsafeFile(f"{path} passes values in {str(spec)[:60]!r}; only tuples, lists and dicts are read")
    for child in spec.get("children_spec", []):
        _check_tree(child, path)


def _checked_payloads(config: dict[str, Any], archive: Archive, folder: str) -> dict[str, Any]:
    entries = config.get("config", {})
    for name, entry in entries.items():
        shown, record = name[:80], str(entry.get("path_name"))
        if entry.get("use_pickle") or not _RECORD.fullmatch(record):
            raise UnsafeFile(f"{archive.path}: '{shown}' is stored as a pickled object; export the model to ONNX")
        meta = entry["tensor_meta"]
        sizes, strides = ([d["as_int"] for d in meta[key]] for key in ("sizes", "strides"))
        if min((*sizes, *strides, meta["storage_offset"]["as_int"]), default=0) < 0 or len(sizes) != len(strides):
            raise RefusedInput(f"{archive.path}: weight '{shown}' has a negative size")
        last = meta["storage_offset"]["as_int"] + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        available = archive.members.get(f"{folder}/{record}", 0)
        if prod(sizes) > available or (prod(sizes) and last >= available) or (not available and sizes != [0]):
            raise UnsafeFile(f"{archive.path}: weight '{shown}' of shape {sizes} has only {available:,} bytes")
        meta["device"] = {"type": "cpu", "index": None}
    return entries


def _json(archive: Archive, name: str) -> dict[str, Any]:
    try:
        value = json.loads(archive.read(name))
    except (ValueError, RecursionError):
        raise RefusedInput(f"{archive.path}: member '{name}' is not valid JSON") from None
    if not isinstance(value, dict):
        raise RefusedInput(f"{archive.path}: member '{name}' is not a JSON object")
    return value


def example_of(program: Any, where: str) -> tuple[Tensor, ...]:
    """Random inputs of the shapes that a program was exported with; ``where`` it is, for messages."""
    generator = torch.Generator().manual_seed(0)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    examples = []
    for name in program.graph_signature.user_inputs:
        value = values.get(name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise RefusedInput(f"{where}: input '{name}' is not an image but a {type(value).__name__}")
        shape = [d if isinstance(d, int) else int(d.node.hint or 2) for d in value.shape]
        if prod(shape) > 2**28:
            raise UnsafeFile(f"{where}: input '{name}' has the absurd shape {tuple(shape)}")
        examples.append(torch.rand(shape, generator=generator).to(value.dtype))
    return tuple(examples)
