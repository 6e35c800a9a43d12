"""Stores that are merged into an object store: the bytes of a local merge, or nothing."""

from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from images import write_photos
from object_stores import Crashed, Crashing, files, left_in, local, write

from embedkit import EmbeddingStore, export, extract, merge, verify
from embedkit.errors import StoreCorruptError, StoreError, StoreMismatchError
from embedkit.sources.io import transfer

COUNT = 12
SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 2, "shard_rows": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The three parts of a run: files and working folders; and the store of the whole run."""
    folder = tmp_path_factory.mktemp("parts")
    write_photos(folder / "photos", COUNT, size=(48, 40))
    for number in (1, 2, 3):
        settings = {**SETTINGS, "part": (number, 3)}
        extract(folder / "photos", folder / f"{number}.h5", **settings)
        extract(folder / "photos", folder / f"{number}", sharded=True, **settings)
    extract(folder / "photos", folder / "whole", sharded=True, **SETTINGS)
    merge(sorted(folder.glob("?.h5")), folder / "merged.h5")
    return folder


def test_a_file(parts, bucket, tmp_path):
    merged = merge(sorted(parts.glob("?.h5")), Path(f"{bucket}/a.h5"), work_dir=tmp_path)
    assert merged == f"{bucket}/a.h5"
    assert files(bucket) == {"a.h5": (parts / "merged.h5").read_bytes()}
    assert not left_in(tmp_path)
    assert verify(merged) == []
    with pytest.raises(StoreError, match=f"{merged}: exists already; overwrite=True"):
        merge([parts / "whole"], merged, work_dir=tmp_path)
    merge([parts / "whole"], merged, overwrite=True, work_dir=tmp_path)
    with EmbeddingStore(merged) as store:
        assert len(store) == COUNT
    with pytest.raises(StoreError, match=f"{merged}: is one of the stores to merge"):
        merge([merged], merged, overwrite=True, work_dir=tmp_path)


def test_a_folder(parts, bucket, tmp_path):
    folders = sorted(parts.glob("*.partial"))
    merged = merge(folders, f"{bucket}/all", work_dir=tmp_path)
    assert merged == f"{bucket}/all"
    assert files(bucket) == {f"all/{name}": data for name, data in local(parts / "whole").items()}
    assert not left_in(tmp_path)
    again = extract(parts / "photos", merged, sharded=True, work_dir=tmp_path, **SETTINGS)
    assert again.resumed == COUNT
    with pytest.raises(StoreError, match=f"{bucket}/all: exists already; overwrite=True"):
        merge(folders, merged, work_dir=tmp_path)
    merge(folders, merged, overwrite=True, work_dir=tmp_path)
    assert files(merged) == local(parts / "whole")
    merge(folders, f"{bucket}/all.h5", work_dir=tmp_path)
    merge(folders, tmp_path / "all.h5")
    assert files(f"{bucket}/all.h5") == {"": (tmp_path / "all.h5").read_bytes()}


def test_a_file_url_is_a_local_path(parts, tmp_path):
    merged = merge([parts / "whole"], f"file://{tmp_path}/a%20b.h5")
    assert merged == tmp_path / "a b.h5"
    assert merged.is_file()


def test_an_export_is_a_merge(parts, memory):
    assert export(parts / "whole", f"{memory}/a.h5", to="h5") == f"{memory}/a.h5"
    assert files(memory) == {"a.h5": (parts / "merged.h5").read_bytes()}


@pytest.mark.parametrize("after", [False, True])
def test_crash_at_every_change(parts, memory, tmp_path, after):
    """The manifest comes last, and the same command goes on with what is uploaded."""
    folders, whole = sorted(parts.glob("*.partial")), local(parts / "whole")
    for at in range(1, 100):
        url = f"{memory}/{at}"
        with pytest.MonkeyPatch.context() as patch:
            Crashing(patch, at, after=after)
            try:
                merge(folders, url, work_dir=tmp_path)
                break
            except Crashed:
                pass
        there = files(url)
        assert there.items() <= whole.items()
        assert "manifest.json" not in there or there == whole
        with suppress(StoreError) if there == whole else nullcontext():  # nothing is left to do
            merge(folders, url, work_dir=tmp_path)
        assert files(url) == whole
        assert not files(f"{url}.partial")
        assert not left_in(tmp_path)
    assert at > 10
    assert files(url) == whole


def test_crash_while_a_file_is_uploaded(parts, memory, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 1, after=False)
        merge([parts / "whole"], f"{memory}/a.h5", work_dir=tmp_path)
    assert files(memory) == {}
    assert not left_in(tmp_path)


def test_another_process_writes_the_same_file_meanwhile(parts, memory, tmp_path, monkeypatch):
    url, really = f"{memory}/a.h5", transfer.upload

    def meanwhile(path, target, **settings):
        write(url, b"another one's")
        return really(path, target, **settings)

    monkeypatch.setattr(transfer, "upload", meanwhile)
    with pytest.raises(StoreError, match=f"{url}: another process has just written it"):
        merge([parts / "whole"], url, work_dir=tmp_path)
    assert files(url) == {"": b"another one's"}
    assert not left_in(tmp_path)


def test_what_is_refused(parts, memory, tmp_path):
    with pytest.raises(StoreError, match=f"{memory}/a: a store of one file .* must be named"):
        merge([parts / "whole"], f"{memory}/a")
    with pytest.raises(
        StoreError, match=r"sftp://a/b\.h5: stores and indexes are written to s3://"
    ):
        merge([parts / "whole"], "sftp://a/b.h5")
    write(f"{memory}/other.h5", b"something else")
    with pytest.raises(StoreError, match=rf"{memory}/other\.h5: exists and is no embedkit store"):
        merge([parts / "whole"], f"{memory}/other.h5", overwrite=True)
    damaged = tmp_path / "damaged.h5"
    data = bytearray((parts / "merged.h5").read_bytes())
    data[-9] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(StoreCorruptError):
        merge([damaged], f"{memory}/b.h5", work_dir=tmp_path / "work")
    assert not left_in(tmp_path / "work")
    assert set(files(memory)) == {"other.h5"}


def test_an_unfinished_extraction_is_there(parts, memory, tmp_path):
    folders = sorted(parts.glob("*.partial"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 5, after=True)
        extract(parts / "photos", f"{memory}/same", sharded=True, **SETTINGS)
    merge(folders, f"{memory}/same", work_dir=tmp_path)  # goes on with it
    assert files(f"{memory}/same") == local(parts / "whole")
    for name, change, error in (
        ("rows", {"shard_rows": 3}, pytest.raises(StoreError, match="is of another plan than")),
        ("dtype", {"dtype": "float32"}, pytest.raises(StoreMismatchError, match="dtype")),
    ):
        url = f"{memory}/{name}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
            Crashing(patch, 5, after=True)
            extract(parts / "photos", url, sharded=True, **{**SETTINGS, **change})
        with error:
            merge(folders, url, work_dir=tmp_path)
        merge(folders, url, overwrite=True, work_dir=tmp_path)
        assert files(url) == local(parts / "whole")
