from __future__ import annotations

import io
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from contract import check_source

from embedkit.errors import DecodeError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.readers import tar as tar_reader
from embedkit.sources.readers.compression import ForwardFile
from embedkit.sources.tar import _LeanTar

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.sources.readers.stream_window import ForwardWindow
    from embedkit.types import ImageRecord

PLAIN_AND_COMPRESSED = ["", "gz", "bz2", "xz"]


def make_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def scan(path: Path) -> list[ImageRecord]:
    return list(open_source(path).scan())


@pytest.mark.parametrize("compression", PLAIN_AND_COMPRESSED)
def test_members_in_order(tmp_path: Path, compression: str) -> None:
    rng = random.Random(0)
    members = [(f"c{i % 3}/{i}.jpg", rng.randbytes(rng.randrange(3000))) for i in range(60)]
    name = f"a.tar.{compression}" if compression else "a.tar"
    path = make_tar(tmp_path / name, members, f"w:{compression}")
    records = check_source(open_source(path), {f"{path}#{n}": data for n, data in members})
    assert [record.label for record in records[:4]] == ["c0", "c1", "c2", "c0"]
    assert records[0].nbytes == len(members[0][1])


def test_the_content_tells_the_compression(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [("a.jpg", b"data")], "w:gz")
    check_source(open_source(path), {f"{path}#a.jpg": b"data"})


def test_equal_names_stay_apart(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg", "a.jpg@2", "a.jpg", "/abs.jpg", "../up.jpg", "./b.jpg"]
    path = make_tar(tmp_path / "a.tar", [(n, str(i).encode()) for i, n in enumerate(names)])
    kept = ["a.jpg", "a.jpg@2", "a.jpg@2@2", "a.jpg@3", "/abs.jpg", "../up.jpg", "./b.jpg"]
    check_source(open_source(path), {f"{path}#{n}": str(i).encode() for i, n in enumerate(kept)})


def test_long_and_foreign_names(tmp_path: Path) -> None:
    names = ["d" * 150 + "/" + "n" * 150 + ".jpg", "é日本.jpg", "caf\udce9.jpg"]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form, encoding="utf-8") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
        check_source(open_source(path), {f"{path}#{name}": b"" for name in names})


def test_links_devices_folders_and_hidden_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    kinds = {
        "link.jpg": tarfile.SYMTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "link.md": tarfile.SYMTYPE,
        "dir": tarfile.DIRTYPE,
        "fifo.jpg": tarfile.FIFOTYPE,
        "dev.jpg": tarfile.CHRTYPE,
        "._a.jpg": tarfile.REGTYPE,
        "__MACOSX/a.jpg": tarfile.REGTYPE,
        "a.jpg": tarfile.REGTYPE,
    }
    with tarfile.open(path, "w") as tar:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.jpg"
            tar.addfile(info)
    records = check_source(
        open_source(path), [f"{path}#{name}" for name in ("link.jpg", "hard.jpg", "a.jpg")]
    )
    assert [bool(record.problem) for record in records] == [True, True, False]
    assert records[0].problem == "a link to 'a.jpg'; links in tar archives are not followed"


def test_webdataset_samples(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "a.tar",
        [
            ("s/1.jpg", b"one"),
            ("s/1.cls", b" 7\n"),
            ("s/1.json", b"{}"),
            ("s/2.seg.png", b"two"),
            ("s/2.txt", b"caption"),
            ("s/3.cls", b"9"),
            ("s/notes", b"alone"),
            ("s/4.cls", b"x" * 300),
            ("s/4.jpg", b"four"),
        ],
    )
    found = {r.id.partition("#")[2]: (r.label, r.sidecar) for r in scan(path)}
    assert found == {
        "s/1.jpg": ("7", False),
        "s/1.cls": ("s", True),
        "s/1.json": ("s", True),
        "s/2.seg.png": ("s", False),
        "s/2.txt": ("s", True),
        "s/3.cls": ("9", False),
        "s/notes": ("s", False),
        "s/4.cls": ("s", True),
        "s/4.jpg": ("s", False),
    }


@pytest.mark.parametrize("compression", PLAIN_AND_COMPRESSED)
def test_classes_in_compressed_shards(tmp_path: Path, compression: str) -> None:
    members = [(f"{i}.{end}", str(i).encode()) for i in range(9) for end in ("cls", "jpg")]
    path = make_tar(tmp_path / "a.tar", members, f"w:{compression}")
    labels = [record.label for record in scan(path) if not record.sidecar]
    assert labels == [str(i) for i in range(9)]


def test_one_key_for_all_is_not_held_in_memory(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"x.{i}.jpg", b"") for i in range(2500)])
    assert len(scan(path)) == 2500


