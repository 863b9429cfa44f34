"""A zip is judged by its directory, before anything is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from convscope.adapters.archives import inspect_zip
from convscope.adapters.formats import format_of
from convscope.errors import RefusedInput, UnsafeFile


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def test_a_plain_archive_is_read(tmp_path: Path) -> None:
    found = inspect_zip(archive(tmp_path / "a.zip", {"x/a": b"1", "b": b"22"}), stored=True)
    assert found.members == {"x/a": 1, "b": 2} and found.read("b") == b"22"


def test_a_compressed_archive_is_read_where_compression_is_normal(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a": b"text " * 1000}, zipfile.ZIP_DEFLATED)
    assert inspect_zip(path).read("a") == b"text " * 1000
    with pytest.raises(UnsafeFile, match="compressed"):
        inspect_zip(path, stored=True)


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "\\\\server\\x", "C:\\x", "a\\..\\..\\b"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeFile, match="outside its folder"):
        inspect_zip(archive(tmp_path / "a.zip", {name: b"x"}))


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile, match="zip bomb"):
        inspect_zip(archive(tmp_path / "a.zip", {"a": bytes(2**24)}, zipfile.ZIP_DEFLATED))


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeFile, match="symbolic link"):
        inspect_zip(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("a", b"1")
        made.writestr("a", b"2")
    with pytest.raises(UnsafeFile, match="twice"):
        inspect_zip(tmp_path / "a.zip")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeFile, match="encrypted"):
        inspect_zip(path)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a": bytes(100_000), "b": b"1"})
    data = path.read_bytes()
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    first = data[data.index(b"PK\x01\x02") : second]
    copies = b"".join(first[:46] + bytes([c]) + first[47:] for c in b"cdef")  # the name begins at byte 46
    end = data.index(b"PK\x05\x06")
    tail = bytearray(data[end:])
    tail[8:12] = (6).to_bytes(2, "little") * 2
    tail[12:16] = (end - data.index(b"PK\x01\x02") + len(copies)).to_bytes(4, "little")
    path.write_bytes(data[:end] + copies + tail)
    with pytest.raises(UnsafeFile, match="more than the file has"):
        inspect_zip(path)


def test_a_member_that_is_too_large_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a": b"0123456789" * 100})
    found = inspect_zip(path)
    with pytest.raises(UnsafeFile, match="limit 10"):
        found.read("a", 10)
    with pytest.raises(RefusedInput, match="no member 'b'"):
        found.read("b")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"9876543210", 1))
    with pytest.raises(RefusedInput, match="damaged"):
        found.read("a")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path / "a.zip", {str(i): bytes(100) for i in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(RefusedInput, match="broken zip"):
        inspect_zip(path)


def test_a_directory_of_hundreds_of_thousands_of_entries_is_not_read(tmp_path: Path) -> None:
    """An entry takes 46 bytes of the file, and hundreds in memory."""
    path = tmp_path / "a.zip"
    entry = b"PK\1\2" + struct.pack("<6H3L5H2L", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    first = b"PK\3\4" + struct.pack("<5H3L2H", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    for count in (2, 2**24 // len(entry) + 1):
        end = struct.pack("<4H2LH", 0, 0, 1, 1, count * len(entry), len(first), 0)
        path.write_bytes(first + count * entry + b"PK\5\6" + end)
        with pytest.raises(RefusedInput, match="directory has 16,777,261 bytes" if count > 2 else "twice"):
            inspect_zip(path)
    with pytest.raises(RefusedInput, match="broken zip archive: its directory"):
        format_of(path)


def test_the_directory_is_read_once_however_many_members_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inspect_zip(archive(tmp_path / "a.zip", {f"{i}": b"x" for i in range(20)}))
    opened: list[Path] = []
    plain = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: opened.append(path) or plain(path))
    assert all(found.read(name) == b"x" for name in found.members)
    assert len(opened) == 1
