import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from embedkit.store import EmbeddingStore


def test_extract_tells_what_it_did(embedkit, photos, tmp_path):
    path = tmp_path / "x.h5"
    ended = embedkit("extract", photos, "-o", path, "-b", "tiny")
    assert ended.code == 0
    assert "8 found = 8 embedded + 0 failed + 0 skipped" in ended.out
    assert "licence" in ended.err
    with EmbeddingStore.open(path) as store:
        assert len(store) == 8


def test_json_is_all_that_stdout_gets(embedkit, photos, tmp_path):
    told = embedkit("extract", photos, "-o", tmp_path / "x.h5", "-b", "tiny", "--json").json
    assert (told["found"], told["embedded"], told["failed"], told["skipped"]) == (8, 8, 0, 0)
    assert told["complete"] is True


def test_quiet_says_nothing_on_stderr(embedkit, photos, tmp_path):
    ended = embedkit("--quiet", "extract", photos, "-o", tmp_path / "x.h5", "-b", "tiny")
    assert (ended.code, ended.err) == (0, "")


def test_some_failed_is_exit_code_3(embedkit, photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "notes.txt").write_text("neither by name nor by content")
    ended = embedkit("extract", folder, "-o", tmp_path / "x.h5", "-b", "tiny")
    assert ended.code == 3
    assert "11 found = 8 embedded + 2 failed + 1 skipped" in ended.out
    told = embedkit("info", tmp_path / "x.h5", "--json").json
    assert {os.path.basename(f["id"]) for f in told["failures"]} == {"zero.jpg", "text.png"}
    assert all(f["reason"] for f in told["failures"])


def test_second_run_finds_it_complete(embedkit, photos, store):
    before = store.read_bytes()
    ended = embedkit("extract", photos, "-o", store, "-b", "tiny")
    assert ended.code == 0
    assert "complete already" in ended.out
    assert store.read_bytes() == before


def test_other_settings_are_refused_by_name(embedkit, photos, store):
    ended = embedkit("extract", photos, "-o", store, "-b", "tiny", "--flip")
    assert ended.code == 1
    assert "pooling.flip: False != True" in ended.err
    assert len(ended.err.strip().splitlines()) <= 2  # the licence, and one line of error
    assert embedkit("extract", photos, "-o", store, "-b", "tiny", "--flip", "--overwrite").code == 0


def test_thumbnails_can_be_left_out(embedkit, photos, store, tmp_path):
    path = tmp_path / "x.h5"
    assert embedkit("extract", photos, "-o", path, "-b", "tiny", "--no-thumbnails").code == 0
    for one, has, says in ((store, True, "32 x 32 pixels, gray"), (path, False, "none")):
        assert embedkit("info", one, "--json").json["thumbnails"] is has
        assert re.search(f"^thumbnails: +{says}$", embedkit("info", one).out, re.MULTILINE)
    ended = embedkit("extract", photos, "-o", path, "-b", "tiny")
    assert ended.code == 1
    assert "omitted_columns: ['thumbnail'] != None" in ended.err
    assert embedkit("extract", photos, "-o", path, "--update").code == 0
    ended = embedkit("extract", photos, "-o", store, "--update", "--no-thumbnails")
    assert ended.code == 1
    assert "thumbnails: True != False" in ended.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere/"], "nowhere"),
        (["{photos}", "-b", "resnet50_swls"], "resnet50_swsl"),
        (["{photos}", "-b", "tiny", "--device", "cuda:99"], "cuda:99"),
        (["{photos}", "-b", "tiny", "--layers", "nolayer"], "nolayer"),
        (["{photos}", "-b", "tiny", "--weights", "missing.pth"], "missing.pth"),
    ],
)
def test_expected_errors_are_one_line(embedkit, photos, tmp_path, args, says):
    args = [arg.replace("{photos}", str(photos)) for arg in args]
    ended = embedkit("--quiet", "extract", *args, "-o", tmp_path / "x.h5")
    assert ended.code == 1
    assert says in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "x.h5.partial").exists()


