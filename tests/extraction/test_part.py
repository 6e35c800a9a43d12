"""Parts in processes of their own, killed and run again: the bytes of one run."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from images import write_photos

from embedkit.errors import NothingEmbeddedError, StoreError, StoreLockedError, StoreMismatchError
from embedkit.extraction.dry_run import preview
from embedkit.extraction.extract import extract
from embedkit.sources.part import Part
from embedkit.store import EmbeddingStore, merge, verify
from embedkit.store.shared_dir import SharedStore

COUNT, SHARDS = 30, 8
SETTINGS = {
    "backbone": "tiny", "engine": "openvino", "device": "cpu", "batch_size": 2, "shard_rows": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, COUNT, size=(64, 48))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not whole")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The folder and the file of one run."""
    folder = tmp_path_factory.mktemp("whole")
    extract(photos, folder / "all", sharded=True, **SETTINGS)
    extract(photos, folder / "all.h5", **SETTINGS)
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


RUN = """
import os, sys
from embedkit import extract
from embedkit.extraction.checkpoints import Checkpoints

def slowly(self, number, add=Checkpoints._finish):
    add(self, number)
    print(number, flush=True)
    if os.environ.get("WAIT"):
        sys.stdin.readline()

Checkpoints._finish = slowly
print("begun", flush=True)
result = extract(sys.argv[1], sys.argv[2], part=sys.argv[3], sharded=sys.argv[4] == "sharded",
                 backbone="tiny", engine="openvino", device="cpu", batch_size=2, shard_rows=4)
print("waits for", *result.waits_for, flush=True)
"""


def start(photos, output, part, *, sharded=True, wait=False):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, photos, output, part, "sharded" if sharded else "file"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "WAIT": "1" if wait else "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_all_parts_at_once_in_one_folder(photos, whole, tmp_path):
    processes = [start(photos, tmp_path / "all", f"{n}/3") for n in (1, 2, 3)]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ended
    assert content(tmp_path / "all") == content(whole / "all")
    assert not (tmp_path / "all.partial").exists()
    shards = sorted(line for out, _ in ended for line in out.split() if line.isdigit())
    assert shards == sorted(map(str, range(SHARDS)))  # each once


def test_killed_at_random_and_run_again(photos, whole, tmp_path):
    chance, kills = random.Random(1), 0
    while not (tmp_path / "all").exists():
        assert kills < 40
        processes = [start(photos, tmp_path / "all", f"{n}/2") for n in (1, 2)]
        for process in processes:
            process.stdout.readline()
        time.sleep(chance.uniform(0.2, 1.5) if kills < 4 else 0)
        if kills < 4:
            chance.choice(processes).send_signal(signal.SIGKILL)
            kills += 1
        for process in processes:
            process.communicate()
    assert content(tmp_path / "all") == content(whole / "all")


def test_one_part_twice_is_refused_and_so_is_a_run_without_parts(photos, whole, tmp_path):
    output = tmp_path / "all"
    process = start(photos, output, "1/2", wait=True)
    process.stdout.readline()
    assert process.stdout.readline() == "0\n"  # its first shard is there, and it waits
    with pytest.raises(StoreLockedError, match=r"another process does part 1/2"):
        extract(photos, output, sharded=True, part="1/2", **SETTINGS)
    for changes in ({}, {"overwrite": True}):
        with pytest.raises(StoreLockedError, match="another process is writing part 1/2"):
            extract(photos, output, sharded=True, **changes, **SETTINGS)
    second = extract(photos, output, sharded=True, part="2/2", **SETTINGS)
    assert second.waits_for == ("1/2",)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert extract(photos, output, sharded=True, part=(1, 2), **SETTINGS).waits_for == ()
    assert content(output) == content(whole / "all")


def test_a_run_without_parts_does_what_they_left(photos, whole, tmp_path):
    output = tmp_path / "all"
    result = extract(photos, output, sharded=True, part="2/3", **SETTINGS)
    assert result.waits_for == ("1/3", "3/3")
    result = extract(photos, output, sharded=True, **SETTINGS)
    assert (result.found, result.resumed) == (COUNT + 2, 12)
    assert content(output) == content(whole / "all")
    assert not (tmp_path / "all.partial").exists()


