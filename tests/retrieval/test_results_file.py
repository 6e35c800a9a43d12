"""Neighbours in files: what is in them, and that no kill loses or changes anything."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pandas
import pytest
from images import write_photos
from stores import write_store

import embedkit
from embedkit.errors import (
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreMismatchError,
)
from embedkit.index import Index
from embedkit.retrieval import search, search_to_file
from embedkit.utils.text import cell_text

DIM, ROWS = 8, 300
STRANGE = ["caf\udce9.jpg", "new\nline.jpg", 'quo"te, comma.jpg', "日本.jpg", "=1+1.jpg"]
COLUMNS = ["query_id", "rank", "neighbor_id", "score"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    names = STRANGE + [f"{row}.jpg" for row in range(ROWS - len(STRANGE))]
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    write_store(folder / "a.h5", rows, ids=names)
    Index.build(folder / "a.h5", folder / "a.index")
    queries = rng.standard_normal((50, DIM)).astype(np.float32)
    write_store(folder / "q.h5", queries, ids=[f"q{row}" for row in range(50)])
    return folder


def expected(world, queries, k, **options):
    """The lines of the table, from `search`."""
    result = search(world / "a.index", queries, k, **options)
    return [
        (shown(query), rank, shown(name), score)
        for query, ids, scores in zip(
            result.queries, result.neighbors.ids, result.neighbors.scores, strict=True
        )
        for rank, (name, score) in enumerate(zip(ids, scores, strict=False), 1)
    ]


def shown(name):
    return name.replace("\udce9", "\\xe9")


def read(path):
    readers = {
        ".csv": lambda: pandas.read_csv(path, keep_default_na=False),
        ".jsonl": lambda: pandas.read_json(path, lines=True, convert_axes=False),
        ".parquet": lambda: pandas.read_parquet(path),
    }
    return readers[path.suffix]()


def assert_lines(frame, lines):
    assert list(frame.columns) == COLUMNS
    assert frame["query_id"].tolist() == [line[0] for line in lines]
    assert frame["rank"].tolist() == [line[1] for line in lines]
    assert frame["neighbor_id"].tolist() == [line[2] for line in lines]
    scores = frame["score"].to_numpy(np.float32)
    np.testing.assert_array_equal(scores, [line[3] for line in lines])  # every bit of float32


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_holds_what_search_finds(world, tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    summary = search_to_file(world / "a.index", world / "a.h5", output, 4)
    lines = expected(world, world / "a.h5", 4)
    if suffix == "csv":  # no formulas
        lines = [(cell_text(line[0]), line[1], cell_text(line[2]), line[3]) for line in lines]
    assert (summary.queries, summary.neighbors, summary.resumed) == (ROWS, 4 * ROWS, 0)
    assert_lines(read(output), lines)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_queries_without_neighbours_have_no_line(world, tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    summary = search_to_file(world / "a.index", world / "q.h5", output, 9, threshold=0.8)
    lines = expected(world, world / "q.h5", 9, threshold=0.8)
    assert 0 < len({line[0] for line in lines}) < 50
    assert summary.neighbors == len(lines)
    assert_lines(read(output), lines)


def test_duckdb_reads_it(world, tmp_path):
    output = tmp_path / "knn.parquet"
    search_to_file(world / "a.index", world / "a.h5", output, 3, exclude_self=True)
    (count, best, same) = duckdb.sql(
        f"select count(*), max(score), count(*) filter (query_id = neighbor_id) from '{output}'"
    ).fetchall()[0]
    assert (count, same) == (3 * ROWS, 0)
    assert 0 < best < 1


def test_images_are_written_too(tmp_path):
    folder = tmp_path / "photos"
    paths = write_photos(folder, 5)
    embedkit.extract(folder, tmp_path / "p.h5", backbone="tiny", engine="torch")
    index = Index.build(tmp_path / "p.h5", tmp_path / "p.index")
    (folder / "bad.jpg").write_bytes(b"")
    output = tmp_path / "out.parquet"
    summary = search_to_file(index, folder, output, 2, engine="torch")
    assert (summary.queries, summary.neighbors) == (5, 10)
    assert [failure.id for failure in summary.failures] == [str(folder / "bad.jpg")]
    assert read(output)["query_id"].tolist()[::2] == [str(path) for path in paths]


def test_other_endings_are_refused(world, tmp_path):
    with pytest.raises(ValueError, match=r"\.csv, \.jsonl, \.parquet"):
        search_to_file(world / "a.index", world / "q.h5", tmp_path / "out.xlsx")


def test_what_exists_stays(world, tmp_path):
    for suffix in ("csv", "parquet"):
        output = tmp_path / f"out.{suffix}"
        output.write_text("mine")
        with pytest.raises(StoreError, match="overwrite=True"):
            search_to_file(world / "a.index", world / "q.h5", output)
        assert output.read_text() == "mine"
        search_to_file(world / "a.index", world / "q.h5", output, overwrite=True)
        assert len(read(output)) == 500
    assert len(list(tmp_path.iterdir())) == 2


def test_a_query_is_never_overwritten(world, tmp_path):
    output = tmp_path / "images.parquet"
    pandas.DataFrame({"image": [b"1"]}).to_parquet(output)
    with pytest.raises(StoreError, match="one of the queries"):
        search_to_file(world / "a.index", [world / "q.h5", output], output, overwrite=True)


def test_a_full_disk_leaves_nothing(world, tmp_path, monkeypatch):
    """The temporary file is a link to /dev/full, which takes nothing."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    opened = pathlib.Path.open

    def full(self, mode="r", *args, **kwargs):
        if self.suffix == ".tmp":
            os.symlink("/dev/full", self)
            return open("/dev/full", "w+b", buffering=0)
        return opened(self, mode, *args, **kwargs)

    for suffix in ("csv", "jsonl", "parquet"):
        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "open", full)
            with pytest.raises(StoreError, match="No space left"):
                search_to_file(world / "a.index", world / "q.h5", tmp_path / f"out.{suffix}")
        assert not (tmp_path / f"out.{suffix}").exists()