@pytest.mark.parametrize("cut", [512 + 600, 1024 + 512, 1024 + 512 + 100, 2 * 1536])
def test_cut_off_in_data_padding_header_or_before_the_end_mark(tmp_path: Path, cut: int) -> None:
    path = make_tar(tmp_path / "a.tar", [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700)])
    whole = {0: [], 1: ["a.jpg"], 2: ["a.jpg", "b.jpg"]}[cut // 1536]
    path.write_bytes(path.read_bytes()[:cut])
    good = make_tar(tmp_path / "z.tar", [("z.jpg", b"z")])
    records = list(open_source([path, good]).scan())
    expected = [*(f"{path}#{name}" for name in whole), str(path), f"{good}#z.jpg"]
    assert [record.id for record in records] == expected
    problem = records[-2].problem
    assert problem is not None
    assert problem.startswith(f"tar archive damaged after {len(whole)} members: ")
    check_source(open_source(path), expected[:-1])


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_cut_off_compressed(tmp_path: Path, compression: str) -> None:
    rng = random.Random(1)
    members = [(f"{i}.jpg", rng.randbytes(60_000)) for i in range(20)]
    path = make_tar(tmp_path / "a.tar", members, f"w:{compression}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    records = scan(path)
    assert 5 < len(records) < 20
    assert records[-1].id == str(path)
    assert "damaged after" in str(records[-1].problem)
    with ImageReader() as reader:
        for record, (_, expected) in zip(records[:-1], members, strict=False):
            assert reader.read(record) == expected


def test_damage_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"x") for i in range(5)])
    data = bytearray(path.read_bytes())
    data[2048:2100] = b"\xff" * 52
    path.write_bytes(data)
    records = scan(path)
    assert [record.id for record in records] == [f"{path}#0.jpg", f"{path}#1.jpg", str(path)]


@pytest.mark.parametrize("content", [b"", b"not a tar at all", b"\x1f\x8bnot gzip", b"x" * 4096])
def test_no_tar_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    records = check_source(open_source(path), [str(path)])
    assert str(records[0].problem).startswith("tar archive damaged after 0 members: ")


def test_an_empty_tar_is_sound(tmp_path: Path) -> None:
    assert scan(make_tar(tmp_path / "a.tar", [])) == []


@pytest.mark.parametrize("compression", PLAIN_AND_COMPRESSED)
def test_an_archive_cut_off_after_the_scan(tmp_path: Path, compression: str) -> None:
    members = [("a.jpg", random.Random(2).randbytes(5000)), ("b.jpg", b"b" * 50)]
    path = make_tar(tmp_path / "a.tar", members, f"w:{compression}")
    records = scan(path)
    path.write_bytes(path.read_bytes()[:3000])
    with ImageReader() as reader:
        for record in records:
            with pytest.raises(DecodeError, match=r"ends inside this member|ended before"):
                reader.read(record)


def test_negative_sizes_do_not_loop(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + b"\0" * 1024)
    records = scan(path)
    assert records[-1].id == str(path)
    assert len(records) == 1


def test_scanning_keeps_no_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"{i}.jpg", b"") for i in range(20_000)])
    most = 0
    following = _LeanTar.next

    def counting(self: _LeanTar) -> tarfile.TarInfo | None:
        nonlocal most
        info = following(self)
        most = max(most, len(self.members))
        return info

    monkeypatch.setattr(_LeanTar, "next", counting)
    assert sum(1 for _ in open_source(path).scan()) == 20_000
    assert most <= 1


def test_threads_out_of_order_decompress_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    members = [(f"{i}.jpg", rng.randbytes(5000)) for i in range(400)]
    path = make_tar(tmp_path / "a.tar.gz", members, "w:gz")
    windows: list[ForwardWindow[bytes]] = []
    opened = tar_reader._open_stream

    def remember(key: tuple[str, str]) -> ForwardWindow[bytes]:
        windows.append(opened(key))
        return windows[-1]

    monkeypatch.setattr(tar_reader, "_open_stream", remember)
    records = scan(path)
    order = sorted(range(400), key=lambda i: i + rng.randrange(100))
    with ImageReader() as reader, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: reader.read(records[i]), order))
    assert found == [members[i][1] for i in order]
    assert [window.starts for window in windows] == [1]


def test_the_limit_holds_for_members(tmp_path: Path) -> None:
    record = scan(make_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 100)]))[0]
    with ImageReader(max_bytes=99) as reader, pytest.raises(DecodeError, match="over the limit"):
        reader.read(record)


def test_more_archives_than_stay_open(tmp_path: Path) -> None:
    paths = [make_tar(tmp_path / f"{i}.tar", [("a.jpg", b"%d" % i)]) for i in range(70)]
    check_source(open_source(paths), {f"{p}#a.jpg": b"%d" % i for i, p in enumerate(paths)})


def test_a_forward_file_only_goes_forward() -> None:
    with ForwardFile(part for part in (b"abc", b"defg", b"h")) as stream:
        assert stream.read(2) == b"ab"
        assert stream.seek(5) == 5
        assert stream.tell() == 5
        with pytest.raises(ValueError, match="forward"):
            stream.seek(1)
        assert stream.read() == b"fgh"
        assert stream.read(1) == b""
