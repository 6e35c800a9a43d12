"""From images to a store: the same bytes whatever happens on the way, and nothing lost or mixed."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets_stand_in import StandIn
from images import draw_photo, encode, write_photos
from PIL import Image

from embedkit.backbones import load_backbone
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.engines import open_engine
from embedkit.engines.torch import TorchEngine
from embedkit.errors import (
    NothingEmbeddedError,
    SourceError,
    StoreError,
    StoreMismatchError,
)
from embedkit.extraction.batch_processor import in_order
from embedkit.extraction.dry_run import preview
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore, verify

COUNT = 50
SMALL = {"batch_size": 4, "shard_rows": 9, "engine": "torch"}


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny", weights="random")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT, size=(48, 40))
    (folder / "photo_0007.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def whole(tiny, photos, tmp_path_factory):
    """The bytes of an uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "a.h5"
    result = extract(photos, output, backbone=tiny, workers=1, **SMALL)
    assert (result.complete, result.resumed) == (True, 0)
    assert (result.found, result.embedded, result.failed, result.skipped) == (51, 49, 1, 1)
    assert verify(output) == []
    return output


def stop_after(count, stop):
    def on_progress(progress):
        if progress.stage == "embedding" and progress.done >= count:
            stop.set()

    return on_progress


def run_with_stops(photos, output, tiny, every=11, **settings):
    """Stops a run again and again until it is done."""
    done = 0
    for _ in range(20):
        stop = threading.Event()
        on_progress = stop_after(done + every, stop)
        result = extract(photos, output, backbone=tiny, stop=stop, progress=on_progress, **settings)
        assert result.resumed == done or result.complete
        done = result.found
        if result.complete:
            return result
        assert not output.exists()
    raise AssertionError("it never ended")


def same_bytes(first, second):
    if first.is_dir():
        names = sorted(path.name for path in first.iterdir())
        assert names == sorted(path.name for path in second.iterdir())
        return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    return first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("decoder", ["fast", "exact"])
