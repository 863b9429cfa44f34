"""Other places for the files and other ways to run the processes: the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from convscope.engine.atlas.build import Manner
from convscope.engine.atlas.files import opened
from convscope.engine.atlas.report import verified
from convscope.errors import UsageError

from .places import fingerprint, made, network, photographs


def test_an_address_holds_the_same_files_as_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    graph, photos = network(), photographs(tmp_path / "photos", 3)
    made(graph, photos, tmp_path / "atlas", layers="relu1")
    made(graph, photos, "memory://bucket/atlas", layers="relu1")
    files = opened("memory://bucket/atlas")
    local = opened(tmp_path / "atlas")
    assert files.names() == local.names()
    assert files.read("manifest.json") == local.read("manifest.json")
    found = verified(files)
    assert (found["missing"], found["changed"], found["unlisted"]) == ([], [], [])


def test_ray_gives_the_bytes_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    graph, photos = network(), photographs(tmp_path / "photos", 3)
    made(graph, photos, tmp_path / "atlas", layers="relu1")
    made(graph, photos, tmp_path / "ray", layers="relu1", manner=Manner(workers=2, executor="ray"))
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "atlas")


@pytest.mark.parametrize(("package", "extra"), [("fsspec", "cloud"), ("ray", "ray")])
def test_a_missing_package_is_named_with_its_extra(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    def ask() -> object:
        if package == "fsspec":
            return opened("memory://bucket/atlas")
        manner = Manner(executor="ray")
        return made(network(), photographs(tmp_path / "photos", 1), tmp_path / "atlas", layers="relu1", manner=manner)

    with pytest.raises(UsageError, match=rf"pip install 'convscope\[{extra}\]'"):
        ask()


@pytest.mark.parametrize(
    "address", ["reference://x", "nosuch://x", "zip://a::nosuch://b", "simplecache::x://", "memory://"]
)
def test_an_address_that_makes_no_sense_is_refused_in_one_line(address: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match=r"cannot be reached|names no place"):
        opened(address)
