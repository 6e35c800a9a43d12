from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract import check_source
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, Source, open_source
from embedkit.sources.braces import expand_braces
from embedkit.sources.list_entries import split_entries


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
    refused = {record.id: record.problem for record in open_source("list.txt").scan()}
    assert list(refused) == ["p/a.jpg", "p/z.zip#m.jpg", "p/ant", *list(refused)[3:]]
    assert [name for name, problem in refused.items() if problem] == ["p/ant"]
    assert str(refused["p/ant"]).startswith("a folder: list its images, or pass list_folders=True")
    assert ids(open_source("list.txt", list_folders=True)) == [
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
    expected = {os.fsdecode(name): name for name in names}
    check_source(open_source("list.list", null=True), expected)
    with pytest.raises(SourceError, match=r"list\.list: has zero bytes.*null=True"):
        ids(open_source("list.list"))
    Path("list.list").write_bytes(b"\0".join(names[:3]) + b"\0")
    assert ids(open_source("list.list")) == list(expected)[:3]


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
        assert entries((separator.join(names) + separator).encode()) == names
    assert entries("\n".join(names).encode("utf-16")) == names
    assert entries(b"\xef\xbb\xbfa.jpg") == ["a.jpg"]
    assert entries(b"") == []
    with pytest.raises(SourceError, match="L: not a list"):
        entries(b"x" * 2**21)


def entries(data: bytes, *, null: bool = False) -> list[str]:
    return list(split_entries(io.BytesIO(data), "L", null=null).entries)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"])
def test_marked_encodings_are_decoded(encoding: str) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    text = mark + "# list\r\np/é日本 1.jpg\r\n\r\n/data/b.jpg\r\n"
    assert entries(text.encode(encoding)) == ["p/é日本 1.jpg", "/data/b.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["a.jpg\r\n", "/data/a.jpg\nb.jpg\n", "日本\n語\n", "写真.jpg"])
def test_unmarked_encodings_are_refused(encoding: str, text: str) -> None:
    with pytest.raises(SourceError, match="L: has zero bytes"):
        entries(text.encode(encoding))


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg\nb\0.jpg\nc.jpg\n",
        b"a.jpg\nb.jpg\0\nc.jpg\n",
        b"a.jpg\0b.jpg",
        b"aa\0" + b"bb\n" * 40_000,
        b"a.jpg\n" * 40_000 + b"b.jpg\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0",
    ],
)
def test_zero_bytes_separate_only_where_they_must(data: bytes) -> None:
    with pytest.raises(SourceError, match="L: has zero bytes"):
        entries(data)


def test_a_cut_marked_list_is_refused() -> None:
    with pytest.raises(SourceError, match="L: damaged UTF-16 text"):
        entries("a.jpg".encode("utf-16")[:-1])


@pytest.mark.parametrize("null", [False, True])
def test_dots_and_slashes_never_expand(here: Path, null: bool) -> None:
    names = [".", "/", "..", "./", "../..", "//", "./."]
    Path("list.txt").write_text("".join(name + ("\0" if null else "\n") for name in names))
    records = list(open_source("list.txt", list_folders=True, null=null).scan())
    assert [record.id for record in records] == names
    assert all(record.problem for record in records)


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


def test_a_named_file_counts_as_an_image(here: Path) -> None:
    records = list(open_source(["p/ant/notes.md", "p/a.jpg", "p/ant/n*"]).scan())
    assert [record.named for record in records] == [True, False, False]


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


def labelled(text: str, **options: Any) -> list[tuple[str, str | None]]:
    Path("labels.lst").write_text(text, newline="")
    source = open_source("labels.lst", **options)
    return [(record.id, record.label) for record in source.scan()]


@pytest.mark.parametrize(
    "text",
    [
        "p/a.jpg cat\np/ant/b.jpg golden retriever\n",
        "# two\np/a.jpg\tcat\r\n\r\np/ant/b.jpg\tgolden retriever\r\n",
        "p/a.jpg,cat\np/ant/b.jpg, golden retriever\n",
        "path,label\np/a.jpg,cat\np/ant/b.jpg,golden retriever\n",
        'id;label;file_name\n1;cat;p/a.jpg\n2;"golden retriever";"p/ant/b.jpg"\n',
        "label\tfilename\ncat\tp/a.jpg\ngolden retriever\tp/ant/b.jpg\n",
    ],
)
def test_lists_with_labels(here: Path, text: str) -> None:
    expected = [("p/a.jpg", "cat"), ("p/ant/b.jpg", "golden retriever")]
    assert labelled(text) == expected
    assert labelled(text, labels="none") == [(path, None) for path, _ in expected]
    assert labelled(text, labels="folder") == [("p/a.jpg", "p"), ("p/ant/b.jpg", "ant")]