def test_rows_are_those_of_the_engine(tiny, photos, tmp_path, decoder):
    extract(photos, tmp_path / "a.h5", backbone=tiny, decoder=decoder, **SMALL)
    names = [f"{photos}/photo_{n:04d}.jpg" for n in range(COUNT) if n != 7]
    load = ImageLoader(DecodePolicy(), tiny.preprocessing, decoder)
    with open_engine(tiny, engine="torch", batch_size=4) as engine:
        pixels = [load(Path(name).read_bytes(), name).pixels for name in names]
        rows = np.array([engine.embed(one[None])[0] for one in pixels])
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        assert list(store.ids) == names
        assert [(failure.id, failure.reason) for failure in store.failures()] == [
            (f"{photos}/photo_0007.jpg", "empty file (0 bytes)")
        ]
        assert np.array_equal(store.to_numpy(), rows.astype(np.float16))
        assert set(store.images("width")) == {48}
        assert store.meta.head_applies
        logits = store.to_numpy(np.float32) @ store.head.weight.T + store.head.bias
    mean, std = (np.array(v, np.float32) for v in (tiny.preprocessing.mean, tiny.preprocessing.std))
    images = torch.from_numpy((np.array(pixels, np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = tiny.classifier(images).numpy()
    assert np.allclose(logits, expected, atol=2e-3)


@pytest.mark.parametrize("workers", [2, 5, 64])
def test_workers_don_t_change_a_bit(tiny, photos, whole, tmp_path, workers):
    extract(photos, tmp_path / "a.h5", backbone=tiny, workers=workers, **SMALL)
    assert same_bytes(tmp_path / "a.h5", whole)


def test_openvino_workers_stops_and_shards_don_t_change_a_bit(tiny, photos, tmp_path):
    settings = {**SMALL, "engine": "openvino"}
    extract(photos, tmp_path / "a.h5", backbone=tiny, workers=1, **settings)
    run_with_stops(photos, tmp_path / "b.h5", tiny, every=30, workers=5, **settings)
    assert same_bytes(tmp_path / "b.h5", tmp_path / "a.h5")


@pytest.mark.parametrize("shard_rows", [3, 4, 50, 1000])
def test_one_file_is_the_same_whatever_its_shards_were(tiny, photos, whole, tmp_path, shard_rows):
    settings = {**SMALL, "shard_rows": shard_rows}
    extract(photos, tmp_path / "a.h5", backbone=tiny, workers=2, **settings)
    assert same_bytes(tmp_path / "a.h5", whole)


@pytest.mark.parametrize("sharded", [False, True])
def test_stops_don_t_change_a_bit(tiny, photos, tmp_path, sharded):
    outputs = [tmp_path / "a", tmp_path / "b"]
    extract(photos, outputs[0], backbone=tiny, sharded=sharded, **SMALL)
    result = run_with_stops(photos, outputs[1], tiny, sharded=sharded, workers=3, **SMALL)
    assert (result.found, result.embedded, result.failed) == (51, 49, 1)
    assert same_bytes(*outputs)
    assert verify(outputs[1]) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_an_error_in_the_middle_costs_nothing(tiny, photos, whole, tmp_path, monkeypatch):
    run = TorchEngine._run
    calls = []

    def failing(self, images):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("the device is gone")
        return run(self, images)

    output = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "_run", failing)
        with pytest.raises(RuntimeError, match="the device is gone"):
            extract(photos, output, backbone=tiny, workers=1, **SMALL)
    result = extract(photos, output, backbone=tiny, workers=2, **SMALL)
    assert result.resumed > 15
    assert same_bytes(output, whole)


def test_a_full_disk_costs_nothing(tiny, photos, whole, tmp_path, monkeypatch):
    """The commit of a shard fails, and so does saving it as unfinished, or not."""
    from embedkit.utils import working_dir as partial

    for survives in (True, False):
        output = tmp_path / f"{survives}.h5"
        commit = partial.commit_bytes

        def failing(path, data, commit=commit, survives=survives):
            if "000002.h5" in path.name or (not survives and "unfinished" in path.name):
                raise StoreError(f"{path}: can't be written: No space left on device")
            commit(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(partial, "commit_bytes", failing)
            with pytest.raises(StoreError, match="No space left"):
                extract(photos, output, backbone=tiny, workers=1, **SMALL)
        result = extract(photos, output, backbone=tiny, **SMALL)
        assert result.resumed >= (27 if survives else 18)
        assert same_bytes(output, whole)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "weights_fingerprint"),
        ({"preprocessing": {"resize": 40}}, "preprocessing.resize"),
        ({"pooling": "max"}, "pooling.pooling"),
        ({"dtype": "float32"}, "dtype"),
        ({"normalize": True}, "normalized"),
        ({"batch_size": 8}, "engine.batch_size"),
        ({"shard_rows": 10}, "shard_rows"),
        ({"decoder": "exact"}, "decode.decoder"),
        ({"policy": DecodePolicy(max_pixels=10**6)}, "decode.max_pixels"),
    ],
)
def test_a_resume_with_other_settings_is_refused(photos, tmp_path, change, name):
    settings = {"backbone": "tiny", "weights": "random", **SMALL}
    stop = threading.Event()
    stop.set()
    assert not extract(photos, tmp_path / "a.h5", stop=stop, **settings).complete
    with pytest.raises(StoreMismatchError) as caught:
        extract(photos, tmp_path / "a.h5", **{**settings, **change})
    assert name in caught.value.differences
    assert extract(photos, tmp_path / "a.h5", **settings).complete