# Resume


class StoppedError(Exception):
    pass


def begin(world, output, k=3, after=25, part_queries=10, **options):
    """A run that is ended by an error once ``after`` queries are done."""

    def on_progress(progress):
        if progress.done >= after:
            raise StoppedError

    with pytest.raises(StoppedError):
        search_to_file(
            world / "a.index", world / "q.h5", output, k, part_queries=part_queries,
            progress=on_progress, **options,
        )  # fmt: skip


def test_a_resume_does_only_what_is_missing(world, tmp_path):
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    search_to_file(world / "a.index", world / "q.h5", whole, 3, part_queries=10)
    begin(world, output)
    assert not output.exists()
    summary = search_to_file(world / "a.index", world / "q.h5", output, 3, part_queries=10)
    assert (summary.queries, summary.neighbors, summary.resumed) == (50, 150, 20)
    assert output.read_bytes() == whole.read_bytes()
    assert_lines(read(output), expected(world, world / "q.h5", 3))
    again = search_to_file(world / "a.index", world / "q.h5", output, 3, part_queries=10)
    assert (again.neighbors, again.resumed) == (150, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"k": 4}, "k: 3 != 4"),
        ({"threshold": 0.5}, "threshold: None != 0.5"),
        ({"exclude_self": True}, "exclude_self: False != True"),
        ({"filters": ["width>1"]}, "filters"),
        ({"part_queries": 20}, "part_queries: 10 != 20"),
    ],
)
def test_a_resume_is_held_to_what_was_asked(world, tmp_path, changed, told):
    output = tmp_path / "out.parquet"
    begin(world, output)
    asked = {"k": 3, "part_queries": 10} | changed
    with pytest.raises(StoreMismatchError, match=told):
        search_to_file(world / "a.index", world / "q.h5", output, **asked)
    summary = search_to_file(world / "a.index", world / "q.h5", output, overwrite=True, **asked)
    assert summary.resumed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_resume_is_held_to_its_index_and_its_queries(world, tmp_path):
    output = tmp_path / "out.parquet"
    begin(world, output)
    other = Index.build(world / "q.h5", tmp_path / "q.index")
    with pytest.raises(StoreMismatchError, match="index"):
        search_to_file(other, world / "q.h5", output, 3, part_queries=10)
    with pytest.raises(StoreMismatchError, match="queries"):
        search_to_file(world / "a.index", world / "a.h5", output, 3, part_queries=10)


