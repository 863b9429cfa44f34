"""Reading weights from a Torch file that nobody has vouched for, and putting them into a network.

Only tensors are read (``weights_only=True``). The file is never memory-mapped: torch then returns wrong
weights for a storage record that is shorter than it says, or compressed, instead of refusing it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.executors.session import first_line
from ...errors import RefusedInput, UnsafeFile
from ..archives import inspect_zip
from .pickles import MAX_BYTES, check_legacy, check_pickle

# where training frameworks put the weights inside a checkpoint, the likeliest first
_NESTED = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "ema", "params_ema", "params",
           "ema_state_dict", "model_state", "best_model", "net", "network", "module", "weights", "generator",
           "backbone")  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")  # of DataParallel, torch.compile, wrappers
_SHAPES_NAMED = 6  # sizes that differ, in a message
_DEEPEST = 4  # parts of a name that a wrapper's prefix may take
_MAX_HEADER, _MAX_ENTRIES = 2**24, 100_000  # bytes and tensors of a safetensors header
_SAVE_HINT = "save torch.save(model.state_dict(), ...) and give arch=, or export the model to ONNX"

# what training keeps beside the weights, by the names of its classes: settings, numbers, paths, dates
_BESIDE = re.compile(
    r"(argparse\.Namespace|types\.SimpleNamespace|typing\.\w+|collections\.defaultdict|datetime\.\w+|pathlib\.\w+|"
    r"enum\.\w+|_codecs\.encode|builtins\.(dict|list|set|tuple|int|float|str|bool|bytes|complex|slice|range)|"
    r"(numpy|omegaconf|lightning|pytorch_lightning|lightning_fabric|lightning_utilities|yacs|easydict|addict|box|"
    r"ml_collections|munch)(\.\w+)+)"
)

StateDict = dict[str, Tensor]


class _Unread:
    """Stands for an object beside the weights: made of anything, told anything, knows nothing and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Unread:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _unread_dict(*_: Any) -> dict[Any, Any]:
    """Stands for a dictionary of a class of its own; its entries are put into a plain one."""
    return {}


def read_state(path: Path, kind: str) -> tuple[StateDict, list[str]]:
    """The weights in a Torch or safetensors file by name, and notes for the user.

    Args:
        path: the file.
        kind: "safetensors", "torch-zip" or "torch-legacy".

    Raises:
        UnsafeFile: it holds pickled objects, or tensors that are larger than their bytes.
        RefusedInput: damaged, or without weights.
    """
    if kind == "safetensors":
        return check_tensors(_read_safetensors(path), path), []
    if kind == "torch-zip":
        archive = inspect_zip(path, stored=True)
        for name in (n for n in archive.members if n.rpartition("/")[2] == "data.pkl"):
            check_pickle(archive.read(name, MAX_BYTES), path)
    else:
        check_legacy(path)
    content, unread = _read_tensors(path)
    state, notes = find_state(content, path)
    if unread:
        notes = [*notes, f"objects beside the weights were left unread: {_some(unread)}"]
    return check_tensors(state, path), notes


def read_trusted(path: Path) -> Any:
    """Whatever the file holds, unpickled: runs any code in it. Only after the user's ``--trust``."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False, mmap=False)
    except Exception as error:
        raise RefusedInput(f"{path} cannot be unpickled: {first_line(error)}") from error


def find_state(content: Any, path: Path) -> tuple[StateDict, list[str]]:
    """The state dict inside a checkpoint; ``module.`` and the like are left for `fit`."""
    depth = 0
    trail: list[str] = []
    while isinstance(content, Mapping) and depth < 4:
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
        inner = next((k for k in _NESTED if isinstance(content.get(k), Mapping)), None)
        if tensors and (inner is None or len(tensors) > 2):
            return tensors, [f"weights taken from '{'.'.join(trail)}' of the checkpoint"] if trail else []
        if inner is None:
            break
        content = content[inner]
        trail.append(inner)
        depth += 1
    found = type(content).__name__
    if isinstance(content, Mapping):
        found += " with the keys " + ", ".join(repr(k)[:40] for k in list(content)[:5])
    raise RefusedInput(f"{path} holds no weights by name (found a {found}); {_SAVE_HINT}")


def check_tensors(state: StateDict, path: Path) -> StateDict:
    """Refuses tensors that would grow when copied, and kinds that no network of ours uses."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise RefusedInput(f"{path}: weight '{name[:80]}' is not a plain dense tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UnsafeFile(
                f"{path}: weight '{name[:80]}' of shape {tuple(tensor.shape)} has only "
                f"{tensor.untyped_storage().nbytes():,} bytes behind it"
            )
    return state


