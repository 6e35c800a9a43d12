from __future__ import annotations

import importlib
import io
import random
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from contract import check_source

from embedkit.errors import DecodeError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.readers import tar as tar_reader
from embedkit.sources.readers.compression import ForwardFile
from embedkit.sources.tar_headers import LeanTar

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.sources.readers.stream_window import ForwardWindow
    from embedkit.types import ImageRecord

PLAIN_AND_COMPRESSED = ["", "gz", "bz2", "xz"]
COMPRESSORS = {"gz": "gzip", "bz2": "bz2", "xz": "lzma"}


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
    names = ["a.jpg", "a.jpg", "/abs.jpg", "a.jpg@2", "../up.jpg", "a.jpg", "./b.jpg"]
    path = make_tar(tmp_path / "a.tar", [(n, str(i).encode()) for i, n in enumerate(names)])
    kept = ["a.jpg", "a.jpg@2", "/abs.jpg", "a.jpg@2@2", "../up.jpg", "a.jpg@3", "./b.jpg"]
    expected = {f"{path}#{n}": str(i).encode() for i, n in enumerate(kept)}
    records = check_source(open_source(path), expected)
    assert [record.named for record in records] == [False, True, *[False] * 3, True, False]


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
    assert labels_of(path) == {"s/1.jpg": "7", "s/2.seg.png": "s", "s/notes": "s", "s/4.jpg": "s"}


def labels_of(path: Path) -> dict[str, str | None]:
    return {record.id.partition("#")[2]: record.label for record in scan(path)}


def images_with_classes(*names: str) -> list[tuple[str, bytes]]:
    """Members: the text of a class is its name without the suffix."""
    return [(name, name.rpartition(".")[0].encode()) for name in names]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["f_0.25.jpg", "f_0.25.cls", "f_0.50.cls", "f_0.50.jpg"], ["f_0.25", "f_0.50"]),
        (["v2.0 a.jpg", "v2.0 a.cls", "v2.0 a.json", "v2.1 b.jpg"], ["v2.0 a", None]),
        (["1.left.jpg", "1.right.jpg", "1.cls"], ["1", "1"]),
        (["1.jpg", "1.cls", "1.mask.png", "1.mask.cls"], ["1", "1.mask"]),
        (["1.jpg", "1.meta.cls"], ["1.meta"]),
        (["a.b/1.jpg", "a.b/1.cls", "a.b/2.jpg", "a.b/2.cls"], ["a.b/1", "a.b/2"]),
    ],
)
def test_classes_belong_to_the_longest_common_stem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], labels: list[str]
) -> None:
    path = make_tar(tmp_path / "a.tar", images_with_classes(*names))
    assert list(labels_of(path).values()) == labels
    assert not caplog.records


@pytest.mark.parametrize(
    "names",
    [
        ["f_0.25.jpg", "f_0.50.jpg", "f_0.75.cls"],
        ["1.jpg", "1.a.cls", "1.b.cls"],
        ["1.jpg", "1.jpg", "1.cls", "1.cls"],
    ],
)
def test_unclear_classes_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str]
) -> None:
    members = [(name, b"%d" % i) for i, name in enumerate(names)]
    path = make_tar(tmp_path / "a.tar", members)
    assert set(labels_of(path).values()) == {None}
    assert f"{path}: it isn't clear which .cls belongs to {names[0]}" in caplog.text


def test_repeated_keys_are_samples_of_their_own(tmp_path: Path) -> None:
    members = [("1.jpg", b"x"), ("1.cls", b"cat"), ("1.jpg", b"y"), ("1.cls", b"dog")]
    path = make_tar(tmp_path / "a.tar", members)
    assert labels_of(path) == {"1.jpg": "cat", "1.jpg@2": "dog"}


def test_classes_without_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = [*images_with_classes("1.jpg", "2.jpg"), *images_with_classes("1.cls", "2.cls")]
    path = make_tar(tmp_path / "a.tar", members)
    assert labels_of(path) == {"1.jpg": None, "2.jpg": None}
    assert f"{path}: no image beside 1.cls, 2.cls: not used" in caplog.text


def test_long_runs_of_dotted_keys_are_cut_between_samples(tmp_path: Path) -> None:
    names = [f"v.{i:04}.{end}" for i in range(1500) for end in ("jpg", "txt", "cls")]
    path = make_tar(tmp_path / "a.tar", images_with_classes(*names))
    assert list(labels_of(path).values()) == [f"v.{i:04}" for i in range(1500)]


