"""What is installed is what is in the tree: a package or data file left out works only where it is editable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("adapters", "cli", "engine", "models")  # the top-level packages; tests and benchmarks stay out


def test_the_package_list_is_the_tree() -> None:
    found = {"convscope"}
    for folder in FOLDERS:
        for module in (ROOT / folder).rglob("*.py"):
            found.add(".".join(("convscope", *module.parent.relative_to(ROOT).parts)))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found
    for package in found - {"convscope"}:
        assert (ROOT.joinpath(*package.split(".")[1:]) / "__init__.py").exists(), f"{package} has no __init__.py"


def copied(copy: Path) -> Path:
    """The sources alone: a build leaves folders behind, from which a later wheel would take old files."""
    junk = shutil.ignore_patterns("__pycache__", "*.pyc")
    copy.mkdir(exist_ok=True, parents=True)
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "__init__.py",
        "errors.py",
        "face.py",
        "__main__.py",
        "py.typed",
    ):
        shutil.copy(ROOT / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=junk)
    return copy


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    copy = copied(folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet", "-w", str(folder)]
    subprocess.run([*command, str(copy)], check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("convscope-*.whl")))


def test_the_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and "__pycache__" not in parts and not path.name.startswith("."):
                assert "convscope/" + "/".join(parts) in inside, f"{'/'.join(parts)} is not in the wheel"
    assert {"convscope/py.typed", "convscope/errors.py", "convscope/__init__.py"} <= inside


def test_the_wheel_puts_nothing_beside_convscope(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"convscope", f"convscope-{PROJECT['project']['version']}.dist-info"}
    assert not any("tests/" in name for name in wheel.namelist())


def test_every_pin_fits_what_the_project_asks_for() -> None:
    from packaging.requirements import Requirement

    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if text := line.split("#")[0].strip():
            pin = Requirement(text)
            pins[pin.name.lower()] = str(pin.specifier).removeprefix("==")
    extras = PROJECT["project"]["optional-dependencies"]
    for line in [*PROJECT["project"]["dependencies"], *(r for extra in extras.values() for r in extra)]:
        wanted = Requirement(line)
        if wanted.name.lower() in pins:
            assert wanted.specifier.contains(pins[wanted.name.lower()]), f"{line} against {pins[wanted.name.lower()]}"


def test_version_is_said_once() -> None:
    import convscope

    assert convscope.__version__ == PROJECT["project"]["version"] == metadata.version("convscope")