def test_a_part_of_a_finished_folder_finds_it_complete(photos, whole, tmp_path):
    for number in (1, 2):
        extract(photos, tmp_path / "all", sharded=True, part=(number, 2), **SETTINGS)
    result = extract(photos, tmp_path / "all", sharded=True, part="1/2", **SETTINGS)
    assert result.complete
    assert result.resumed == COUNT + 2
    assert not (tmp_path / "all.partial").exists()


def test_other_settings_are_refused(photos, tmp_path):
    extract(photos, tmp_path / "all", sharded=True, part="1/2", **SETTINGS)
    with pytest.raises(StoreMismatchError, match="normalized"):
        extract(photos, tmp_path / "all", sharded=True, part="2/2", normalize=True, **SETTINGS)
    with pytest.raises(StoreMismatchError, match="shard_rows"):
        extract(photos, tmp_path / "all", sharded=True, part="2/2", **{**SETTINGS, "shard_rows": 5})


@pytest.mark.parametrize(
    "settings", [{"update": True}, {"retry_failed": True}, {"overwrite": True, "sharded": True}]
)
def test_what_would_touch_other_parts_is_refused(photos, tmp_path, settings):
    with pytest.raises(ValueError, match="part"):
        extract(photos, tmp_path / "all", part="1/2", **settings, **SETTINGS)


