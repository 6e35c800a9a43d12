"""Thumbnails by id: of files, of moved ones, of archives, within a bound."""

import io
import tarfile
from pathlib import Path

import pytest
from images import draw_photo, encode, write_photos
from PIL import Image

from embedkit.decode.policy import DecodePolicy
from embedkit.errors import SourceError
from embedkit.report import Picture
from embedkit.report.thumbnails import thumbnails, thumbnails_if_found
from embedkit.sources.readers.image_reader import ImageReader


def ids_of(folder, n=5):
    return [str(path) for path in write_photos(folder, n)]


def test_files_by_their_ids(tmp_path, monkeypatch):
    ids = ids_of(tmp_path / "p")
    Path(ids[1]).write_bytes(b"no image")
    Path(ids[2]).unlink()
    made = thumbnails(ids, None, 50)
    assert [bool(made[name].thumbnail) for name in ids] == [True, False, False, True, True]
    monkeypatch.chdir(tmp_path)
    (below,) = thumbnails(["photo_0000.jpg"], None, 50, roots=[Path("p")]).values()
    assert below.thumbnail == made[ids[0]].thumbnail
    small = thumbnails(ids[:1], DecodePolicy(max_pixels=100), 50)
    assert small == {ids[0]: Picture(ids[0])}


def test_moved_images(tmp_path):
    ids = ids_of(tmp_path / "old")
    expected = thumbnails(ids, None, 50)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(SourceError, match="none of the 5 images was found"):
        thumbnails(ids, None, 50)
    assert thumbnails(ids, None, 50, images=[tmp_path / "new"]) == expected


def test_a_source_without_the_images_is_told(tmp_path):
    ids = ids_of(tmp_path / "old")
    (tmp_path / "other").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "other" / "x.png")
    for source, reason in ((tmp_path / "other", "has none of"), (tmp_path / "gone", "no such")):
        with pytest.raises(SourceError, match=reason) as told:
            thumbnails(ids, None, 50, images=[source])
        assert str(source) in str(told.value)


@pytest.mark.parametrize("part", [2, 100])
def test_thumbnails_stop_at_a_bound(tmp_path, monkeypatch, part):
    monkeypatch.setattr("embedkit.report.thumbnails._PART", part)
    ids = ids_of(tmp_path / "p")
    assert list(thumbnails(ids, None, 50, max_bytes=1)) == ids[:part]
    assert list(thumbnails(ids, None, 50, max_bytes=0)) == []


def test_an_archive_is_read_in_its_own_order(tmp_path, monkeypatch):
    names = [f"{n}.jpg" for n in (3, 1, 4, 0, 2)]
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name in names:
            data = encode(draw_photo(int(name[0])), "JPEG")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    monkeypatch.setattr("embedkit.report.thumbnails.usable_cores", lambda: 1)
    read = []
    real = ImageReader.read
    monkeypatch.setattr(
        ImageReader, "read", lambda self, record: read.append(record.id) or real(self, record)
    )
    ids = [f"{tmp_path}/a.tar.gz#{n}.jpg" for n in range(5)]
    for images in ((), (tmp_path / "a.tar.gz",)):
        read.clear()
        made = thumbnails(ids, None, 50, images=images)
        assert read == [f"{tmp_path}/a.tar.gz#{name}" for name in names]
        assert all(made[name].thumbnail for name in ids)


def test_what_is_known_of_a_picture(tmp_path):
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.new("RGB", (300, 96)).save(large)
    Image.new("RGB", (95, 40)).save(small)
    ids = [str(large), str(small)]
    page = tmp_path / "out" / "page.html"
    first, second = thumbnails(ids, None, 50, page=page).values()
    assert first.facts == f"300 x 96, PNG, {large.stat().st_size} bytes"
    assert (first.link, second.link) == ("../large.png", "../small.png")
    assert (first.is_small, second.is_small) == (False, True)
    assert [one.link for one in thumbnails(ids, None, 50).values()] == ["", ""]


def test_a_warning_that_names_no_text_can_be_written(caplog, tmp_path):
    assert thumbnails_if_found(["\udcff.jpg"], None, 64, roots=[tmp_path]) == {}
    assert "such as \\xff.jpg" in caplog.text
    caplog.text.encode()
