"""Extractions to object stores: the bytes of a local run, whatever ends on the way."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from images import write_photos
from object_stores import Crashed, Crashing, files, local, write

from embedkit import EmbeddingStore, extract, verify
from embedkit.backbones.config import LoadConfig
from embedkit.engines import choose_engine
from embedkit.errors import MissingExtraError, NothingEmbeddedError, StoreError, StoreMismatchError
from embedkit.extraction.dry_run import preview
from embedkit.extraction.multi_gpu.shard_worker import ShardWorker
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.store.object_store import ObjectFolder

COUNT, SHARDS = 18, 5
SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 2, "shard_rows": 4,
}  # fmt: skip
KILLS = int(os.environ.get("OBJECT_TEST_KILLS", "5"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT - 1, size=(64, 48))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The folder and the file of a local run."""
    folder = tmp_path_factory.mktemp("whole")
    extract(photos, folder / "all", sharded=True, **SETTINGS)
    extract(photos, folder / "all.h5", **SETTINGS)
    return folder


def assert_sound(url, whole):
    """No half shard, no manifest without its shards; gives whether the store is complete."""
    there, expected = files(url), local(whole / "all")
    assert there.items() <= expected.items()
    assert "manifest.json" not in there or there == expected
    return there == expected


def test_the_store_is_that_of_a_local_run(photos, whole, bucket, tmp_path):
    settings = {**SETTINGS, "work_dir": tmp_path}
    result = extract(photos, f"{bucket}/emb/", sharded=True, **settings)
    assert (result.path, result.found, result.embedded) == (f"{bucket}/emb", COUNT + 1, COUNT - 1)
    assert files(f"{bucket}/emb") == local(whole / "all")
    result = extract(photos, f"{bucket}/all.h5", **settings)
    assert result.path == f"{bucket}/all.h5"
    assert files(f"{bucket}/all.h5") == {"": (whole / "all.h5").read_bytes()}
    assert set(files(bucket)) == {"all.h5", *(f"emb/{name}" for name in local(whole / "all"))}
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert verify(f"{bucket}/emb") == verify(f"{bucket}/all.h5") == []


def test_a_finished_store_is_not_embedded_again(photos, memory, tmp_path, monkeypatch):
    extract(photos, f"{memory}/emb", sharded=True, **SETTINGS)
    extract(photos, f"{memory}/all.h5", **SETTINGS)
    before = files(memory)
    monkeypatch.setattr(MemoryFileSystem, "put_file", None)
    for name, sharded in (("emb", True), ("all.h5", False)):
        again = extract(photos, f"{memory}/{name}", sharded=sharded, **SETTINGS)
        assert (again.found, again.resumed) == (COUNT + 1, COUNT + 1)
    assert files(memory) == before
    with pytest.raises(StoreMismatchError, match=r"memory://bucket/emb: .*sharded: True != False"):
        extract(photos, f"{memory}/emb", **SETTINGS)
    with pytest.raises(StoreError, match="memory://bucket/emb: is a sharded store"):
        extract(photos, f"{memory}/emb", overwrite=True, **SETTINGS)
    with pytest.raises(StoreMismatchError, match=r"memory://bucket/emb: "):
        extract(photos / "broken.jpg", f"{memory}/emb", sharded=True, **SETTINGS, prefix="x")


def test_file_urls_are_local_paths(photos, whole, tmp_path):
    result = extract(photos, f"file://{tmp_path}/a%20b", sharded=True, **SETTINGS)
    assert result.path == tmp_path / "a b"
    assert local(tmp_path / "a b") == local(whole / "all")
    extract(photos, Path(f"file://{tmp_path}/all.h5"), **SETTINGS)
    assert (tmp_path / "all.h5").read_bytes() == (whole / "all.h5").read_bytes()


