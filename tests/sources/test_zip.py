from __future__ import annotations

import io
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
from contract import check_source

from embedkit.errors import DecodeError
from embedkit.sources import ImageReader, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.types import ImageRecord

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def make_zip(path: Path, members: list[tuple[str, bytes]], method: int = 0) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # equal names
        for name, data in members:
            archive.writestr(name, data)
    return path


def scan(path: Path) -> list[ImageRecord]:
    return list(open_source(path).scan())


def refuse(record: ImageRecord, reason: str, max_bytes: int = 2**20) -> None:
    with ImageReader(max_bytes=max_bytes) as reader, pytest.raises(DecodeError, match=reason):
        reader.read(record)


def patch(path: Path, old: bytes, new: bytes, *, count: int = -1) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))


@pytest.mark.parametrize("method", METHODS)
def test_members_in_order(tmp_path: Path, method: int) -> None:
    members = [(f"ant/{i}.jpg", bytes([i]) * i * 1000) for i in range(40)]
    path = make_zip(tmp_path / "a.zip", [*members, ("dir/", b""), (".hidden", b"")], method)
    records = check_source(open_source(path), {f"{path}#{n}": data for n, data in members})
    assert {record.label for record in records} == {"ant"}


def test_equal_and_odd_names(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg", "../up.jpg", "日本.jpg"]
    path = make_zip(tmp_path / "a.zip", [(n, str(i).encode()) for i, n in enumerate(names)])
    kept = ["a.jpg", "a.jpg@2", "../up.jpg", "日本.jpg"]
    check_source(open_source(path), {f"{path}#{n}": str(i).encode() for i, n in enumerate(kept)})


def test_names_without_the_utf8_flag_keep_their_bytes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("cafX.jpg", b"1"), ("YZ.jpg", b"2")])
    patch(path, b"cafX.jpg", b"caf\xe9.jpg")
    patch(path, b"YZ.jpg", "é.jpg".encode())
    check_source(open_source(path), {f"{path}#caf\udce9.jpg": b"1", f"{path}#é.jpg": b"2"})


def test_encrypted_members(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"data"), ("b.jpg", b"more")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    first, second = scan(path)
    refuse(first, "encrypted")
    with ImageReader() as reader:
        assert reader.read(second) == b"more"


def test_unknown_compression(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"data")])
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[8] = data[directory + 10] = 97
    path.write_bytes(data)
    refuse(scan(path)[0], "compression")


def test_wrong_checksums(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"pixels here")])
    patch(path, b"pixels", b"pixelz")
    refuse(scan(path)[0], "CRC")


@pytest.mark.parametrize("method", METHODS[1:])
def test_sizes_that_lie(tmp_path: Path, method: int) -> None:
    size = 50 * 2**20
    path = make_zip(tmp_path / "a.zip", [("a.jpg", bytes(size))], method)
    refuse(scan(path)[0], f"{size} bytes, over the limit")
    # The directory claims 1,000 bytes: no more than that is inflated, and the checksum tells.
    patch(path, struct.pack("<I", size), struct.pack("<I", 1000))
    record = scan(path)[0]
    assert record.nbytes == 1000
    refuse(record, "CRC")


def test_sizes_that_claim_too_much(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"x" * 300)], zipfile.ZIP_DEFLATED)
    patch(path, struct.pack("<I", 300), struct.pack("<I", 400))
    refuse(scan(path)[0], "holds 300 bytes, the archive states 400")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"x" * 500])
def test_no_zip_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    good = make_zip(tmp_path / "b.zip", [("b.jpg", b"b")])
    records = check_source(open_source([path, good]), [str(path), f"{good}#b.jpg"])
    assert str(records[0].problem).startswith("zip archive can't be read: ")


def test_an_archive_that_changed_after_the_scan(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"a"), ("b.jpg", b"b")])
    first, second = scan(path)
    make_zip(path, [("other.jpg", b"c")])
    refuse(first, "changed since it was listed")
    refuse(second, "changed since it was listed")
    path.unlink()
    refuse(first, "no such file")


def test_more_archives_than_stay_open(tmp_path: Path) -> None:
    paths = [make_zip(tmp_path / f"{i}.zip", [("a.jpg", b"%d" % i)]) for i in range(30)]
    check_source(open_source(paths), {f"{p}#a.jpg": b"%d" % i for i, p in enumerate(paths)})


def test_peek_inflates_no_more_than_it_needs(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"head" + bytes(10**6))], zipfile.ZIP_DEFLATED)
    with ImageReader() as reader:
        assert reader.peek(scan(path)[0], 4) == b"head"
    assert zipfile.is_zipfile(io.BytesIO(path.read_bytes()))