@pytest.mark.parametrize("of", [3])
def test_a_file_per_part(photos, whole, tmp_path, of):
    """Merged in any order they are the file of one run."""
    parts = []
    for number in range(of, 0, -1):
        parts.append(tmp_path / f"part-{number}.h5")
        extract(photos, parts[-1], part=(number, of), **SETTINGS)
        assert verify(parts[-1]) == []
        again = extract(photos, parts[-1], part=(number, of), **SETTINGS)
        assert again.resumed == again.found
    merge(parts, tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == (whole / "all.h5").read_bytes()


def test_a_killed_part_goes_on(photos, whole, tmp_path):
    process = start(photos, tmp_path / "2.h5", "2/2", sharded=False, wait=True)
    process.stdout.readline()
    assert process.stdout.readline() == "4\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = extract(photos, tmp_path / "2.h5", part="2/2", **SETTINGS)
    assert result.resumed >= 4
    extract(photos, tmp_path / "1.h5", part="1/2", **SETTINGS)
    merge([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == (whole / "all.h5").read_bytes()


def test_merge_says_what_is_wrong_with_the_parts(photos, whole, tmp_path):
    for number in (1, 3):
        extract(photos, tmp_path / f"{number}.h5", part=(number, 3), **SETTINGS)
    first, third = tmp_path / "1.h5", tmp_path / "3.h5"
    out = tmp_path / "all.h5"
    with pytest.raises(StoreError, match=r"3 of 8 shards are missing, of the parts 2/3"):
        merge([first, third], out)
    with pytest.raises(StoreError, match=r"1\.h5: holds part 1/3, as .*1\.h5 does"):
        merge([first, first], out)
    with pytest.raises(StoreError, match=r"all\.h5: is no part"):
        merge([first, whole / "all.h5"], out)
    extract(photos, tmp_path / "other.h5", part="2/4", **SETTINGS)
    with pytest.raises(StoreError, match=r"other\.h5: is a part of another plan than"):
        merge([first, tmp_path / "other.h5", third], out)
    few = tmp_path / "few"
    write_photos(few, 12, size=(64, 48))
    extract(few, tmp_path / "few.h5", part="2/3", **SETTINGS)
    with pytest.raises(StoreError, match=r"few\.h5: is a part of another plan than"):
        merge([first, tmp_path / "few.h5", third], out)
    assert not out.exists()


def test_a_part_is_no_whole_store(photos, tmp_path):
    output = tmp_path / "1.h5"
    extract(photos, output, part="1/2", **SETTINGS)
    with pytest.raises(StoreMismatchError, match="part"):
        extract(photos, output, **SETTINGS)
    with pytest.raises(StoreMismatchError, match="part"):
        extract(photos, output, part="2/2", **SETTINGS)
    with pytest.raises(StoreError, match="holds part 1 of 2 of its source; merge the parts first"):
        extract(photos, output, backbone="tiny", update=True)


def test_part_1_of_1_is_the_whole(photos, whole, tmp_path):
    extract(photos, tmp_path / "all.h5", part="1/1", **SETTINGS)
    assert (tmp_path / "all.h5").read_bytes() == (whole / "all.h5").read_bytes()


def test_folders_of_parts_become_one_store(photos, whole, tmp_path):
    for number in (1, 2, 3):
        extract(photos, tmp_path / f"part-{number}", sharded=True, part=(number, 3), **SETTINGS)
    folders = sorted(tmp_path.glob("part-*.partial"))
    assert len(folders) == 3
    with pytest.raises(StoreError, match="of the parts 2/3"):
        merge([folders[0], folders[2]], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    merge([tmp_path / "part-2", folders[2], folders[0]], tmp_path / "all")
    assert content(tmp_path / "all") == content(whole / "all")
    shard = "shard-000000.h5"
    assert (tmp_path / "all" / shard).samefile(folders[0] / shard)  # no copy
    merge(folders, tmp_path / "all.h5")
    assert (tmp_path / "all.h5").read_bytes() == (whole / "all.h5").read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        merge(folders, tmp_path / "all")
    merge(folders, tmp_path / "all", overwrite=True)
    with pytest.raises(StoreError, match="merge such folders alone"):
        merge([folders[0], whole / "all.h5"], tmp_path / "b")


def test_folders_of_parts_with_and_without_thumbnails_are_not_joined(photos, tmp_path):
    for number in (1, 2):
        chosen = {"sharded": True, "part": (number, 2), "thumbnails": number == 1}
        extract(photos, tmp_path / f"part-{number}", **chosen, **SETTINGS)
    with pytest.raises(StoreMismatchError, match="omitted_columns"):
        merge(sorted(tmp_path.glob("part-*.partial")), tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_part_without_shards_writes_nothing(photos, tmp_path):
    result = extract(photos, tmp_path / "1.h5", part="1/9", **SETTINGS)
    assert (result.complete, result.found) == (True, 0)
    assert list(tmp_path.iterdir()) == []
    for number in range(9, 0, -1):
        extract(photos, tmp_path / "all", sharded=True, part=(number, 9), **SETTINGS)
    with EmbeddingStore.open(tmp_path / "all") as store:
        assert store.counts.found == COUNT + 2


def test_a_part_of_damaged_images_keeps_its_failures(tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, 4, size=(64, 48))
    for name in "wxyz":
        (photos / f"{name}.jpg").write_bytes(b"\xff\xd8\xff not whole")
    for number in (1, 2):
        extract(photos, tmp_path / f"{number}.h5", part=(number, 2), **SETTINGS)
        extract(photos, tmp_path / "all", sharded=True, part=(number, 2), **SETTINGS)
    merge([tmp_path / "2.h5", tmp_path / "1.h5"], tmp_path / "all.h5")
    for store in ("all.h5", "all"):
        with EmbeddingStore.open(tmp_path / store) as opened:
            assert (opened.counts.embedded, opened.counts.failed) == (4, 4)


def test_nothing_embedded_by_any_part_is_an_error(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        (photos / f"{number}.jpg").write_bytes(b"\xff\xd8\xff not whole")
    extract(photos, tmp_path / "all", sharded=True, part="1/2", **SETTINGS)
    with pytest.raises(NothingEmbeddedError):
        extract(photos, tmp_path / "all", sharded=True, part="2/2", **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_error_before_the_run_is_frozen_leaves_no_folder(tmp_path):
    output = tmp_path / "all"
    with pytest.raises(KeyError), SharedStore.joined(output, Part(1, 2)):
        raise KeyError
    assert not output.with_name("all.partial").exists()


def test_preview_of_a_part(photos, tmp_path):
    found = [
        preview(photos, tmp_path / "a.h5", part=(n, 3), **SETTINGS).part_found for n in (1, 2, 3)
    ]
    assert found == [8, 12, 12]
    assert preview(photos, tmp_path / "a.h5", **SETTINGS).part_found is None


def test_the_plan_is_frozen_once(photos, tmp_path):
    extract(photos, tmp_path / "all", sharded=True, part="1/2", **SETTINGS)
    settings = json.loads((tmp_path / "all.partial" / "run.json").read_text())
    assert settings["parts"] == 2
