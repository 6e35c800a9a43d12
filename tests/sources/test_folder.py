from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from contract import check_source

from embedkit.errors import DecodeError, SourceError
from embedkit.sources import ImageReader, open_source

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    for name in ("b.jpg", "ant/x.jpg", "ant/deep/y.png", "bee/z.gif", "A.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def _endless() -> Callable[[str], Any]:
    """Make every folder hold a file and one more folder, 1,500 levels deep."""

    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def is_file(self, *, follow_symlinks: bool) -> bool:
            return self.name.endswith(".jpg")

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return not self.is_file(follow_symlinks=follow_symlinks)

    def fake(path: str) -> Any:
        names = ["a.jpg", "d"] if path.count("/") < 1500 else []
        return nullcontext([Entry(name) for name in names])

    return fake


def ids(*specs: object, **options: object) -> list[str]:
    return [record.id for record in open_source(list(specs), **options).scan()]  # type: ignore[arg-type]


def test_ids_begin_as_given_and_are_sorted_by_bytes(photos: Path) -> None:
    names = ["A.jpg", "ant/deep/y.png", "ant/x.jpg", "b.jpg", "bee/z.gif"]
    check_source(open_source("photos"), {f"photos/{name}": name.encode() for name in names})
    assert ids("photos/") == [f"photos/{name}" for name in names]
    assert ids(photos) == [f"{photos}/{name}" for name in names]
    assert ids(f"file://{photos}") == [f"file://{photos}/{name}" for name in names]
    assert ids(".") == [f"./photos/{name}" for name in names]
    check_source(
        open_source(f"file://{photos}"), {f"file://{photos}/{n}": n.encode() for n in names}
    )


def test_labels_are_the_first_folder(photos: Path) -> None:
    labels = [record.label for record in open_source("photos").scan()]
    assert labels == [None, "ant", "ant", None, "bee"]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = b"caf\xe9 \xff.jpg"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"image")
    Path(tmp_path / "é日本.jpg").write_bytes(b"other")
    records = check_source(
        open_source(tmp_path), [f"{tmp_path}/{os.fsdecode(name)}", f"{tmp_path}/é日本.jpg"]
    )
    assert os.fsencode(records[0].id).endswith(name)
    assert ids(os.fsencode(tmp_path)) == [record.id for record in records]


def test_hidden_names_are_passed_over(photos: Path) -> None:
    before = ids("photos")
    for name in (".DS_Store", ".git/a.jpg", "__MACOSX/a.jpg", "ant/._x.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"no")
    assert ids("photos") == before


def test_links_to_files_are_listed_and_dangling_ones_told(photos: Path) -> None:
    (photos / "link.jpg").symlink_to("b.jpg")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "self.jpg").symlink_to("self.jpg")
    found = {record.id: record.problem for record in open_source("photos").scan()}
    assert found["photos/link.jpg"] is None
    assert found["photos/gone.jpg"] == "dangling symbolic link"
    assert found["photos/self.jpg"] == "symbolic links in a circle"
    check_source(open_source("photos"), list(found))


def test_links_to_folders_never_list_anything_twice(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "o.jpg").write_bytes(b"o")
    before = ids("photos")
    (photos / "loop").symlink_to(photos)
    (photos / "ant" / "up").symlink_to("..")
    (photos / "again").symlink_to("bee")
    assert ids("photos") == before
    (outside / "back").symlink_to(photos)
    (photos / "o1").symlink_to(outside / "inner")
    (photos / "o2").symlink_to(outside)
    (photos / "o3").symlink_to(outside)
    (photos / "parent").symlink_to(tmp_path)
    assert [one for one in ids("photos") if one not in before] == ["photos/o1/o.jpg"]


def test_what_is_no_file_is_never_opened(photos: Path) -> None:
    before = ids("photos")
    os.mkfifo(photos / "fifo.jpg")
    (photos / "to_fifo.jpg").symlink_to("fifo.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("photos/socket.jpg")
        assert ids("photos") == before
    with pytest.raises(SourceError, match="neither a regular file"):
        open_source("photos/fifo.jpg")


def test_a_fifo_in_place_of_a_file_does_not_hang(photos: Path) -> None:
    record = next(open_source("photos").scan())
    Path(record.path).unlink()
    os.mkfifo(record.path)
    with ImageReader() as reader:
        with pytest.raises(DecodeError, match="not a regular file"):
            reader.read(record)
        with pytest.raises(DecodeError, match="not a regular file"):
            reader.peek(record)


def test_an_unreadable_folder_is_one_problem(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("/ant"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    records = check_source(
        open_source("photos"),
        ["photos/A.jpg", "photos/ant", "photos/b.jpg", "photos/bee/z.gif"],
    )
    assert records[1].problem == "folder can't be listed: Permission denied"
    with pytest.raises(SourceError, match="Permission denied"):
        ids("photos/ant")


def test_deep_folders_need_no_recursion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a/b/c").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", _endless())
    # 1,500 levels; os.scandir itself would stop at the longest path of the system.
    assert len(ids("a")) == 1500


def test_the_limit_comes_before_the_read(photos: Path) -> None:
    (photos / "A.jpg").write_bytes(b"x" * 100)
    record = next(open_source("photos").scan())
    with ImageReader(max_bytes=99) as reader:
        with pytest.raises(DecodeError) as caught:
            reader.read(record)
        assert caught.value.reason == "100 bytes, over the limit of 99 (max_bytes)"
        assert caught.value.nbytes == 100
        assert reader.peek(record, 3) == b"xxx"
    with ImageReader(max_bytes=100) as reader:
        assert len(reader.read(record)) == 100


def test_a_file_that_went_away(photos: Path) -> None:
    record = next(open_source("photos").scan())
    Path(record.path).unlink()
    with ImageReader() as reader, pytest.raises(DecodeError) as caught:
        reader.read(record)
    assert (caught.value.image_id, caught.value.reason) == (record.id, "no such file or folder")


def test_the_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        ImageReader(max_bytes=0)