@pytest.mark.parametrize(
    ("after", "same_machine"),
    [
        (True, False),
        pytest.param(False, True, marks=pytest.mark.long),
        pytest.param(False, False, marks=pytest.mark.long),
        pytest.param(True, True, marks=pytest.mark.long),
    ],
)
def test_crash_at_every_change(photos, whole, memory, tmp_path, after, same_machine):
    for at in range(1, 100):
        url = f"{memory}/{at}"
        with pytest.MonkeyPatch.context() as patch:
            Crashing(patch, at, after=after)
            try:
                extract(photos, url, sharded=True, work_dir=tmp_path / "a", **SETTINGS)
                break
            except Crashed:
                pass
        sent = sum(name.endswith(".h5") for name in files(url))
        complete = assert_sound(url, whole)
        other = tmp_path / ("a" if same_machine else f"b{at}")
        again = extract(photos, url, sharded=True, work_dir=other, **SETTINGS)
        assert assert_sound(url, whole)
        assert not files(f"{url}.partial")
        if complete:
            assert again.resumed == COUNT + 1
        elif sent > 1:  # a crash between a shard and its receipt costs this shard
            assert again.resumed >= (sent - 1) * 4
    assert at > 2 * SHARDS + 4  # plan, settings, shards with receipts, manifest
    assert assert_sound(url, whole)


@pytest.mark.parametrize("after", [False, True])
def test_crash_while_a_file_is_written(photos, whole, memory, tmp_path, after):
    with pytest.MonkeyPatch.context() as patch:
        Crashing(patch, 1, after=after)
        with pytest.raises(Crashed):
            extract(photos, f"{memory}/all.h5", work_dir=tmp_path, **SETTINGS)
    assert bool(files(memory)) == after
    again = extract(photos, f"{memory}/all.h5", work_dir=tmp_path, **SETTINGS)
    assert again.resumed == COUNT + 1
    assert files(memory) == {"all.h5": (whole / "all.h5").read_bytes()}


def test_parts_on_machines_that_share_no_disk(photos, whole, bucket, tmp_path):
    url = f"{bucket}/emb"
    waits = []
    for number in (3, 1, 2):
        work_dir = tmp_path / str(number)
        part = extract(photos, url, sharded=True, part=(number, 3), work_dir=work_dir, **SETTINGS)
        waits.append(part.waits_for)
        assert not any(path.is_file() for path in work_dir.rglob("*"))
    assert waits == [("1/3", "2/3"), ("2/3",), ()]
    assert files(bucket) == {f"emb/{name}": data for name, data in local(whole / "all").items()}
    again = extract(photos, url, sharded=True, part=(2, 3), work_dir=tmp_path / "2", **SETTINGS)
    assert again.resumed == again.found
    one = extract(photos, f"{bucket}/one.h5", part=(1, 3), **SETTINGS)
    with EmbeddingStore(one.path) as store:
        assert (store.meta.part["number"], store.meta.part["of"]) == (1, 3)


@pytest.mark.parametrize("rows", [4, 3])
def test_two_machines_begin_at_the_same_moment(photos, whole, memory, tmp_path, monkeypatch, rows):
    url, really = f"{memory}/emb", ObjectFolder.freeze_meta
    settings = {**SETTINGS, "sharded": True}

    def meanwhile(folder, *args):
        monkeypatch.setattr(ObjectFolder, "freeze_meta", really)
        other = {**settings, "shard_rows": rows}
        extract(photos, url, part=(2, 2), work_dir=tmp_path / "2", **other)
        return really(folder, *args)

    monkeypatch.setattr(ObjectFolder, "freeze_meta", meanwhile)
    if rows == SETTINGS["shard_rows"]:
        done = extract(photos, url, part=(1, 2), work_dir=tmp_path / "1", **settings)
        assert not done.waits_for
        assert assert_sound(url, whole)
        return
    with pytest.raises(StoreError, match="memory://bucket/emb: another process has just begun"):
        extract(photos, url, part=(1, 2), work_dir=tmp_path / "1", **settings)
    with pytest.raises(StoreMismatchError, match="shard_rows: 3 != 4"):  # it has joined the other
        extract(photos, url, part=(1, 2), work_dir=tmp_path / "1", **settings)