def test_mxnet_lists(here: Path) -> None:
    text = "12\t3.000000\tp/a.jpg\n7\t0.5\t1\tp/ant/deep/c.png\n"
    assert labelled(text) == [("p/a.jpg", "3"), ("p/ant/deep/c.png", "0.5|1")]
    records = labelled("1\t3\tp/a.jpg\n" * 120 + "p/a.jpg\n")
    assert records[0] == ("p/a.jpg", "3")
    assert list(open_source("labels.lst").scan())[-1].problem is not None


@pytest.mark.parametrize(
    "name",
    [
        *("p/a b.jpg", "p/a,b.jpg", "a.jpg b.jpg", "x.jpg, y.png", "p/1\t2.jpg"),
        *("p/photo.jpg (1)", "p/photo.jpg copy", "hash01", "id,label.jpg", "path", "a.jpg,label"),
    ],
)
def test_plain_names_are_no_labels(here: Path, name: str) -> None:
    Path(name).write_bytes(b"x")
    assert labelled(f"{name}\np/a.jpg\n") == [(name, None), ("p/a.jpg", None)]
    assert labelled(f"p/a.jpg\0{name}\0", null=True) == [("p/a.jpg", None), (name, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p/a.jpg cat\np/ant/b.jpg\n", "'p/a.jpg cat' looks like a path and a label"),
        ("p/a.jpg x.jpg cat\n", "where does the path end?"),
        ("path,kind\np/a.jpg,cat\n", r"no column 'label'; the columns are path, kind \(label_col"),
    ],
)
def test_unclear_lists_are_refused(here: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match="labels.lst: .*" + message):
        labelled(text)


def test_columns_of_csv_lists(here: Path) -> None:
    text = "where,kind,path\np/a.jpg,cat,gone.jpg\n"
    options = {"image_column": "where", "label_column": "kind"}
    assert labelled(text, **options) == [("p/a.jpg", "cat")]
    assert labelled("path\np/a.jpg\n") == [("p/a.jpg", None)]
    assert labelled("path,label\np/z.zip,cat\np/a.jpg\n") == [
        ("p/z.zip#m.jpg", "cat"),
        ("p/a.jpg", None),
    ]


def test_labels_that_end_later(here: Path) -> None:
    text = "p/a.jpg cat\n" * 100 + "p/ant/b.jpg\np/a.jpg x.jpg cat\n"
    assert labelled(text)[100:] == [("p/ant/b.jpg", None), ("p/a.jpg x.jpg cat", None)]
    problems = [record.problem for record in open_source("labels.lst").scan()]
    assert problems[:101] == [None] * 101
    assert "where the path ends" in str(problems[101])


@pytest.mark.parametrize("root", ["sp ace", "50%", "caf\u00e9", "a%20b", "caf\udce9"])
def test_file_urls(here: Path, root: str) -> None:
    name = "x 1%.jpg"
    Path(root).mkdir()
    Path(root, name).write_bytes(b"x")
    url = "file://" + quote(f"{here}/{root}", errors="surrogateescape")
    for spec in (url, f"{url}/{quote(name)}", f"{url}/x*", f"{url}/**/*.jpg"):
        records = list(open_source(spec).scan())
        assert [record.label for record in records] == [None]
        with ImageReader() as reader:
            assert reader.read(records[0]) == b"x"
    local = f"file://localhost{here}/{quote(root, errors='surrogateescape')}/{quote(name)}"
    assert len(ids(open_source(local))) == 1


def test_prefixes(here: Path) -> None:
    source = open_source(["p/ant", "p/z.zip"], prefix="mine/", labels="folder")
    check_source(
        source,
        [
            f"mine/{name}"
            for name in ("p/ant/b.jpg", "p/ant/deep/c.png", "p/ant/notes.md", "p/z.zip#m.jpg")
        ],
    )
    assert [record.label for record in source.scan()] == ["ant", "deep", "ant", None]
    for prefix in ("", "/", "a\nb"):
        with pytest.raises(SourceError, match="prefix="):
            open_source("p", prefix=prefix)
