"""The working folder: one writer at a time, nothing left behind, every step survives a kill."""

import json
import subprocess
import sys

import pytest
from store_contents import make_content, make_rows, write_folder
from stores import make_meta

from embedkit.errors import StoreCorruptError, StoreError, StoreLockedError
from embedkit.store import EmbeddingStore, verify
from embedkit.store.manifest import MANIFEST
from embedkit.store.working_dir import PartialStore

HOLDER = """
import sys
from pathlib import Path
from embedkit.store.working_dir import PartialStore
with PartialStore.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def begin(partial, shards=2, *, save=True):
    """A run that has done everything but its end."""
    (partial.folder / "plan.json").write_text("{}")
    (partial.folder / "plan.jsonl").write_text("")
    partial.freeze_meta(make_meta(feature_dim=4), {"labels": "auto"})
    if save:
        for number in range(shards):
            partial.commit(number, make_content(make_rows(3, seed=number)))


def test_one_writer_at_a_time(tmp_path):
    output = tmp_path / "a.h5"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with (
            pytest.raises(StoreLockedError, match=r"a\.h5: another process is writing it"),
            PartialStore.locked(output),
        ):
            pass
        holder.communicate()
    assert list(tmp_path.iterdir()) == []
    with PartialStore.locked(output) as partial:
        assert partial.folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_s_lock_is_free(tmp_path):
    output = tmp_path / "a.h5"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        holder.kill()
    assert (tmp_path / "a.h5.partial").exists()
    with PartialStore.locked(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_next_writer_s_folder_is_left_alone(tmp_path):
    output = tmp_path / "a.h5"
    with PartialStore.locked(output) as first:
        begin(first)
        first.finish(2, sharded=False)
        with PartialStore.locked(output) as second:  # comes before the first has let go
            begin(second, save=False)
        assert second.folder.is_dir()
    assert (second.folder / "run.json").exists()
    assert verify(output) == []


def test_nothing_begun_leaves_nothing(tmp_path):
    output = tmp_path / "deep" / "a.h5"
    with pytest.raises(KeyError), PartialStore.locked(output) as partial:
        (partial.folder / "plan.jsonl").write_text("half a plan")
        raise KeyError
    assert list(output.parent.iterdir()) == []
    with PartialStore.locked(output) as partial:
        begin(partial)
    assert partial.folder.is_dir()


def test_a_folder_that_can_t_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match="can't be made"),
        PartialStore.locked(tmp_path / "file" / "a.h5"),
    ):
        pass


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("shards", [1, 2])
def test_the_end_replaces_what_was_there(tmp_path, sharded, old, shards):
    output = tmp_path / "out"
    if old == "file":
        output.write_text("old")
    if old == "folder":
        write_folder(output, [make_content(make_rows(1, seed=9)) for _ in range(4)])
    with PartialStore.locked(output) as partial:
        begin(partial, shards)
        partial.commit_unfinished(0, make_content(make_rows(1)))  # a kill left it
        (partial.folder / ".shard-000000.h5.0a1b2c3d.tmp").touch()
    with PartialStore.locked(output) as partial:
        partial.finish(shards, sharded=sharded)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert verify(output) == []
    with EmbeddingStore.open(output) as store:
        assert len(store) == 3 * shards
    if sharded:
        names = {path.name for path in output.iterdir()}
        assert names == {MANIFEST, *(f"shard-{n:06d}.h5" for n in range(shards))}


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize("sharded", [False, True])
def test_a_kill_at_any_step_of_the_end_loses_nothing(tmp_path, monkeypatch, sharded, step):
    """The n-th rename or removal of the end never happens; the next run ends it."""
    output = tmp_path / "out"
    write_folder(output, [make_content(make_rows(1, seed=9))])
    with PartialStore.locked(output) as partial:
        begin(partial)
    left = step

    class KilledError(BaseException):
        pass

    def dying(call):
        def counted(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return call(*args, **kwargs)

        return counted

    paths = type(output)
    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "rmdir"):
            patch.setattr(paths, name, dying(getattr(paths, name)))
        try:
            with PartialStore.locked(output) as partial:
                partial.finish(2, sharded=sharded)
        except KilledError:
            pass
    with PartialStore.locked(output) as partial:
        if partial.frozen_meta() is not None and partial.finished_counts(0) is not None:
            partial.finish(2, sharded=sharded)
        elif partial.frozen_meta() is not None:
            partial.discard()
    assert verify(output) == []
    with EmbeddingStore.open(output) as store:
        assert len(store) == 6
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


def test_meta_is_frozen(tmp_path):
    with PartialStore.locked(tmp_path / "a.h5") as partial:
        assert partial.frozen_meta() is None
        begin(partial, save=False)
        meta, listed_by = partial.frozen_meta()
        assert meta.to_config() == make_meta(feature_dim=4).to_config()
        assert listed_by == {"labels": "auto"}
        run = partial.folder / "run.json"
        for text in ("{", "[]", "5", "{}", json.dumps({"backbone": 5})):
            run.write_text(text)
            with pytest.raises(StoreCorruptError, match=r"run\.json: can't be read"):
                partial.frozen_meta()
        partial.clear()
        assert partial.frozen_meta() is None


def test_unfinished_shards(tmp_path):
    with PartialStore.locked(tmp_path / "a.h5") as partial:
        begin(partial, save=False)
        assert partial.unfinished(3) is None
        assert partial.finished_counts(3) is None
        partial.commit_unfinished(3, make_content(make_rows(2)))
        shard = partial.unfinished(3)
        assert len(shard) == 2
        shard.close()
        path = partial.folder / "shard-000003.unfinished.h5"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(StoreCorruptError, match="delete this file and run again"):
            partial.unfinished(3)
        partial.commit(3, make_content(make_rows(4)))
        assert partial.finished_counts(3).embedded == 4
        assert not path.exists()


def test_a_failure_at_the_swap_puts_back_what_was_there(tmp_path, monkeypatch):
    output = write_folder(tmp_path / "a.h5", [make_content(make_rows(2))] * 2)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    replace = type(output).replace

    def fails(self, target):
        if target == output and self.name == "whole.h5":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with PartialStore.locked(output) as partial:
        begin(partial)
        with monkeypatch.context() as patched:
            patched.setattr(type(output), "replace", fails)
            with pytest.raises(StoreError, match="can't be written: No space left"):
                partial.finish(2, sharded=False)
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before
        partial.finish(2, sharded=False)
    assert output.is_file()
    assert verify(output) == []
    assert list(tmp_path.iterdir()) == [output]