def test_settings_of_a_run_that_another_machine_began(photos, memory, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 8, after=True)
        extract(photos, f"{memory}/emb", sharded=True, work_dir=tmp_path / "a", **SETTINGS)
    with pytest.raises(StoreMismatchError, match="dtype: float16 != float32"):
        extract(
            photos, f"{memory}/emb", sharded=True, work_dir=tmp_path / "b", dtype="float32",
            **SETTINGS,
        )  # fmt: skip


def test_overwriting(photos, whole, memory, tmp_path):
    larger = {**SETTINGS, "shard_rows": 1}
    extract(photos, f"{memory}/emb", sharded=True, **larger)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 5, after=True)
        extract(photos, f"{memory}/emb", sharded=True, overwrite=True, **SETTINGS)
    assert "manifest.json" not in files(f"{memory}/emb")
    extract(photos, f"{memory}/emb", sharded=True, **SETTINGS)
    assert files(f"{memory}/emb") == local(whole / "all")
    extract(photos, f"{memory}/all.h5", **larger)
    extract(photos, f"{memory}/all.h5", overwrite=True, **SETTINGS)
    assert files(f"{memory}/all.h5") == {"": (whole / "all.h5").read_bytes()}
    write(f"{memory}/other.h5", b"something else")
    with pytest.raises(StoreError, match=r"memory://bucket/other\.h5: exists and is no embedkit"):
        extract(photos, f"{memory}/other.h5", overwrite=True, **SETTINGS)
    write(f"{memory}/other/manifest.json", b"{}")
    with pytest.raises(StoreError, match="not the manifest of an embedkit store"):
        extract(photos, f"{memory}/other", overwrite=True, sharded=True, **SETTINGS)


def test_a_source_without_images_leaves_nothing(memory, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    with pytest.raises(NothingEmbeddedError, match=r"1 found, 1 failed.*broken\.jpg"):
        extract(tmp_path / "images", f"{memory}/emb", sharded=True, **SETTINGS)
    assert files(memory) == {}


def test_images_and_store_in_the_same_folder(photos, whole, bucket, tmp_path):
    for path in photos.iterdir():
        write(f"{bucket}/{path.name}", path.read_bytes())
    first = extract(bucket, f"{bucket}/emb", sharded=True, **SETTINGS)
    assert (first.found, first.embedded, first.failed) == (COUNT + 1, COUNT - 1, 1)
    assert extract(bucket, f"{bucket}/emb", sharded=True, **SETTINGS).resumed == first.found
    with EmbeddingStore(first.path) as store, EmbeddingStore(whole / "all") as expected:
        assert (store.to_numpy() == expected.to_numpy()).all()
    with pytest.raises(StoreError, match="is one of the sources"):
        extract(bucket, bucket, sharded=True, **SETTINGS)


def test_processes_of_several_devices_upload(photos, whole, s3, tmp_path):
    url = f"{s3}/devices/emb"
    settings = {**SETTINGS, "engine": "torch", "device": "cpu,cpu", "work_dir": tmp_path / "work"}
    result = extract(photos, url, sharded=True, **settings)
    assert (result.complete, result.embedded, result.failed) == (True, COUNT - 1, 1)
    extract(photos, tmp_path / "emb", sharded=True, **{**settings, "device": "cpu"})
    assert files(f"{s3}/devices") == {f"emb/{k}": v for k, v in local(tmp_path / "emb").items()}


def test_a_worker_on_another_machine(photos, whole, memory, tmp_path):
    """It finds the plan at the URL, and its shards count for the process that began the run."""
    url, here = f"{memory}/emb", tmp_path / "here"
    settings = {**SETTINGS, "sharded": True, "work_dir": here}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crashed):
        Crashing(patch, 3, after=True)  # plan and settings
        extract(photos, url, **settings)
    choice = choose_engine("openvino", "cpu", "fp32", 2)
    there = tmp_path / "there" / "emb"
    task = WorkerTask(there, (), "tiny", LoadConfig(), choice, (), 1, processes=False, url=url)
    with ShardWorker(WorkerTask.from_config(task.to_config())) as worker:
        assert worker.embed([1, 3], processes=False, stop=threading.Event()).found == 8
    assert {"shard-000001.h5", "shard-000003.h5"} <= set(files(url))
    assert extract(photos, url, **settings).resumed == 8
    assert assert_sound(url, whole)