@pytest.mark.parametrize(
    "args", [["--batch-size", "many"], ["--background", "blue-ish"], ["--dtype", "int8"], []]
)
def test_bad_usage_is_exit_code_2(embedkit, photos, args):
    assert embedkit("extract", photos, *args).code == 2


def test_a_list_with_labels_for_some(embedkit, photos, tmp_path):
    files = [path for path in sorted(photos.iterdir()) if path.suffix == ".jpg"][:3]
    rows = [f"{file},{label}" for file, label in zip(files, ("cat", "", "dog"), strict=True)]
    names = tmp_path / "list.csv"
    names.write_text("\n".join(["path,label", *rows]) + "\n")
    options = ["-b", "tiny", "--prefix", "mine"]
    ended = embedkit("extract", names, "-o", tmp_path / "x.h5", *options)
    assert (ended.code, "1 of 3 files have no label" in ended.err) == (0, True)
    with EmbeddingStore.open(tmp_path / "x.h5") as store:
        assert store.labels == ["cat", "", "dog"]
        assert store.ids[0] == f"mine/{files[0]}"
    ended = embedkit("extract", names, "-o", tmp_path / "x.h5", *options, "--json")
    assert json.loads(ended.out)["unlabelled"] == 1


def test_a_list_from_another_system_is_refused_in_the_words_of_the_command_line(embedkit, tmp_path):
    names = tmp_path / "list.txt"
    names.write_bytes("a.jpg\r\n".encode("utf-16-le"))
    ended = embedkit("extract", names, "-o", tmp_path / "x.h5", "-b", "tiny")
    assert ended.code == 1
    assert "if its entries end in NUL (find -print0), pass --null" in ended.err


def test_a_named_file_that_is_no_image(embedkit, tmp_path):
    (tmp_path / "LICENSE").write_text("hello")
    ended = embedkit("extract", tmp_path / "LICENSE", "-o", tmp_path / "x.h5", "-b", "tiny")
    assert ended.code == 1
    assert "no image was embedded, so no store is written: 1 found, 1 failed" in ended.err
    assert not (tmp_path / "x.h5").exists()


def test_options_by_environment_and_file(embedkit, photos, tmp_path, monkeypatch):
    config = tmp_path / "embedkit.toml"
    text = '[extract]\nbackbone = "tiny"\nnormalize = true\nbatch-size = "4"\n'
    config.write_text(text, encoding="utf-8-sig")  # as Notepad saves it
    monkeypatch.setenv("EMBEDKIT_EXTRACT_DTYPE", "float32")
    path = tmp_path / "x.h5"
    assert embedkit("--config", config, "extract", photos, "-o", path).code == 0
    with EmbeddingStore.open(path) as store:
        assert store.meta.normalized
        assert store.meta.dtype == "float32"
        assert store.meta.engine["batch_size"] == 4


def test_config_with_an_unknown_key_is_refused(embedkit, photos, tmp_path):
    config = tmp_path / "embedkit.toml"
    config.write_text("[extract]\nbackbones = 'tiny'\n")
    ended = embedkit("--config", config, "extract", photos, "-o", tmp_path / "x.h5")
    assert ended.code == 2
    assert "backbones" in ended.err


def test_dry_run_writes_nothing(embedkit, photos, tmp_path):
    args = ("extract", photos, "-o", tmp_path / "x.h5", "-b", "tiny", "--dry-run")
    told = embedkit(*args, "--json").json
    assert told["found"] == 8
    assert not told["exists"]
    assert "engine" in embedkit(*args).out
    assert list(tmp_path.iterdir()) == []


