"""Extraction on Ray: two machines that are processes here; workers and drivers that die."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from images import write_photos
from object_stores import files, s3_server
from ray_nodes import ROOT, marks, started, two_nodes, worker_processes

from embedkit.backbones import load_backbone
from embedkit.distributed.cluster import connected
from embedkit.distributed.worker_size import cores_per_worker
from embedkit.errors import WorkerError
from embedkit.extraction.extract import extract
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.store import EmbeddingStore

ray = pytest.importorskip("ray")

pytestmark = marks()
COUNT, POISON = int(os.environ.get("RAY_TEST_IMAGES", "60")), 7
KILLS = int(os.environ.get("RAY_TEST_KILLS", "3"))
SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 2, "sharded": True,
    "shard_rows": max(4, COUNT // 40),
}  # fmt: skip

# In the processes of workers and decoders: an image that equals a file crashes them. Another file
# slows them down.
CRASH = """
import os, sys
if "default_worker" in " ".join(sys.orig_argv) or "decode_worker" in " ".join(sys.orig_argv):
    import signal, simplejpeg, time
    really = simplejpeg.decode_jpeg
    def decode(data, *args, **kwargs):
        if os.path.exists({path!r}) and data == open({path!r}, "rb").read():
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(600)  # a real one doesn't let this thread go on while others end the process
        if os.path.exists({path!r} + ".slow"):
            time.sleep({seconds})
        return really(data, *args, **kwargs)
    simplejpeg.decode_jpeg = decode
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT, size=(64, 48))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "all"
    extract(photos, output, **SETTINGS)
    return content(output)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory):
    """Where a copy of the image that crashes its worker goes."""
    return tmp_path_factory.mktemp("hook") / "poison.jpg"


@pytest.fixture(scope="module")
def cluster(crashing):
    """The address of a cluster of two nodes, whose workers crash at the poison image."""
    hook = crashing.parent
    (hook / "sitecustomize.py").write_text(CRASH.format(path=str(crashing), seconds=20 / COUNT))
    with two_nodes(hook) as address:
        yield address


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


RUN = """
import json, sys
from embedkit import extract
extract(sys.argv[1], sys.argv[2], ray=sys.argv[3], workers=2, **json.loads(sys.argv[4]))
"""


def driver(photos, output, cluster):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, photos, output, cluster, json.dumps(SETTINGS)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_bytes_of_one_process(photos, whole, cluster, tmp_path):
    told = []
    output = tmp_path / "all"
    result = extract(photos, output, ray=cluster, workers=2, progress=told.append, **SETTINGS)
    assert content(output) == whole
    assert (result.found, result.embedded, result.failed) == (COUNT + 2, COUNT, 1)
    told = [progress for progress in told if progress.stage == "embedding"]
    assert told[-1].done == told[-1].total == COUNT + 2
    assert not ray.is_initialized()


def test_workers_leave_out_the_thumbnails(photos, cluster, tmp_path):
    extract(photos, tmp_path / "all", ray=cluster, workers=2, thumbnails=False, **SETTINGS)
    with EmbeddingStore.open(tmp_path / "all") as store:
        assert not any("thumbnail" in shard.columns for shard in store.structures)
        assert [*store.meta.omitted_columns] == ["thumbnail"]


def test_an_object_store_in_the_place_of_a_common_disk(photos, whole, crashing, tmp_path):
    """The cluster starts when the S3 server does: its workers find it by their environment."""
    from ray.cluster_utils import Cluster

    root = f"{crashing.parent}{os.pathsep}{ROOT}"
    with s3_server() as bucket, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", root)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        both = started(Cluster)
        try:
            url, work_dir = f"{bucket}/all", tmp_path / "work"
            result = extract(
                photos, url, ray=both.address, workers=2, work_dir=work_dir, **SETTINGS
            )
        finally:
            both.shutdown()
        assert (result.path, result.complete, result.embedded) == (url, True, COUNT)
        assert files(url) == whole
        assert not files(f"{url}.partial")
        assert not any(path.is_file() for path in work_dir.rglob("*"))


def test_workers_and_drivers_killed_at_random(photos, whole, cluster, tmp_path, crashing):
    crashing.with_name("poison.jpg.slow").touch()  # so that there is time to kill
    output, chance, kills = tmp_path / "all", random.Random(0), 0
    while not output.exists():
        process = driver(photos, output, cluster)
        while process.poll() is None and kills < KILLS:
            time.sleep(chance.uniform(0.2, 3))
            victims = [process.pid, *worker_processes(b"Worker", b"embed shard")]
            if len(victims) > 1 and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(victims), signal.SIGKILL)
                kills += 1
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
    crashing.with_name("poison.jpg.slow").unlink()
    assert kills == KILLS
    assert content(output) == whole
    assert not output.with_name("all.partial").exists()


