from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from contract import check_source
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, Source, open_source
from embedkit.sources.braces import expand_braces
from embedkit.sources.file_list import split_entries


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("p/a.jpg", "p/ant/b.jpg", "p/ant/deep/c.png", "p/ant/notes.md", "p/x[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with zipfile.ZipFile("p/z.zip", "w") as archive:
        archive.writestr("m.jpg", b"zip")
    with tarfile.open("p/t-000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("m.jpg"))
    return tmp_path


def ids(source: Source) -> list[str]:
    return [record.id for record in source.scan()]


def test_lines_are_opened_as_what_they_name(here: Path) -> None:
    Path("list.txt").write_text(
        "# mine\np/a.jpg\r\n\n  \np/z.zip\np/ant\np/t-000.tar\np/ant/notes.md"
    )
    assert ids(open_source("list.txt")) == [
        "p/a.jpg",
        "p/z.zip#m.jpg",
        "p/ant/b.jpg",
        "p/ant/deep/c.png",
        "p/ant/notes.md",
        "p/t-000.tar#m.jpg",
        "p/ant/notes.md",
    ]


def test_what_a_list_names_may_be_missing(here: Path) -> None:
    Path("list.lst").write_text("gone.jpg\ngone.tar\ngone.zip\ngone/\nbad://x/\np/a.jpg\n")
    records = list(open_source("list.lst").scan())
    assert [record.id for record in records[:4]] == ["gone.jpg", "gone.tar", "gone.zip", "gone/"]
    with ImageReader() as reader:
        for record in records[:4]:
            with pytest.raises(DecodeError, match="no such file or folder"):
                reader.read(record)
        with pytest.raises(DecodeError, match="bad"):
            reader.read(records[4])
        assert reader.read(records[5]) == b"p/a.jpg"


def test_relative_to_the_list_where_that_is_meant(here: Path) -> None:
    Path("p/list.txt").write_text("a.jpg\nant/b.jpg\ngone.jpg\n/abs.jpg\n")
    assert ids(open_source("p/list.txt")) == ["p/a.jpg", "p/ant/b.jpg", "p/gone.jpg", "/abs.jpg"]
    Path("a.jpg").write_bytes(b"here")
    assert ids(open_source("p/list.txt")) == ["a.jpg", "ant/b.jpg", "gone.jpg", "/abs.jpg"]


def test_nul_separated_bytes(here: Path) -> None:
    names = [b"p/new\nline.jpg", b"p/caf\xe9.jpg", b"p/#1.jpg", b" "]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(name)
    Path("list.list").write_bytes(b"\0".join(names) + b"\0")
    check_source(open_source("list.list"), {os.fsdecode(name): name for name in names})


def test_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(["-", "p/a.jpg"], stdin=io.BytesIO(b"p/ant/b.jpg\n"))
    assert ids(source) == ["p/ant/b.jpg", "p/a.jpg"]
    with pytest.raises(SourceError, match="only once"):
        ids(source)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"p/a.jpg")))
    assert ids(open_source("-")) == ["p/a.jpg"]


def test_entries_across_blocks() -> None:
    names = [f"{'long' * 300}/{i}.jpg" for i in range(500)]
    for separator in ("\n", "\0", "\r\n"):
        assert list(split_entries(io.BytesIO(separator.join(names).encode()))) == names
    assert list(split_entries(io.BytesIO(b"\xef\xbb\xbfa.jpg"))) == ["a.jpg"]
    assert list(split_entries(io.BytesIO(b""))) == []
    with pytest.raises(SourceError, match="not a list"):
        list(split_entries(io.BytesIO(b"x" * 2**21)))


def test_patterns(here: Path) -> None:
    assert ids(open_source("p/*.jpg")) == ["p/a.jpg", "p/x[1].jpg"]
    assert ids(open_source("p/**/*.[jp][pn]g")) == [
        "p/a.jpg",
        "p/ant/b.jpg",
        "p/ant/deep/c.png",
        "p/x[1].jpg",
    ]
    assert ids(open_source("**/b.jpg")) == ["p/ant/b.jpg"]
    assert ids(open_source("p/ant/**")) == ["p/ant/b.jpg", "p/ant/deep/c.png", "p/ant/notes.md"]
    assert ids(open_source(f"file://{here}/p/?.jpg")) == [f"file://{here}/p/a.jpg"]
    assert ids(open_source("p/x[1].jpg")) == ["p/x[1].jpg"]
    assert ids(open_source("p/[tz]*")) == ["p/t-000.tar#m.jpg", "p/z.zip#m.jpg"]
    with pytest.raises(SourceError, match="no file matches"):
        ids(open_source("p/*.webp"))


def test_patterns_and_folders(here: Path) -> None:
    records = list(open_source("p/an*").scan())
    assert [record.label for record in records] == ["ant"] * 3
    assert [record.label for record in open_source("p/**/*.jpg").scan()] == [None, "ant", None]


def test_patterns_survive_links_in_circles_and_fifos(here: Path) -> None:
    before = ids(open_source("p/**/*"))
    Path("p/ant/up").symlink_to("..")
    os.mkfifo("p/fifo")
    assert ids(open_source("p/**/*")) == before
    with pytest.raises(SourceError, match="no file matches"):
        ids(open_source("p/f*o"))