def test_list_on_stdin(embedkit, photos, tmp_path, monkeypatch):
    names = b"\n".join(sorted(os.fsencode(path) for path in photos.iterdir())[:3])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(names)))
    ended = embedkit("extract", "-", "-o", tmp_path / "x.h5", "-b", "tiny", "--json")
    assert ended.json["embedded"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_commits_and_says_how_to_go_on(embedkit, photos, tmp_path, number):
    names = tmp_path / "list.txt"
    names.write_text("\n".join(str(path) for path in sorted(photos.iterdir())) + "\n")
    names.write_text(names.read_text() * 400)
    stopped, whole = tmp_path / "stopped.h5", tmp_path / "whole.h5"
    options = ["-b", "tiny", "--shard-rows", "500", "--precision", "fp32"]
    command = [sys.executable, "-m", "embedkit_cli", "extract", str(names), "-o", str(stopped)]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    shard = tmp_path / "stopped.h5.partial" / "shard-000000.h5"
    while not shard.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in err
    ended = embedkit("extract", names, "-o", stopped, *options)
    assert ended.code == 0
    assert "of them before" in ended.out
    assert embedkit("extract", names, "-o", whole, *options).code == 0
    assert stopped.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("what", ["photo", "foreign file", "foreign folder"])
def test_overwrite_replaces_nothing_but_stores(embedkit, photos, tmp_path, what):
    folder = shutil.copytree(photos, tmp_path / "photos")
    output = min(folder.iterdir()) if what == "photo" else tmp_path / "mine"
    if what == "foreign file":
        output.write_text("mine")
    if what == "foreign folder":
        output.mkdir()
        (output / "mine.txt").write_text("mine")
    ended = embedkit("extract", folder, "-o", output, "-b", "tiny", "--overwrite")
    assert ended.code == 1
    assert str(output) in ended.err
    assert output.is_dir() or not output.read_bytes().startswith(b"embedkit store")
    assert len(list(folder.iterdir())) == 8


def test_a_source_is_never_the_output(embedkit, photos, tmp_path):
    photo = shutil.copy(min(photos.iterdir()), tmp_path / "a.jpg")
    before = photo.read_bytes()
    for more in ([], ["--overwrite"]):
        ended = embedkit("extract", photo, "-o", photo, "-b", "tiny", *more)
        assert ended.code == 1
        assert "one of the sources" in ended.err
    assert photo.read_bytes() == before


def test_a_damaged_store_can_be_overwritten(embedkit, photos, store):
    store.write_bytes(store.read_bytes()[:3000])
    assert embedkit("extract", photos, "-o", store, "-b", "tiny").code == 1
    assert embedkit("extract", photos, "-o", store, "-b", "tiny", "--overwrite").code == 0
    assert embedkit("verify", store).code == 0


def test_other_files_in_the_working_folder_stay(embedkit, photos, tmp_path):
    partial = tmp_path / "x.h5.partial"
    partial.mkdir()
    (partial / "mine.txt").write_text("mine")
    assert embedkit("extract", photos, "-o", tmp_path / "x.h5", "-b", "tiny").code == 0
    assert [path.name for path in partial.iterdir()] == ["mine.txt"]


def test_output_that_cannot_be_made_is_an_error(embedkit, photos):
    ended = embedkit("--quiet", "extract", photos, "-o", "/proc/nowhere/x.h5", "-b", "tiny")
    assert ended.code == 1
    assert "can't be made" in ended.err


def test_layout_of_a_finished_store_is_held_to(embedkit, photos, store):
    ended = embedkit("extract", photos, "-o", store, "-b", "tiny", "--sharded")
    assert ended.code == 1
    assert "sharded: False != True" in ended.err


def test_a_trailing_slash_is_the_same_source(embedkit, photos, tmp_path):
    output = tmp_path / "x.h5"
    assert embedkit("extract", f"{photos}/", "-o", output, "-b", "tiny").code == 0
    assert "complete already" in embedkit("extract", photos, "-o", output, "-b", "tiny").out


@pytest.mark.slow
def test_signal_before_the_first_image_ends_at_once(tmp_path):
    command = [sys.executable, "-m", "embedkit_cli", "extract", "-", "-o", str(tmp_path / "x.h5")]
    process = subprocess.Popen(
        [*command, "-b", "tiny"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "listing" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert list(tmp_path.iterdir()) == []


STOPPING = """
import contextlib, io, os, signal, sys, time
from embedkit_cli import _extraction

_extraction._AGAIN_SECONDS = 0.2
stopping = _extraction.Stopping()

def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""

AGAIN = """
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)]
try:
    with stopping:
        with contextlib.suppress(KeyboardInterrupt):
            interrupt()
        time.sleep(60)
        print("it didn't come again")
except KeyboardInterrupt:
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)]
    time.sleep(0.5)
    print("came again, then nothing:", after == before)
