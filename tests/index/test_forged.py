"""Forged indexes, whose hashes are right: each is refused, and none ends the process."""

import hashlib
import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from stores import write_store

from embedkit.errors import IndexCorruptError
from embedkit.index import Index, IndexSpec
from embedkit.index.manifest import _FORMAT, MANIFEST
from embedkit.index.verify import index_problems

ROWS, DIM = 400, 8

# Opens and searches each index of a folder, and prints its name with the error's.
SEARCH_ALL = """
import sys
from pathlib import Path
import numpy as np
from embedkit.errors import EmbedkitError
from embedkit.index import Index
queries = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
for path in sorted(Path(sys.argv[1]).glob("*.index")):
    print(path.name, end=" ", flush=True)
    try:
        with Index.open(path) as index:
            index.search(queries, 20)
            print("whole")
    except EmbedkitError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rows = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    store = write_store(folder / "a.h5", rows)
    Index.build(store, folder / "disk.index", IndexSpec("IVF4,SQ8", on_disk=True, rerank=False))
    Index.build(store, folder / "graph.index", IndexSpec("HNSW8", rerank=False))
    return folder


def forged(source, target, change):
    """A copy of an index with other files or another manifest, its hashes made anew."""
    shutil.copytree(source, target)
    content = json.loads((target / MANIFEST).read_text())
    files = list(content["files"].values())
    change(target, content)
    for entry in files:
        path = target / entry["name"]
        data = path.read_bytes() if path.is_file() else None
        if data is not None and data != (source / path.name).read_bytes():
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "nbytes": len(data)}
    for name in ("format", "format_version", "sha256"):
        del content[name]
    (target / MANIFEST).write_bytes(_FORMAT.encode(content))
    return target


def outcomes(folder):
    done = subprocess.run(
        [sys.executable, "-c", SEARCH_ALL, folder], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("metric",), "x"),
        (("metric",), [1]),
        (("dim",), "8"),
        (("count",), -1),
        (("count",), True),
        (("meta",), -1),
        (("files",), []),
        (("files", "index", "name"), "../a.h5"),
        (("files", "index", "sha256"), 7),
        (("stores", 0, "path"), 1),
        (("stores", 0, "rows"), -5),
        (("params", "k_factor"), "x"),
        (("params", "k_factor"), 1.5),
        (("params", "nprobe"), []),
        (("frontier",), [1]),
        (("bytes_per_vector",), float("nan")),
        (("removed",), 2**80 + 0.5),
        (("on_disk",), 1),
        (("spec", "factory"), 3),
    ],
)
def test_every_field_of_a_manifest_has_its_type(world, tmp_path, place, value):
    def change(_, content):
        *parents, last = place
        for name in parents:
            content = content[name]
        content[last] = value

    path = forged(world / "disk.index", tmp_path / "f.index", change)
    with pytest.raises(IndexCorruptError, match=r"manifest\.json: not as an index's manifest"):
        Index.open(path)
    assert index_problems(path)


def replaced(old, new):
    """Changes the first such number in the file of an index."""

    def change(folder, content):
        path = folder / content["files"]["index"]["name"]
        data = path.read_bytes()
        at = data.index(old)
        path.write_bytes(data[:at] + new + data[at + len(old) :])

    return change


def word(number):
    return int(number).to_bytes(8, "little")


def test_lists_on_disk_lie_in_their_file(world, tmp_path):
    nbytes = ROWS * (DIM + 8)

    def holding(data):
        return lambda folder, content: (folder / content["files"]["lists"]["name"]).write_bytes(
            data
        )

    cases = {
        "total": replaced(word(nbytes), word(2**40)),
        "cut": holding(b""),
        "names": holding(b"\x7f" * nbytes),
    }
    for name, change in cases.items():
        forged(world / "disk.index", tmp_path / f"{name}.index", change)
    found = outcomes(tmp_path)
    assert "IndexCorruptError" in found["total.index"]
    assert "the inverted lists are not those of this file" in found["cut.index"]
    assert "names rows that it doesn't have" in found["names.index"]


@pytest.mark.parametrize("name", ["disk", "graph"])
def test_mutants_end_no_process(world, tmp_path, name):
    chooser = random.Random(0)

    def change(folder, content):
        role = chooser.choice([role for role in content["files"] if role in {"index", "lists"}])
        path = folder / content["files"][role]["name"]
        data = bytearray(path.read_bytes())
        near = chooser.choice([len(data), 400])
        at = chooser.randrange(min(near, len(data)))
        at = chooser.choice([at, len(data) - 1 - at])
        numbers = [0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63, chooser.randrange(10**6)]
        value = word(chooser.choice(numbers))[: chooser.choice([1, 4, 8])]
        data[at : at + len(value)] = value
        path.write_bytes(data[: path.stat().st_size])

    for number in range(150):
        forged(world / f"{name}.index", tmp_path / f"{number:03d}.index", change)
    found = outcomes(tmp_path)
    assert len(found) == 150
    assert any("IndexCorruptError" in line for line in found.values())


def test_an_index_that_reranks_has_what_that_needs(world, tmp_path):
    path = forged(
        world / "graph.index", tmp_path / "r.index", lambda _, content: content.update(rerank=True)
    )
    with pytest.raises(IndexCorruptError, match="has no file of its factors"):
        Index.open(path)
    path = forged(
        world / "graph.index",
        tmp_path / "s.index",
        lambda _, content: content.update(rerank=True, stores=[]),
    )
    with pytest.raises(IndexCorruptError, match="names no store"):
        Index.open(path)


def test_damage_in_what_only_adding_needs_is_found_at_opening(world, tmp_path):
    shutil.copytree(world / "disk.index", tmp_path / "t.index")
    path = tmp_path / "t.index" / "trained.faiss"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexCorruptError, match=r"trained\.faiss: isn't the file"):
        Index.open(tmp_path / "t.index")
    assert index_problems(tmp_path / "t.index")