def test_an_image_that_crashes_its_worker_is_named_and_the_rest_is_embedded(
    photos, tmp_path, cluster, crashing
):
    poison = photos / f"photo_{POISON:04d}.jpg"
    output = tmp_path / "all"
    crashing.write_bytes(poison.read_bytes())
    ray.init(cluster, log_to_driver=False, configure_logging=False)
    try:
        result = extract(photos, output, ray=cluster, workers=2, **SETTINGS)
        assert ray.is_initialized()  # the caller's own connection stays
    finally:
        ray.shutdown()
        crashing.unlink()
    assert (result.embedded, result.failed) == (COUNT - 1, 2)
    with EmbeddingStore.open(output) as store:
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "crashes its decoder (signal 11)"


def test_decoders_apart_from_the_workers_are_killed(photos, whole, cluster, tmp_path, crashing):
    crashing.with_name("poison.jpg.slow").touch()
    output, kills, ended = tmp_path / "all", 0, threading.Event()

    def run():
        try:
            extract(photos, output, ray=cluster, workers=1, decode_cpus=1, **SETTINGS)
        finally:
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not ended.wait(0.05):
        for victim in worker_processes(b"decode") if kills < 2 else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                kills += 1
            ended.wait(2)
    thread.join()
    crashing.with_name("poison.jpg.slow").unlink()
    assert kills == 2
    assert content(output) == whole


def test_an_image_that_crashes_a_decoder_is_named(photos, tmp_path, cluster, crashing):
    poison = photos / f"photo_{POISON:04d}.jpg"
    crashing.write_bytes(poison.read_bytes())
    output = tmp_path / "all"
    try:
        extract(photos, output, ray=cluster, workers=2, decode_cpus=2, **SETTINGS)
    finally:
        crashing.unlink()
    with EmbeddingStore.open(output) as store:
        reasons = {failure.id: failure.reason for failure in store.failures()}
    assert reasons[str(poison)] == "crashes its decoder (signal 11)"
    assert len(reasons) == 2


def test_stopped_and_resumed(photos, whole, cluster, tmp_path):
    output, stop = tmp_path / "all", threading.Event()

    def stop_soon(progress):
        if progress.stage == "embedding" and progress.done:
            stop.set()

    result = extract(
        photos, output, ray=cluster, workers=1, stop=stop, progress=stop_soon, **SETTINGS
    )
    assert not result.complete
    resumed = extract(photos, output, **SETTINGS)
    assert resumed.resumed >= result.found > 0
    assert content(output) == whole


def test_an_error_of_a_worker_is_one_line(photos, cluster, tmp_path, monkeypatch):
    to_config = WorkerTask.to_config

    def broken(self):
        config = to_config(self)
        return {**config, "loading": {**config["loading"], "weights": "missing.safetensors"}}

    monkeypatch.setattr(WorkerTask, "to_config", broken)
    with pytest.raises(WorkerError, match=r"embed shard \d+: .*missing\.safetensors"):
        extract(photos, tmp_path / "all", ray=cluster, workers=1, **SETTINGS)


def test_no_cluster_at_the_address():
    with (
        pytest.raises(WorkerError, match=r"no Ray cluster at '127\.0\.0\.1:1'"),
        connected("127.0.0.1:1"),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "1/2"}, "ray goes without part"),
        ({"update": True}, "ray goes without part"),
        ({"num_gpus": -1}, "num_gpus must be at least 0"),
        ({"num_gpus": 1, "ray": None}, "num_gpus goes with ray only"),
        ({"decode_cpus": -1}, "decode_cpus must be at least 0"),
        ({"decode_cpus": 1, "ray": None}, "decode_cpus goes with ray only"),
        ({"decode_cpus": 1, "processes": True}, "leave processes out"),
    ],
)
def test_settings_that_contradict_each_other(photos, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        extract(photos, tmp_path / "a", **{"ray": "local", **settings})


def test_a_loaded_backbone_stays_at_home(photos, tmp_path):
    with pytest.raises(ValueError, match="with ray a backbone must be given by its name"):
        extract(photos, tmp_path / "a", ray="local", backbone=load_backbone("tiny"))


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [([8], 2, 4), ([1, 1], 1, 1), ([8, 8], 3, 4), ([2], 4, 0.5), ([2], 3, 0.5), ([16, 4], 5, 4)],
)
def test_all_workers_fit_on_the_machines(cores, workers, expected):
    assert cores_per_worker(cores, workers) == expected
