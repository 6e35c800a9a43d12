"""Files and folders appear whole or not at all, and killed writers leave nothing for long."""

import os
import subprocess
import sys

import pytest

from embedkit.errors import StoreError
from embedkit.utils import atomic_write
from embedkit.utils.atomic_write import atomic_file, atomic_folder, remove_left_behind

# Stops at a named point, as a kill would, or waits there.
WRITER = """
import os, sys, time
from pathlib import Path
from embedkit.utils import atomic_write
path, kind, where = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0
def at(step):
    def run(*args, **options):
        global calls
        if calls == where:
            print("there", flush=True)
            if len(sys.argv) > 4:
                time.sleep(60)
            os._exit(9)
        calls += 1
        return step(*args, **options)
    return run
Path.replace, Path.mkdir = at(Path.replace), at(Path.mkdir)
atomic_write.sync_folder = at(atomic_write.sync_folder)
with getattr(atomic_write, "atomic_" + kind)(path) as made:
    if kind == "file":
        made.write(b"new")
    else:
        (made / "a").write_text("new")
"""


def write(path, kind, where, *more, **options):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, path, kind, str(where), *more],
        stdout=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, kind):
    path, states = tmp_path / "out", set()
    for where in range(10):
        remove_left_behind(path)
        for one in tmp_path.iterdir():
            (one / "a").unlink() if one.is_dir() else one.unlink()
            one.rmdir() if one.is_dir() else None
        if kind == "file":
            path.write_bytes(b"old")
        else:
            path.mkdir()
            (path / "a").write_text("old")
        process = write(path, kind, where)
        process.communicate(timeout=60)
        remove_left_behind(path)
        assert [one.name for one in tmp_path.iterdir()] == ["out"], where
        states.add((path if kind == "file" else path / "a").read_text())
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert where >= 2
    assert states == {"old", "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_being_written_is_left_alone(tmp_path, kind):
    path = tmp_path / "out"
    process = write(path, kind, 3 if kind == "folder" else 0, "wait")
    assert process.stdout.readline() == "there\n"
    before = sorted(one.name for one in tmp_path.iterdir())
    remove_left_behind(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == before
    process.kill()
    process.communicate()
    remove_left_behind(path)
    assert list(tmp_path.iterdir()) == []


def test_others_files_stay(tmp_path):
    names = [".out.tmp", ".out.12345678.tmp.jpg", ".other.12345678.tmp", "out.12345678.tmp"]
    for name in names:
        (tmp_path / name).touch()
    with atomic_file(tmp_path / "out") as file:
        file.write(b"x")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([*names, "out"])


def test_an_error_restores_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.mkdir()
    (path / "a").write_text("old")
    replace = type(path).replace

    def fails(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(type(path), "replace", fails)
    with pytest.raises(OSError, match="No space"), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(StoreError, match="can't be written"), atomic_file(tmp_path / "no" / "a"):
        pass


def test_the_place_where_an_old_folder_steps_aside_is_durable_before(tmp_path, monkeypatch):
    path, states = tmp_path / "a", []
    path.mkdir()
    (path / "old").touch()
    synced = atomic_write.sync_folder

    def sync(folder):
        synced(folder)
        if folder == tmp_path:
            states.append(((path / "old").exists(), len(list(tmp_path.glob(".a.*.new")))))

    monkeypatch.setattr(atomic_write, "sync_folder", sync)
    with atomic_write.atomic_folder(path) as new:
        (new / "new").touch()
    assert states == [(True, 1), (False, 1)]
    assert [one.name for one in path.iterdir()] == ["new"]