def fit(module: nn.Module, state: StateDict, path: Path, arch: str) -> list[str]:
    """Loads the weights into the module; returns notes.

    Raises:
        RefusedInput: a weight is missing, has another shape, or belongs to a part that the module has but
            without that weight (a bias, a batch-norm). The names are in the message.
    """
    own = module.state_dict()
    state, notes = _strip(state, set(own))
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own and not k.endswith("num_batches_tracked")]
    shapes = [
        f"'{k}' is {tuple(state[k].shape)}, the network's is {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    parts = {name for name, _ in module.named_modules() if name}
    contradicting = [k for k in unexpected if k.rpartition(".")[0] in parts]
    if missing or shapes or contradicting:
        problems = [
            *([f"missing {_some(missing)}"] if missing else []),
            *([f"unexpected {_some(unexpected)}"] if unexpected else []),
            *shapes[:_SHAPES_NAMED],
            *([f"and {len(shapes) - _SHAPES_NAMED} more sizes"] if len(shapes) > _SHAPES_NAMED else []),
        ]
        if unexpected and not any(name in own for name in state):
            problems.append(
                "no name is the same: it may be another library's network (arch=torchvision.models:NAME, for instance)"
            )
        raise RefusedInput(f"the weights in {path} do not fit arch={arch}: " + "; ".join(problems))
    if unexpected:
        notes.append(f"weights of parts that arch={arch} does not have were left out: {_some(unexpected)}")
    module.load_state_dict({k: state[k] for k in own if k in state}, strict=False)
    return notes


def head_classes(state: StateDict, module: nn.Module, classifier: str) -> int | None:
    """The number of classes in the file where it differs from the module's, by timm's classifier name."""
    own = dict(module.named_parameters())
    for prefix in ("", *_PREFIXES):
        weight = state.get(f"{prefix}{classifier}.weight")
        if weight is not None and weight.ndim and f"{classifier}.weight" in own:
            classes = int(weight.shape[0])
            return classes if classes != own[f"{classifier}.weight"].shape[0] and classes <= 10**6 else None
    return None


def other_classes(state: StateDict, module: nn.Module) -> int | None:
    """The number of classes in the file, where nothing but the last layer's differs from the module's."""
    own = module.state_dict()
    state, _ = _strip(state, set(own))
    layers = {name.rpartition(".")[0] for name in own if name in state and state[name].shape != own[name].shape}
    name = f"{layers.pop()}.weight" if len(layers) == 1 else ""
    if name not in own or name not in state or own[name].ndim not in (2, 4) or state[name].ndim != own[name].ndim:
        return None
    classes = int(state[name].shape[0])
    return classes if state[name].shape[1:] == own[name].shape[1:] and classes <= 10**6 else None


def _strip(state: StateDict, own: set[str]) -> tuple[StateDict, list[str]]:
    """Removes a wrapper's prefix from the names, where more of the network's own names come out without it.

    Names that do not bear it stay as they are: a loss's buffers beside Lightning's ``model.``, the counter of an
    averaged model beside its ``module.``.
    """
    fitting: Counter[str] = Counter()
    for name in state:
        for depth, place in enumerate(match.end() for match in re.finditer(r"\.", name)):
            if depth < _DEEPEST and name[place:] in own:
                fitting[name[:place]] += 1
    best = max(sorted(fitting), key=lambda prefix: fitting[prefix], default="")
    if fitting[best] <= len(own & set(state)):
        return state, []
    stripped = {k.removeprefix(best): v for k, v in state.items() if k.startswith(best)}
    others = {k: v for k, v in state.items() if not k.startswith(best) and k not in stripped}
    return {**stripped, **others}, [f"the prefix '{best}' was removed from the weights' names"]


def _some(names: list[str], shown: int = 3) -> str:
    text = ", ".join(f"'{n[:60]}'" for n in names[:shown])
    return text + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _read_tensors(path: Path) -> tuple[Any, list[str]]:
    """What the file holds, and the classes of objects beside the weights, of which nothing was made."""
    try:
        return _load_tensors(path, []), []
    except Exception as first:  # pickle, zip and allocation errors of many types
        error, text = first, str(first)
        beside = _beside(path) if "GLOBAL" in text else []
        if beside:
            try:
                return _load_tensors(path, beside), beside
            except Exception as second:
                error, text = second, str(second)
        if match := re.search(r"GLOBAL ([\w.]+)", text):
            raise UnsafeFile(
                f"{path} holds pickled Python objects ({match[1][:80]}), and unpickling runs any code in the file; "
                f"{_SAVE_HINT}, or pass trust=True if you made the file yourself"
            ) from None
        if "Weights only load failed" in text or "weights_only" in text:
            raise UnsafeFile(
                f"{path} holds more than weights, and unpickling runs any code in the file; "
                f"{_SAVE_HINT}, or pass trust=True if you made the file yourself"
            ) from None
        raise RefusedInput(f"{path} is a damaged Torch file: {first_line(error, 160)}") from None


def _load_tensors(path: Path, unread: list[str]) -> Any:
    """By torch's own reader of tensors and plain containers; classes of these names are neither imported nor made."""
    stand_ins = [
        (_unread_dict if name.rpartition(".")[2] in ("dict", "defaultdict") else _Unread, name) for name in unread
    ]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]  # a function has a name too
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def _beside(path: Path) -> list[str]:
    """The classes that torch's reader does not know, where all are of those that training keeps beside weights."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a file of before torch 1.6, or none at all
        return []
    return sorted(names) if all(_BESIDE.fullmatch(name) for name in names) else []


def _read_safetensors(path: Path) -> StateDict:
    from safetensors.torch import load_file

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = file.read(min(length, _MAX_HEADER + 1)).count(b'"data_offsets"')
    if length > _MAX_HEADER or entries > _MAX_ENTRIES:
        raise UnsafeFile(
            f"{path}: its header has {length:,} bytes and {entries:,} tensors; at most {_MAX_HEADER:,} and "
            f"{_MAX_ENTRIES:,} are read"
        )
    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise RefusedInput(f"{path} is a damaged safetensors file: {first_line(error, 160)}") from None
