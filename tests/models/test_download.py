"""Downloads against a server on this machine: verified, resumed, and nothing left behind that is wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.adapters.cache import cache_folder
from convscope.errors import ConvscopeError, RefusedInput
from convscope.models.download import download

DATA = np.random.default_rng(0).bytes(700_000)
SUM = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``/file`` with ranges, ``/plain`` without, ``/cut`` breaks off half-way, everything else is missing.

    ``/away`` leads to http elsewhere, ``/here`` to ``/file``; ``/babble`` speaks no HTTP, ``/chunks`` breaks off
    without having said how long it is.
    """

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)  # type: ignore[attr-defined]
        if self.path in ("/away", "/here"):
            self.send_response(302)
            self.send_header("Location", "http://example.com/model" if self.path == "/away" else "/file")
            self.end_headers()
            return
        if self.path == "/babble":
            self.wfile.write(b"\x00\x01 no status line\r\n")
            return
        if self.path == "/chunks":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nonly this")
            return
        if self.path not in ("/file", "/plain", "/cut"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path == "/file" else 0
        body = DATA[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.ranges = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{path}"


def test_a_download_is_verified_reported_and_done_once(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "deep" / "model.onnx"
    for _ in range(2):
        assert download(url(server, "file"), target, SUM, lambda *state: seen.append(state)) == target
    assert target.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(server.ranges) == 1  # type: ignore[attr-defined]
    assert not list(target.parent.glob("*.part"))


@pytest.mark.parametrize("path", ["file", "plain"])
def test_an_interrupted_download_is_continued(server: ThreadingHTTPServer, tmp_path: Path, path: str) -> None:
    target = tmp_path / "model.onnx"
    with pytest.raises(ConvscopeError, match="resumes"):
        download(url(server, "cut"), target, SUM)
    half = (tmp_path / "model.onnx.part").stat().st_size
    assert 0 < half < len(DATA)
    assert not target.exists()
    download(url(server, path), target, SUM)
    assert server.ranges[-1] == f"bytes={half}-"  # type: ignore[attr-defined]
    assert target.read_bytes() == DATA


def test_a_wrong_sum_leaves_nothing_behind(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="sha256"):
        download(url(server, "file"), tmp_path / "model.onnx", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_redirect_to_plain_http_is_refused_and_others_are_followed(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    with pytest.raises(RefusedInput, match=r"leads to 'http://example.com/model'"):
        download(url(server, "away"), tmp_path / "model.onnx", SUM)
    assert not list(tmp_path.iterdir())
    assert download(url(server, "here"), tmp_path / "model.onnx", SUM).read_bytes() == DATA


@pytest.mark.parametrize("path", ["babble", "chunks"])
def test_a_server_that_breaks_http_is_one_line(server: ThreadingHTTPServer, tmp_path: Path, path: str) -> None:
    with pytest.raises(ConvscopeError, match="cannot be fetched") as caught:
        download(url(server, path), tmp_path / "model.onnx", SUM)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_a_place_that_cannot_be_written_is_one_line(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvscopeError, match="cannot be written"):
        download(url(server, "file"), tmp_path / "file" / "model.onnx", SUM)


def test_two_at_once_fetch_once(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(url(server, "file"), target, SUM), range(4)))
    assert len(server.ranges) == 1  # type: ignore[attr-defined]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.stamp"]


def test_a_missing_file_and_an_absent_server_are_one_line(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(ConvscopeError, match="HTTP 404"):
        download(url(server, "none"), tmp_path / "a", SUM)
    with pytest.raises(ConvscopeError, match="cannot be fetched"):
        download("http://127.0.0.1:9/file", tmp_path / "a", SUM)


@pytest.mark.parametrize("bad", ["http://example.com/model", "file:///etc/passwd", "ftp://127.0.0.1/model"])
def test_only_https_leaves_this_machine(tmp_path: Path, bad: str) -> None:
    with pytest.raises(RefusedInput, match="only https"):
        download(bad, tmp_path / "a", SUM)


def test_the_cache_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_file_that_changed_after_it_was_verified_is_fetched_again(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    target = tmp_path / "model.onnx"
    download(url(server, "file"), target, SUM)
    whole = target.read_bytes()
    target.write_bytes(whole[:-1])
    assert download(url(server, "file"), target, SUM).read_bytes() == whole


@pytest.mark.parametrize("kind", ["link", "folder"])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.part"])
def test_nothing_is_written_through_a_link_or_over_a_folder(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    if kind == "link":
        (tmp_path / name).symlink_to(tmp_path / "precious")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(RefusedInput, match="is no plain file"):
        download("http://localhost:1/file", tmp_path / "model.onnx", SUM)
    assert (tmp_path / "precious").read_bytes() == b"precious"