def test_brace_patterns(here: Path) -> None:
    assert ids(open_source("p/{a,ant/b}.jpg")) == ["p/a.jpg", "p/ant/b.jpg"]
    assert ids(open_source("p/t-{000..000}.tar")) == ["p/t-000.tar#m.jpg"]
    assert ids(open_source("p/{ant,.}/*.jpg")) == ["p/ant/b.jpg", "p/./a.jpg", "p/./x[1].jpg"]
    with pytest.raises(SourceError) as caught:
        open_source("p/t-{000..007}.tar")
    assert str(caught.value) == (
        "p/t-001.tar, p/t-002.tar, p/t-003.tar, p/t-004.tar, p/t-005.tar and 2 more: "
        "no such file or folder"
    )
    with pytest.raises(SourceError, match="more than 1,000,000 names"):
        open_source("{0..9999999999}.tar")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing.jpg", "nothing.jpg: no such file or folder"),
        ("p/gone/", "p/gone/: no such file or folder"),
        ("p/ant/notes.md", "not a known kind of source, which are: a folder, an image file"),
        ("bad://x/y.jpg", "bad://x/y.jpg: Protocol not known"),
        ("p/a.jpg/x", "no such file or folder"),
        ("nul\0.jpg", "null"),
    ],
)
def test_what_cannot_be_opened(here: Path, spec: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_single_files_and_several_specs(here: Path) -> None:
    Path("hash0123").write_bytes(b"no ending")
    check_source(
        open_source(["p/a.jpg", Path("hash0123"), "p/z.zip"]),
        {"p/a.jpg": b"p/a.jpg", "hash0123": b"no ending", "p/z.zip#m.jpg": b"zip"},
    )
    Path("folder.tar").mkdir()
    Path("folder.tar/a.jpg").write_bytes(b"x")
    check_source(open_source("folder.tar"), {"folder.tar/a.jpg": b"x"})
    assert ids(open_source([])) == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("", [""]),
        ("{a}", ["{a}"]),
        ("{}", ["{}"]),
        ("a{b", ["a{b"]),
        ("a}b{", ["a}b{"]),
        ("{a,b", ["{a,b"]),
        ("{a,b}{c,d}", ["ac", "ad", "bc", "bd"]),
        ("{a,{b,c}d}", ["a", "bd", "cd"]),
        ("{x{0..1},y}", ["x0", "x1", "y"]),
        ("{,a}", ["", "a"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..6..3}", ["0", "3", "6"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{a}{1..2}", ["{a}1", "{a}2"]),
        ("{a{1..2}}", ["{a1}", "{a2}"]),
        ("{a..c}", ["a", "b", "c"]),
        ("a}b{1,2}", ["a}b{1,2}"]),
        ("c:\\x\\{a,b}", ["c:\\x\\a", "c:\\x\\b"]),
    ],
)
def test_expand_braces(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..9999999999}",
        "{0..9999999999\n}",
        "{0..9999999999..3}",
        "{0..999}{0..999}{0..999}",
        "{a,{0..99999}{0..99999}}",
        "{{0..99999}{0..99999}}",
        "{a,b}" * 40,
        "{" * 100_000 + "}" * 100_000,
        "{" * 60 + "a,b" + "}" * 60,
    ],
    ids=range(9),
)
def test_hostile_patterns_are_refused_at_once(pattern: str) -> None:
    with pytest.raises(ValueError, match="more than"):
        expand_braces(pattern)


@given(st.text("{},.01ab-\n", max_size=16))
def test_braces_are_counted_before_they_are_expanded(pattern: str) -> None:
    try:
        names = expand_braces(pattern, limit=1000)
    except ValueError:
        return
    assert expand_braces(pattern, limit=len(names)) == names
    if len(names) > 1:
        with pytest.raises(ValueError, match="more than"):
            expand_braces(pattern, limit=len(names) - 1)


@given(st.lists(st.lists(st.text("abc", max_size=3), min_size=2, max_size=4), max_size=4))
def test_braces_are_a_product(groups: list[list[str]]) -> None:
    count = 1
    for group in groups:
        count *= len(group)
    pattern = "-".join("{" + ",".join(group) + "}" for group in groups)
    names = expand_braces(pattern)
    assert len(names) == count
    for name in names:
        parts = name.split("-")
        assert not groups or all(p in g for p, g in zip(parts, groups, strict=True))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 6))
def test_ranges_count(low: int, span: int, width: int) -> None:
    names = expand_braces(f"x{{{low:0{width}d}..{low + span:0{width}d}}}")
    assert [int(name[1:]) for name in names] == list(range(low, low + span + 1))
    assert sorted(names, key=len) == names


@given(st.text("{},.01a", max_size=14))
def test_any_text_expands_or_is_refused(pattern: str) -> None:
    try:
        names = expand_braces(pattern, limit=1000)
    except ValueError:
        return
    assert names
    if "{" not in pattern:
        assert names == [pattern]