@pytest.mark.parametrize("compression", PLAIN_AND_COMPRESSED)
def test_classes_in_compressed_shards(tmp_path: Path, compression: str) -> None:
    members = [(f"{i}.{end}", str(i).encode()) for i in range(9) for end in ("cls", "jpg")]
    path = make_tar(tmp_path / "a.tar", members, f"w:{compression}")
    labels = [record.label for record in scan(path)]
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
    following = LeanTar.next

    def counting(self: LeanTar) -> tarfile.TarInfo | None:
        nonlocal most
        info = following(self)
        most = max(most, len(self.members))
        return info

    monkeypatch.setattr(LeanTar, "next", counting)
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


@pytest.mark.parametrize("compression", PLAIN_AND_COMPRESSED)
@pytest.mark.parametrize("gap", [0, 512, 7 * 512])
def test_concatenated_archives_are_read_on(tmp_path: Path, compression: str, gap: int) -> None:
    parts = [
        make_tar(tmp_path / "part.tar", [(name, name.encode()) for name in names]).read_bytes()
        for names in (("0.jpg", "0.cls"), ("1.jpg",), ("0.jpg", "2.jpg"))
    ]
    data = (b"\0" * gap).join(parts)
    path = tmp_path / "a.tar"
    path.write_bytes(
        importlib.import_module(COMPRESSORS[compression]).compress(data) if compression else data
    )
    expected = {"0.jpg": b"0.jpg", "1.jpg": b"1.jpg", "0.jpg@2": b"0.jpg", "2.jpg": b"2.jpg"}
    check_source(open_source(path), {f"{path}#{n}": data for n, data in expected.items()})


@pytest.mark.parametrize("tail", [b"signature", b"x" * 600, b"\0" * 512 + b"x" * 512])
def test_what_follows_the_end_is_told(tmp_path: Path, tail: bytes) -> None:
    path = make_tar(tmp_path / "a.tar", [("a.jpg", b"a")])
    path.write_bytes(path.read_bytes() + tail)
    records = scan(path)
    assert [record.id for record in records] == [f"{path}#a.jpg", str(path)]
    assert "damaged after 1 members: after the archive's end, data that" in str(records[1].problem)


@pytest.mark.parametrize("zeros", [1, 511, 10_240, 2**25])
def test_zeros_after_the_end_are_no_fault(tmp_path: Path, zeros: int) -> None:
    path = make_tar(tmp_path / "a.tar", [("a.jpg", b"a")])
    path.write_bytes(path.read_bytes() + b"\0" * zeros)
    check_source(open_source(path), {f"{path}#a.jpg": b"a"})


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax_record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + len(str(len(text) + 2))
    return f"{length}{text}".encode().ljust(1024 * 300, b"\0")


def sparse_header() -> bytes:
    """A sparse member whose map of holes goes on in the blocks that follow."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HOSTILE = {
    "long name": header(tarfile.GNUTYPE_LONGNAME, 2**31) + b"n" * 2**22,
    "long link": header(tarfile.GNUTYPE_LONGLINK, 2**40) + b"n" * 2**22,
    "pax": header(tarfile.XHDTYPE, 2**32) + b"1" * 2**22,
    "negative": header(tarfile.XHDTYPE, -512) + b"1" * 2**22,
    "chain": (header(tarfile.GNUTYPE_LONGNAME, 1) + b"x".ljust(512, b"\0")) * 400,
    "pax chain": header(tarfile.XHDTYPE, 0) * 400,
    "global headers": b"".join(
        header(tarfile.XGLTYPE, 1024 * 300)
        + pax_record(f"k{i}", "v" * 1024 * 299)
        + header(tarfile.REGTYPE, 0, f"{i}.jpg")
        for i in range(20)
    ),
    "holes": sparse_header() + (b"\0" * 504 + b"\1".ljust(8, b"\0")) * 2**13,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_are_bounded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE[name])
    good = make_tar(tmp_path / "z.tar", [("z.jpg", b"z")])
    tracemalloc.start()
    records = list(open_source([path, good]).scan())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in [record.id for record in records if record.problem]
    assert records[-1].id == f"{good}#z.jpg"
    assert most < 2**24


def test_names_are_bounded(tmp_path: Path) -> None:
    names = ["n" * 100_000 + ".jpg", "n" * 100_000 + ".png", "a.jpg"]
    path = make_tar(tmp_path / "a.tar", [(name, b"x") for name in names])
    records = scan(path)
    assert [record.problem for record in records] == ["a name of 100,004 letters"] * 2 + [None]
    assert max(len(record.id) for record in records) < 5000
    assert len({record.id for record in records}) == 3