def test_what_is_refused(photos, memory, tmp_path, monkeypatch):
    with pytest.raises(StoreError, match=r"sftp://a/b: stores and indexes are written to s3://"):
        extract(photos, "sftp://a/b", sharded=True, **SETTINGS)
    with pytest.raises(StoreError, match=r"memory://bucket/a\.h5: no such file or folder"):
        extract(photos, f"{memory}/a.h5", retry_failed=True, **SETTINGS)
    with pytest.raises(StoreError, match=r"memory://bucket/a: a store of one file .* named \*\.h5"):
        extract(photos, f"{memory}/a", **SETTINGS)
    with pytest.raises(ValueError, match="ray writes to a URL with sharded=True only"):
        extract(photos, f"{memory}/a.h5", ray="local", **SETTINGS)
    for url in ("memory://bucket", f"{memory}/../a"):
        with pytest.raises(StoreError, match=f"{url}: names nothing in a bucket"):
            extract(photos, url, sharded=True, **SETTINGS)

    def without_s3fs(*args, **kwargs):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", without_s3fs)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedkit\[s3\]'"):
        extract(photos, "s3://bucket/a.h5", **SETTINGS)
    monkeypatch.undo()
    assert files(memory) == {}


def test_preview(photos, memory):
    shown = preview(photos, Path(f"{memory}/emb"), sharded=True, **SETTINGS)
    assert (shown.output, shown.exists, shown.resumes) == (f"{memory}/emb", False, False)
    extract(photos, f"{memory}/emb", sharded=True, **SETTINGS)
    assert preview(photos, f"{memory}/emb", sharded=True, **SETTINGS).exists


@pytest.mark.parametrize("sharded", [True, False])
def test_no_bucket(photos, s3, sharded):
    with pytest.raises(StoreError, match=r"s3://none/a\.x: .*bucket does not exist"):
        extract(photos, "s3://none/a.x", sharded=sharded, **SETTINGS)


RUN = """
import sys
from embedkit import extract
print("begun", flush=True)
extract(sys.argv[1], sys.argv[2], sharded=sys.argv[2][-3:] != ".h5", work_dir=sys.argv[3],
        backbone="tiny", engine="openvino", device="cpu", batch_size=2, shard_rows=4)
print("ended", flush=True)
"""


def start(photos, url, work_dir):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, photos, url, work_dir],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["emb", "all.h5"])
def test_killed_while_it_uploads(photos, whole, s3, tmp_path, name):
    """Each run is killed at a random moment of its uploads, until one reaches its end."""
    random.seed(0)
    kills = begun = 0
    while kills < KILLS:
        begun += 1
        url, work_dir = f"{s3}/kills/{begun}/{name}", tmp_path / str(begun)
        while True:
            process = start(photos, url, work_dir)
            wait_for_upload(process, url)
            time.sleep(random.random() * 0.2)
            process.kill()
            out, err = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), err
            if name == "emb":
                complete = assert_sound(url, whole)
            else:
                complete = bool(there := files(url))
                assert there in ({}, {"": (whole / "all.h5").read_bytes()})
            kills += process.returncode != 0
            if complete or kills >= KILLS:
                break
        out, err = start(photos, url, work_dir).communicate()
        assert "ended" in out, err
        if name == "emb":
            assert files(f"{s3}/kills/{begun}") == {
                f"emb/{one}": data for one, data in local(whole / "all").items()
            }
        else:
            assert files(url) == {"": (whole / "all.h5").read_bytes()}


def wait_for_upload(process, url):
    """Waits until a process has something on the object store, or ends."""
    filesystem, path = fsspec.url_to_fs(url)
    parent = path.rpartition("/")[0]
    before = None
    while process.poll() is None:
        filesystem.invalidate_cache()
        there = set(filesystem.find(parent))
        if before is not None and there != before:
            return
        before = there
        time.sleep(0.01)
