"""Several processes on one plan: the same bytes, nothing lost, none left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from images import write_photos

from embedkit.backbones import load_backbone
from embedkit.backbones.config import LoadConfig
from embedkit.decode.preprocessing import Preprocessing
from embedkit.engines import choose_engine
from embedkit.errors import WorkerError
from embedkit.extraction.extract import extract
from embedkit.extraction.multi_gpu.task import WorkerTask
from embedkit.store import EmbeddingStore

COUNT = 60
SETTINGS = {"backbone": "tiny", "engine": "torch", "batch_size": 4, "shard_rows": 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "a.h5"
    extract(photos, output, device="cpu", **SETTINGS)
    return output


def workers():
    """The worker processes of any run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if b"embedkit.extraction.multi_gpu.worker" in command and folder.name.isdigit():
            found.append(int(folder.name))
    return found


def test_two_processes_give_the_bytes_of_one(photos, whole, tmp_path):
    told = []
    output = tmp_path / "a.h5"
    result = extract(photos, output, device="cpu,cpu", progress=told.append, **SETTINGS)
    told = [progress for progress in told if progress.stage == "embedding"]
    assert output.read_bytes() == whole.read_bytes()
    assert result.complete
    assert (result.found, result.embedded, result.failed) == (COUNT + 2, COUNT, 1)
    assert told[-1].done == told[-1].total == COUNT + 2
    assert told[-1].failed == 1
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert not workers()


def test_two_processes_leave_out_the_thumbnails(photos, tmp_path):
    paths = tmp_path / "a.h5", tmp_path / "b.h5"
    for path, device in zip(paths, ("cpu", "cpu,cpu"), strict=True):
        extract(photos, path, device=device, thumbnails=False, **SETTINGS)
        with EmbeddingStore.open(path) as store:
            assert "thumbnail" not in store.columns
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_stopped_and_gone_on_with_by_one_process(photos, whole, tmp_path):
    output, stop = tmp_path / "a.h5", threading.Event()

    def stop_soon(progress):
        if progress.stage == "embedding" and progress.done:
            stop.set()

    result = extract(photos, output, device="cpu,cpu", stop=stop, progress=stop_soon, **SETTINGS)
    assert not result.complete
    assert 0 < result.found < COUNT + 2
    resumed = extract(photos, output, device="cpu", **SETTINGS)
    assert resumed.complete
    assert resumed.resumed == result.found
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.long
def test_a_failing_process_costs_nothing(photos, whole, tmp_path, monkeypatch):
    output = tmp_path / "a.h5"
    # The second process looks for weights where there are none.
    start = WorkerTask.to_config

    def broken(self):
        config = start(self)
        if self.shards[0] == 1:
            config["loading"] = {**config["loading"], "weights": "missing.safetensors"}
        return config

    with monkeypatch.context() as patch:
        patch.setattr(WorkerTask, "to_config", broken)
        with pytest.raises(WorkerError, match=r"process on cpu failed \(.*missing\.safetensors"):
            extract(photos, output, device="cpu,cpu", **SETTINGS)
    assert not output.exists()
    assert extract(photos, output, device="cpu,cpu", **SETTINGS).complete
    assert output.read_bytes() == whole.read_bytes()


RUN = """
import sys
from embedkit import extract
print("begun", flush=True)
def tell(progress):
    if progress.stage == "embedding" and progress.done:
        print(progress.done, flush=True)
extract(sys.argv[1], sys.argv[2], device="cpu,cpu", progress=tell, backbone="tiny",
        engine="torch", batch_size=4, shard_rows=8)
"""


def begun(photos, output):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, photos, output], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    assert int(process.stdout.readline()) > 0
    return process


@pytest.mark.long
def test_no_process_outlives_a_killed_parent(photos, whole, tmp_path):
    output = tmp_path / "a.h5"
    process = begun(photos, output)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for _ in range(100):
        if not workers():
            break
        time.sleep(0.1)
    assert not workers()
    assert extract(photos, output, device="cpu", **SETTINGS).complete
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_killed_process_is_told(photos, whole, tmp_path):
    output = tmp_path / "a.h5"

    def kill_one(progress):
        for number in workers()[:1]:
            os.kill(number, signal.SIGKILL)

    with pytest.raises(WorkerError, match="it ended with -9"):
        extract(photos, output, device="cpu,cpu", progress=kill_one, **SETTINGS)
    assert extract(photos, output, device="cpu", **SETTINGS).complete
    assert output.read_bytes() == whole.read_bytes()


def test_a_loaded_backbone_is_for_one_device(photos, tmp_path):
    with pytest.raises(ValueError, match="given by its name"):
        extract(photos, tmp_path / "a.h5", backbone=load_backbone("tiny"), device="cpu,cpu")


def test_a_task_survives_json():
    loading = LoadConfig(
        weights=Path("weights.pth"), layers=("layer3",), preprocessing=Preprocessing(resize=100)
    )
    task = WorkerTask(
        output=Path("/caf\udce9/a.h5"),  # a name that isn't UTF-8
        shards=(1, 3),
        backbone="tiny",
        loading=loading,
        choice=choose_engine("torch", "cuda:1", "fp32"),
        cores=(0, 2),
        workers=None,
    )
    again = WorkerTask.from_config(json.loads(json.dumps(task.to_config())))
    assert again.choice == task.choice
    assert again.output == task.output
    assert again.shards == task.shards
    assert again.cores == task.cores
    assert again.loading.preprocessing == Preprocessing(resize=100).to_config()
    assert (again.loading.weights, again.loading.layers) == ("weights.pth", ("layer3",))


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_each_decodes_in_processes_of_its_own(photos, whole, tmp_path):
    output = tmp_path / "a.h5"
    extract(photos, output, device="cpu,cpu", processes=True, workers=2, **SETTINGS)
    assert output.read_bytes() == whole.read_bytes()