def test_several_stores_are_one_row_of_queries(world, tmp_path):
    output, both = tmp_path / "out.parquet", [world / "q.h5", world / "a.h5"]
    search_to_file(world / "a.index", both, output, 2, part_queries=45)
    assert_lines(read(output), expected(world, both, 2))


def test_a_damaged_part_is_found(world, tmp_path):
    output = tmp_path / "out.parquet"
    begin(world, output)
    part = min((tmp_path / "out.parquet.partial").glob("part-*.parquet"))
    good = part.read_bytes()
    for at in (len(good) // 4, len(good) // 2, len(good) - 6):
        bad = bytearray(good)
        bad[at] ^= 0x40
        part.write_bytes(bad)
        try:
            search_to_file(world / "a.index", world / "q.h5", output, 3, part_queries=10)
        except StoreCorruptError as exc:
            assert "delete this file" in str(exc)  # noqa: PT017
        else:
            assert_lines(read(output), expected(world, world / "q.h5", 3))
            output.unlink()
            begin(world, output)
    part.unlink()
    search_to_file(world / "a.index", world / "q.h5", output, 3, part_queries=10)
    assert_lines(read(output), expected(world, world / "q.h5", 3))


HOLDER = """
import sys
from pathlib import Path
from embedkit.retrieval.knn_graph import Graph
with Graph.locked(Path(sys.argv[1]), {}):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_writer_at_a_time(world, tmp_path):
    output = tmp_path / "out.parquet"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(StoreLockedError, match="another process"):
            search_to_file(world / "a.index", world / "q.h5", output)
        holder.communicate()
    search_to_file(world / "a.index", world / "q.h5", output)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


KILLED = """
import os, signal, sys
from pathlib import Path
from embedkit.retrieval import search_to_file

index, queries, output = sys.argv[1:]
names = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]
real = {name: getattr(owner, name) for owner, name in names}


def deadly(name, left):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*args, **kwargs)

    return call


def run(moment):
    left = [moment]
    for owner, name in names:
        setattr(owner, name, deadly(name, left))
    search_to_file(index, queries, output, 3, part_queries=10)


for moment in range(400):
    child = os.fork()
    if child == 0:
        run(moment % 30)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print(moment)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


def test_sigkill_at_every_kind_of_step(world, tmp_path):
    """Children are killed at an fsync, rename or removal until one of them comes to the end."""
    whole, output = tmp_path / "whole.parquet", tmp_path / "k" / "out.parquet"
    output.parent.mkdir()
    search_to_file(world / "a.index", world / "q.h5", whole, 3, part_queries=10)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, world / "a.index", world / "q.h5", output],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # kills
    assert output.read_bytes() == whole.read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["out.parquet"]


SLOW = """
import sys, time
from embedkit.retrieval import search_to_file
index, queries, output = sys.argv[1:]
search_to_file(index, queries, output, 3, part_queries=5, progress=lambda _: time.sleep(0.2))
"""


def test_sigkill_from_outside(world, tmp_path):
    output = tmp_path / "out.parquet"
    command = [sys.executable, "-c", SLOW, world / "a.index", world / "q.h5", output]
    with subprocess.Popen(command) as process:
        folder, until = tmp_path / "out.parquet.partial", time.monotonic() + 60
        while not list(folder.glob("part-*.parquet")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    run = json.loads((folder / "run.json").read_text())
    assert (run["k"], run["part_queries"]) == (3, 5)
    summary = search_to_file(world / "a.index", world / "q.h5", output, 3, part_queries=5)
    assert 5 <= summary.resumed < 50
    assert_lines(read(output), expected(world, world / "q.h5", 3))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
