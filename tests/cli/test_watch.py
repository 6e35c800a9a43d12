"""``embedkit watch``: a store and its index follow a folder until the command is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from images import write_photos

from embedkit import Index
from embedkit.extraction.extract import extract

SECONDS = 60


class Watch:
    """The command in a process of its own; its lines of JSON as they come."""

    def __init__(self, *args) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedkit_cli", "watch", *map(str, args), "--every", "0.2",
             "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # A shell's background jobs, and what they start, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def next(self) -> dict:
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, number: int) -> str:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, err
        return err


@pytest.fixture
def world(tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, 6)
    store = tmp_path / "a.h5"
    extract(photos, store, backbone="tiny")
    return photos, store, Index.build(store, tmp_path / "a.index")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_store_and_index_follow_the_folder(world, number) -> None:
    photos, store, index = world
    names = sorted(photos.iterdir())
    watch = Watch(photos, store, "--index", index)
    try:
        assert watch.next()["embedded"] == 6
        assert watch.next()["added"] == 0
        (photos / "new.jpg").write_bytes(names[0].read_bytes())
        names[1].unlink()
        done = {"added": [], "removed": []}  # one round may see the first change alone
        while not all(done.values()):
            changed = watch.next()
            for kind in done:
                if isinstance(changed[kind], list):
                    done[kind] += [name.rpartition("/")[2] for name in changed[kind]]
        assert done == {"added": ["new.jpg"], "removed": [names[1].name]}
        assert watch.next()["path"] == str(index)
    finally:
        assert "stopped" in watch.end(number)
    with Index.open(index) as opened:
        assert len(opened) == 6


def test_a_failed_round_is_tried_again(world) -> None:
    photos, store, _ = world
    watch = Watch(photos, store)
    watch.next()
    photos.rename(photos.with_name("elsewhere"))
    time.sleep(1.5)
    photos.with_name("elsewhere").rename(photos)
    next(photos.iterdir()).unlink()
    assert len(watch.next()["removed"]) == 1
    assert "no such file or folder; tried again in 0.2 s" in watch.end(signal.SIGINT)


def test_there_must_be_a_store(tmp_path, embedkit) -> None:
    ended = embedkit("watch", tmp_path, tmp_path / "a.h5")
    assert ended.code == 2
    assert "make it with 'embedkit extract" in ended.err