def test_other_sources_engines_and_backbones_are_refused(tiny, photos, tmp_path):
    stop = threading.Event()
    stop.set()
    output = tmp_path / "a.h5"
    extract(photos, output, backbone=tiny, stop=stop, **SMALL)
    write_photos(tmp_path / "other", 2, size=(40, 40))
    with pytest.raises(StoreMismatchError, match="source"):
        extract(tmp_path / "other", output, backbone=tiny, **SMALL)
    with pytest.raises(StoreMismatchError, match=r"engine\.name: torch != openvino"):
        extract(photos, output, backbone=tiny, **{**SMALL, "engine": "openvino"})
    result = extract(photos, output, backbone=tiny, engine="torch")  # batch size: the frozen one
    assert result.complete
    with EmbeddingStore.open(output) as store:
        assert store.meta.engine["batch_size"] == 4


def test_complete_already(tiny, photos, whole, tmp_path, monkeypatch):
    output = shutil.copy(whole, tmp_path / "a.h5")
    monkeypatch.setattr(
        "embedkit.extraction.precision.open_engine", None
    )  # not even an engine is made
    result = extract(photos, output, backbone=tiny, batch_size=99)
    assert result.complete
    assert result.found == result.resumed == 51
    with pytest.raises(StoreMismatchError, match="dtype"):
        extract(photos, output, backbone=tiny, dtype="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_source_that_changed_and_overwrite(tiny, tmp_path, sharded):
    source, output = tmp_path / "photos", tmp_path / "a.h5"
    write_photos(source, 3, size=(40, 40))
    extract(source, output, backbone=tiny, sharded=sharded, **SMALL)
    write_photos(source, 5, size=(40, 40))
    with pytest.raises(StoreError, match=r"changed since: 2 added \(.*photo_0003\.jpg"):
        extract(source, output, backbone=tiny, sharded=sharded, **SMALL)
    result = extract(source, output, backbone=tiny, overwrite=True, sharded=not sharded, **SMALL)
    assert result.embedded == 5
    assert output.is_dir() == (not sharded)
    assert verify(output) == []
    extract(source, output, backbone=tiny, overwrite=True, sharded=not sharded, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "photos"]


def test_a_folder_that_is_no_store_is_never_replaced(tiny, photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="not an embedkit store"):
            extract(photos, tmp_path / "mine", backbone=tiny, overwrite=overwrite, **SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "letter.txt"]


def test_a_store_may_lie_in_its_source(tiny, tmp_path):
    write_photos(tmp_path, 3, size=(40, 40))
    for sharded in (False, True):
        output = tmp_path / f"store{sharded}"
        settings = {"backbone": tiny, "sharded": sharded, **SMALL}
        first = extract(tmp_path, output, **settings)
        again = extract(tmp_path, output, **settings)
        assert first.found == again.found
        shutil.rmtree(output) if sharded else output.unlink()


def test_bad_images_spoil_nothing(tiny, tmp_path):
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    write_photos(good, 12, size=(40, 40))
    shutil.copytree(good, mixed)
    photo = encode(draw_photo(99, (400, 300)), "JPEG")
    bad = {
        "photo_0000a.jpg": photo[: len(photo) // 2],
        "photo_0003a.jpg": b"",
        "photo_0004a.png": b"just text, no image",
        "photo_0005a.jpg": encode(Image.new("1", (12_000, 12_000)), "PNG"),
        "photo_0009a.webp": os.urandom(500),
    }
    for name, data in bad.items():
        (mixed / name).write_bytes(data)
    (mixed / "photo_0006a.gif").write_bytes(photo)  # only the name is wrong
    (mixed / "sub").mkdir()
    (mixed / "sub" / os.fsdecode(b"\xff\n.jpg")).write_bytes(photo)
    extract(good, tmp_path / "good.h5", backbone=tiny, **SMALL)
    result = extract(mixed, tmp_path / "mixed.h5", backbone=tiny, workers=3, **SMALL)
    assert (result.embedded, result.failed, result.skipped) == (14, 5, 0)
    with (
        EmbeddingStore.open(tmp_path / "good.h5") as a,
        EmbeddingStore.open(tmp_path / "mixed.h5") as b,
    ):
        for name in a.ids:
            assert np.array_equal(a.get(name), b.get(name.replace("/good/", "/mixed/")))
        failures = list(b.failures())
        assert [failure.id.rpartition("/")[2] for failure in failures] == sorted(bad)
        assert all(failure.reason and "\n" not in failure.reason for failure in failures)
        assert f"{mixed}/sub/\udcff\n.jpg" in b.ids
        assert b.labels is None or "sub" in b.labels
    assert verify(tmp_path / "mixed.h5") == []


def test_all_images_are_bad(tiny, tmp_path):
    (tmp_path / "bad").mkdir()
    for number in range(11):
        (tmp_path / "bad" / f"{number:02d}.jpg").write_bytes(b"x" * number)
    message = "no image was embedded, so no store is written: 11 found, 11 failed, 0 skipped.*empty"
    with pytest.raises(NothingEmbeddedError, match=message) as caught:
        extract(tmp_path / "bad", tmp_path / "a.h5", backbone=tiny, **SMALL)
    assert [failure.nbytes for failure in caught.value.failures] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_folder_of_archives_says_how_to_read_them(tiny, tmp_path):
    for name in ("s/0.tar", "s/1.tar", "t.parquet"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    root = tmp_path / "in"
    message = f"3 skipped.*archives .2 .tar, 1 .parquet.*'{root}/s/\\*.tar', '{root}/\\*.parquet'"
    with pytest.raises(NothingEmbeddedError, match=message):
        extract(root, tmp_path / "a.h5", backbone=tiny, **SMALL)


def test_named_files_are_judged_by_their_content(tiny, photos, tmp_path):
    (tmp_path / "photo.jpg_large").write_bytes((photos / "photo_0000.jpg").read_bytes())
    (tmp_path / "LICENSE").write_text("no image")
    named = [tmp_path / "photo.jpg_large", tmp_path / "LICENSE"]
    with pytest.raises(NothingEmbeddedError, match="LICENSE: not an image: text"):
        extract(named[1], tmp_path / "a.h5", backbone=tiny, **SMALL)
    result = extract(named, tmp_path / "b.h5", backbone=tiny, **SMALL)
    assert (result.embedded, result.failed, result.skipped) == (1, 1, 0)
    result = extract(f"{tmp_path}/[pL]*", tmp_path / "c.h5", backbone=tiny, **SMALL)
    assert (result.embedded, result.failed, result.skipped) == (1, 0, 1)


def test_images_without_a_label_are_counted(tiny, photos, tmp_path):
    (tmp_path / "l.csv").write_text("no,name,kind\n1,photo_0001.jpg,cat\n")
    columns = {"label_column": "kind", "label_id_column": "name"}
    settings = {"labels": str(tmp_path / "l.csv"), **columns, **SMALL}
    for _ in range(2):  # the second call finds the finished store
        result = extract(photos, tmp_path / "a.h5", backbone=tiny, **settings)
        assert (result.found, result.unlabelled) == (51, 50)
    with pytest.raises(StoreMismatchError, match="label_id_column"):
        settings = {**settings, "label_id_column": "no"}
        stop = threading.Event()
        stop.set()
        extract(photos, tmp_path / "b.h5", backbone=tiny, stop=stop, labels="none", **SMALL)
        extract(photos, tmp_path / "b.h5", backbone=tiny, **settings)


def test_a_dataset_is_read_in_this_process(tiny, photos, whole, tmp_path):
    files = [photos / f"photo_{number:04d}.jpg" for number in range(20)]
    images = pa.array([{"bytes": file.read_bytes(), "path": file.name} for file in files])
    dataset = StandIn(pa.table({"image": images}))
    settings = {"backbone": tiny, "prefix": "pets", "processes": True, **SMALL}
    result = extract(dataset, tmp_path / "a.h5", **settings)
    assert (result.embedded, result.failed) == (19, 1)
    assert extract(dataset, tmp_path / "a.h5", **settings).resumed == 20
    with EmbeddingStore.open(tmp_path / "a.h5") as store, EmbeddingStore.open(whole) as other:
        assert np.array_equal(store.to_numpy(), other.to_numpy()[:19])
        assert store.ids[0] == "pets/dataset:pets/train#photo_0000.jpg"
        assert store.meta.source == ["dataset:pets/train"]


def test_no_images_leave_nothing(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no images found"):
        extract(tmp_path / "empty", tmp_path / "a.h5", backbone=tiny, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_tar_with_companions(tiny, photos, whole, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(20):
            tar.add(photos / f"photo_{number:04d}.jpg", f"{number:04d}.jpg")
            tar.add(photos / "notes.txt", f"{number:04d}.txt")
    outputs = [tmp_path / "a.h5", tmp_path / "b.h5"]
    first = extract(tmp_path / "a.tar", outputs[0], backbone=tiny, **SMALL)
    assert (first.found, first.embedded, first.failed, first.skipped) == (20, 19, 1, 0)
    run_with_stops(tmp_path / "a.tar", outputs[1], tiny, every=4, workers=3, **SMALL)
    assert same_bytes(*outputs)
    with EmbeddingStore.open(outputs[0]) as store, EmbeddingStore.open(whole) as other:
        assert np.array_equal(store.to_numpy(), other.to_numpy()[:19])
        assert store.ids[0] == f"{tmp_path}/a.tar#0000.jpg"


def test_labels(tiny, photos, tmp_path):
    for label in ("cat", os.fsdecode(b"d\xf6g")):
        write_photos(tmp_path / "set" / label, 2, size=(40, 40))
    settings = {"backbone": tiny, **SMALL}
    extract(tmp_path / "set", tmp_path / "a.h5", labels="folder", **settings)
    with EmbeddingStore.open(tmp_path / "a.h5") as store:
        assert store.labels == ["cat", "cat", "d\udcf6g", "d\udcf6g"]
    extract(tmp_path / "set", tmp_path / "b.h5", labels="none", **settings)
    with EmbeddingStore.open(tmp_path / "b.h5") as store:
        assert store.labels is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("normalize", [False, True])
def test_what_isn_t_finite_fails(tiny, tmp_path, monkeypatch, dtype, normalize):
    values = np.zeros((5, 16), np.float32)
    values[:, 0] = [1, np.nan, 1e6, 3e38, 3e38]
    values[3, 1] = 3e38  # the square overflows float32
    monkeypatch.setattr(TorchEngine, "_run", lambda self, images: values.copy())
    source, output = tmp_path / "photos", tmp_path / "a.h5"
    write_photos(source, 5, size=(40, 40))
    (source / "photo_0001a.jpg").write_bytes(b"")
    settings = {**SMALL, "batch_size": 5, "dtype": dtype, "normalize": normalize}
    (source / "photo_0004.jpg").unlink()
    extract(source, output, backbone=tiny, **settings)
    overflows = dtype == "float16" and not normalize
    with EmbeddingStore.open(output) as store:
        failed = [(failure.id[-9:-4], failure.reason) for failure in store.failures()]
        large = 'embedding too large for float16: use dtype="float32"'
        assert failed == [
            ("_0001", "embedding is not finite"),
            ("0001a", "empty file (0 bytes)"),
            *([("_0002", large), ("_0003", large)] if overflows else []),
        ]
        rows = store.to_numpy(np.float64)
        assert len(rows) == (1 if overflows else 3)
        assert not normalize or np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


def test_normalized_rows(tiny, photos, whole, tmp_path):
    settings = {**SMALL, "dtype": "float32"}
    extract(photos, tmp_path / "a.h5", backbone=tiny, normalize=True, **settings)
    with EmbeddingStore.open(tmp_path / "a.h5") as store, EmbeddingStore.open(whole) as other:
        rows = other.to_numpy(np.float32)
        expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        assert np.allclose(store.to_numpy(), expected, atol=1e-3)
        assert store.meta.normalized
        assert not store.meta.head_applies


@pytest.mark.parametrize(
    "pooled",
    [
        {"pooling": "avg+max"},
        {"pooling": "max"},
        {"layers": ["conv2"]},
        {"layers": ["conv1", "conv3"]},
        {"normalize": True},
        {"flip": True},
    ],
    ids=str,
)
def test_stores_of_every_pooling_open_and_verify(photos, tmp_path, pooled):
    path = tmp_path / "s.h5"
    extract(photos, path, backbone="tiny", **SMALL, **pooled)
    verify(path)
    with EmbeddingStore.open(path) as store:
        assert store.to_numpy().shape == (len(store), store.meta.feature_dim)
        assert store.head is not None
        assert store.meta.head_applies == (pooled == {"flip": True})


@pytest.mark.parametrize(
    "wrong",
    [{"dtype": "float64"}, {"workers": 0}, {"shard_rows": 0}, {"batch_size": 0}, {"seed": 1}],
)
def test_wrong_arguments(tiny, photos, tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong)).replace('_', '.')}"):
        extract(photos, tmp_path / "a.h5", backbone=tiny, engine="torch", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_preview(tiny, photos, tmp_path):
    told = preview(photos, tmp_path / "a.h5", backbone=tiny, engine="torch", batch_size=4)
    assert (told.found, told.exists, told.resumes) == (51, False, False)
    assert told.store_bytes == 51 * 16 * 2
    assert list(tmp_path.iterdir()) == []


def test_in_order():
    assert list(in_order(abs, range(-9, 9), 3)) == [(n, abs(n)) for n in range(-9, 9)]
    taken = []
    results = in_order(abs, (taken.append(n) or n for n in range(1000)), 2)
    next(results)
    results.close()
    assert len(taken) <= 4


KILLED = """
import os, signal, sys
from pathlib import Path
from embedkit.backbones import load_backbone
from embedkit import extract

source, folder = sys.argv[1:]
backbone = load_backbone("tiny", weights="random")
names = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]
real = {name: getattr(owner, name) for owner, name in names}


def deadly(name, left):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*args, **kwargs)

    return call


def run(moment, output):
    left = [moment]
    for owner, name in names:
        setattr(owner, name, deadly(name, left))
    extract(source, output, backbone=backbone, engine="torch", batch_size=4, shard_rows=9)


for moment in range(0, 400, 3):
    child = os.fork()
    if child == 0:
        run(moment % 40, f"{folder}/a.h5")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print(moment // 3)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.long
def test_sigkill_at_every_kind_of_step(photos, whole, tmp_path):
    """Children are killed at an fsync, rename or removal until one of them comes to the end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, photos, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # kills
    assert same_bytes(tmp_path / "a.h5", whole)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert json.dumps(verify(tmp_path / "a.h5")) == "[]"


def test_a_resume_keeps_to_the_labels(tiny, photos, tmp_path):
    output, stop = tmp_path / "a.h5", threading.Event()
    stop.set()
    begun = extract(photos, output, backbone=tiny, labels="folder", stop=stop, **SMALL)
    assert not begun.complete
    with pytest.raises(StoreMismatchError, match="labels: folder != none"):
        extract(photos, output, backbone=tiny, labels="none", **SMALL)
    assert extract(photos, output, backbone=tiny, labels="folder", **SMALL).complete


def test_the_size_of_what_is_over_the_limit_is_kept(tiny, tmp_path):
    (path,) = write_photos(tmp_path / "photos", 1, size=(48, 40))
    limit = path.stat().st_size - 1
    with pytest.raises(NothingEmbeddedError) as caught:
        extract(path.parent, tmp_path / "a.h5", backbone=tiny, policy=DecodePolicy(max_bytes=limit))
    (failure,) = caught.value.failures
    assert "over the limit" in failure.reason
    assert failure.nbytes == limit + 1
