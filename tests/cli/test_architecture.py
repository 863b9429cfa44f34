"""The shape of the code: imports go one way, the engine is silent, the command line is light, nothing is half done."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("adapters", "cli", "engine", "models")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NEVER = {"torchvision", "matplotlib", "cv2", "tensorflow", "pandas"}  # tests and benchmarks only, if at all
HEAVY = {"numpy", "torch", "onnx", "onnxruntime", "PIL", "scipy", "jinja2", "keras", "rich", "h5py", "pyarrow"}


def _imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Absolute names of everything a file imports (relative ones as ``convscope...``), type checking aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["convscope", *path.relative_to(ROOT).parts[:-1]]
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    for node in tree.body if top_only else ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_to_its_place(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"engine": ("adapters", "cli", "models"), "adapters": ("cli",), "models": ("cli",), "cli": ()}[package]
    names = list(_imports(path))
    for name in names:
        assert not name.startswith(tuple(f"convscope.{other}" for other in forbidden)), f"{package} imports {name}"
        assert name.split(".")[0] not in NEVER, f"{name} is not for the product"
        assert name.split(".")[0] not in PACKAGES, f"bare import of {name} loads a second copy of every class"
    if package == "cli":
        heavy = {name for name in _imports(path, top_only=True) if name.split(".")[0] in HEAVY}
        assert not heavy, f"imported before it is needed: {heavy}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_finished_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not tree.body, "the module does not say what it is"
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert "raise NotImplementedError" not in text
    if path.relative_to(ROOT).parts[0] in ("engine", "adapters"):
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, "the engine and the adapters print nothing"


def test_only_artifacts_and_the_array_store_write_files_in_the_engine() -> None:
    writing = re.compile(r"\.write_(bytes|text)\(|open\([^)]*[\"'][wax]b?[\"']|np\.save|\.to_parquet\(")
    allowed = {"engine/render/artifacts.py", "engine/render/array_store.py"}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("engine/") and name not in allowed:
            assert not writing.search(path.read_text(encoding="utf-8")), f"{name} writes files by itself"


def test_the_engine_speaks_of_parameters_and_the_command_line_of_flags() -> None:
    """`cli.output.in_flags` makes ``--layer`` of ``layer=``."""
    flag = re.compile(r"(^|[\s'(])--([a-z]|$)|\bwith -o\b")
    # the command that goes on; pip's own flags; those of other projects' converters
    allowed = {"engine/pages/gallery.py", "engine/installation.py", "adapters/foreign.py"}
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(("engine/", "adapters/")) or name in allowed:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {id(n.value): n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings may
        found = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        ]
        assert not [text for text in found if flag.search(text)], name