"""

OTHER_ERROR = """
try:
    with stopping:
        try:
            interrupt()
        except KeyboardInterrupt:
            raise ImportError("half of a module") from None
except KeyboardInterrupt:
    print("an interrupt")
"""

IN_A_PRINT = """
class Interrupted(io.RawIOBase):
    sent = False

    def writable(self):
        return True

    def write(self, data):
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return len(data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(Interrupted()), write_through=True)
try:
    with stopping:
        sys.stderr.write("listing")
        sys.stderr.flush()
        time.sleep(60)
except KeyboardInterrupt:
    print("an interrupt")
"""


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        (AGAIN, "came again, then nothing: True"),
        (OTHER_ERROR, "an interrupt"),
        (IN_A_PRINT, "an interrupt"),
    ],
    ids=["dropped by a library", "made another error", "during a print"],
)
def test_an_interrupt_is_never_lost(script, printed):
    command = [sys.executable, "-c", STOPPING + script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{printed}\n"
    assert done.stderr.count("interrupted") == 1


def test_update_tells_what_it_did(embedkit, photos, tmp_path):
    folder, path = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "x.h5"
    embedkit("extract", folder, "-o", path, "-b", "tiny")
    jpegs = sorted(folder.glob("*.jpg"))
    jpegs[0].unlink()
    jpegs[2].write_bytes(jpegs[1].read_bytes())
    shutil.copy(jpegs[1], folder / "new.jpg")
    counted = embedkit("extract", folder, "-o", path, "--update", "--dry-run", "--json").json
    assert [counted[kind] for kind in ("added", "changed", "removed", "retried")] == [1, 1, 1, 0]
    ended = embedkit("extract", folder, "-o", path, "--update")
    assert ended.code == 0
    assert "x.h5: +1 ~1 -1; now 8 found = 8 embedded" in ended.out
    told = embedkit("extract", folder, "-o", path, "--update", "--json").json
    assert (told["written"], told["generation"], told["added"]) == (False, 1, [])
    assert "x.h5: up to date, 8 found" in embedkit("extract", folder, "-o", path, "--update").out
    assert "updated 1 time" in embedkit("info", path).out


def test_update_lists_the_images(embedkit, photos, tmp_path):
    folder, path = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "x.h5"
    (folder / "bad.jpg").write_bytes(b"no image")
    assert embedkit("extract", folder, "-o", path, "-b", "tiny").code == 3
    (folder / "bad.jpg").write_bytes(next(iter(sorted(folder.glob("photo*")))).read_bytes())
    told = embedkit("extract", folder, "-o", path, "--retry-failed", "--json").json
    assert told["recovered"] == [str(folder / "bad.jpg")]
    assert (told["added"], told["failed"]) == ([], 0)


def test_update_refuses_other_settings_in_the_words_of_the_command_line(
    embedkit, photos, store, tmp_path
):
    path = shutil.copy(store, tmp_path / "x.h5")
    ended = embedkit("extract", photos, "-o", path, "--update", "--flip")
    assert ended.code == 1
    assert "flip: False != True" in ended.err
    assert "--overwrite embeds everything anew" in ended.err
    ended = embedkit("extract", tmp_path, "-o", path, "--update")
    assert ended.code == 1
    assert "--keep-removed" in ended.err
    assert embedkit("extract", photos, "-o", path, "--update", "--overwrite").code == 1
    assert embedkit("extract", photos, "-o", path, "--keep-removed").code == 1
