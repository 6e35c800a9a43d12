"""A damaged or forged file is refused before HDF5 parses it; HDF5 may loop forever on it.

What could hang or crash runs in a child process under a time limit.
"""

import io
import random
import subprocess
import sys

import pytest
from store_contents import make_content, make_rows, write_shard_file

from embedkit.errors import StoreCorruptError, StoreFormatError
from embedkit.store import EmbeddingStore, verify
from embedkit.store.seal import SEAL_BYTES, seal
from embedkit.types import ImageFailure

# Reads all of each file, and prints its name with the error's.
READ_ALL = """
import sys
from pathlib import Path
from embedkit.errors import StoreError
from embedkit.store import EmbeddingStore, verify
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        with EmbeddingStore.open(path) as store:
            rows = list(store.blocks()), list(store.failures()), store.head
            print(len(verify(path)), "problems")
    except StoreError as error:
        assert verify(path)
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    failures = [ImageFailure(f"{i}.jpg", "damaged") for i in range(5)]
    content = make_content(make_rows(24, labels=["a", "b"] * 12), failures=failures)
    return write_shard_file(tmp_path_factory.mktemp("whole") / "a.h5", content).read_bytes()


def sealed(data):
    buffer = io.BytesIO(data)
    seal(buffer, 0, 0)
    return buffer.getvalue()


def outcomes(folder):
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, folder], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def mutants(shard, count):
    """The file with some of its words changed, as HDF5 would like them or not."""
    chooser = random.Random(0)
    places = range(SEAL_BYTES, len(shard) - 8, 8)
    for _ in range(count):
        data, at = bytearray(shard), chooser.choice(places)
        other = chooser.choice(places)
        numbers = [0, 1, 16, 2**64 - 1, chooser.randrange(len(shard)), chooser.randrange(2**32)]
        change = chooser.randrange(3)
        if change == 0:
            data[at + chooser.randrange(8)] ^= 1 << chooser.randrange(8)
        elif change == 1:
            data[at : at + 8] = chooser.choice(numbers).to_bytes(8, "little")
        else:
            data[at : at + 8] = data[other : other + 8]
        yield bytes(data)


def test_mutants_with_forged_seals_neither_hang_nor_crash(tmp_path, shard):
    for number, data in enumerate(mutants(shard, 600)):
        (tmp_path / f"{number:04d}.h5").write_bytes(sealed(data))
    found = outcomes(tmp_path)
    assert len(found) == 600
    assert sum("StoreFormatError" in line for line in found.values()) > 50


def changed(shard, needle, offset, value):
    data, at = bytearray(shard), shard.index(needle) + offset
    data[at : at + len(value)] = value
    return bytes(data)


def word(number):
    return number.to_bytes(8, "little")


TEXT = b"\x19\x01\x01\0\x10\0\0\0\x10\0\0\0\1"  # a datatype: texts of any length, UTF-8

FORGED = {
    "a text without end": (b"GCOL", 16, word(0) + word(0)),
    "a huge text": (b"GCOL", 24, word(2**63)),
    "a heap without end": (b"GCOL", 8, word(2**40)),
    "a heap of names without end": (b"HEAP", 8, word(2**40)),
    "a list of free places without end": (b"HEAP", 16, word(24)),
    "a second tree": (b"TREE", 16, word(96)),
    "too many members": (b"TREE", 6, b"\xff\xff"),
    "too many entries": (b"SNOD", 6, b"\xff\xff"),
    "a soft link": (b"SNOD", 24, b"\2\0\0\0"),
    "a group of two kinds": (b"\x89HDF", 64 + 16, word(200)),
    "a text of another kind": (TEXT, 1, b"\3"),
    "a text of texts": (TEXT, 8, b"\x19"),
    "another superblock": (b"\x89HDF", 8, b"\2"),
    "another base": (b"\x89HDF", 24, word(0)),
}


@pytest.mark.parametrize("name", FORGED)
def test_each_structure_is_checked(tmp_path, shard, name):
    path = tmp_path / "forged.h5"
    path.write_bytes(sealed(changed(shard, *FORGED[name])))
    found = outcomes(tmp_path)["forged.h5"]
    assert found.startswith("StoreFormatError"), found
    assert "or damaged: " in found


def test_a_group_that_contains_itself_is_refused(tmp_path, shard):
    root = shard.index(b"\x89HDF") + 64  # the address of its header, then of tree and heap
    entry = shard.index(b"SNOD") + 8
    assert shard[root : root + 8] != shard[entry + 8 : entry + 16]
    data = bytearray(shard)
    data[entry + 8 : entry + 16] = shard[root : root + 8]
    (tmp_path / "loop.h5").write_bytes(sealed(bytes(data)))
    assert "loop" in outcomes(tmp_path)["loop.h5"]


def test_what_isn_t_what_was_written_isn_t_parsed(tmp_path, shard):
    path = tmp_path / "flip.h5"
    for needle in (b"GCOL", b"HEAP", b"TREE", b"photos/0", b"damaged"):
        path.write_bytes(changed(shard, needle, 5, bytes([shard[shard.index(needle) + 5] ^ 4])))
        with pytest.raises(StoreCorruptError, match=r"flip\.h5: damaged: .*seal.*make this file"):
            EmbeddingStore.open(path)
        assert len(verify(path)) == 1


def test_a_store_without_a_seal_opens(tmp_path, shard):
    path = tmp_path / "old.h5"
    path.write_bytes(bytes(SEAL_BYTES) + shard[SEAL_BYTES:])
    with EmbeddingStore.open(path) as store:
        assert len(store.ids) == 24
        assert len(list(store.failures())) == 5


@pytest.mark.parametrize("rows", [24, 4000])  # in one heap, and in more than are walked singly
def test_texts_are_checked_before_they_are_followed(tmp_path, rows):
    """The heap of the ids isn't that of the attributes, and is checked when ids are read."""
    path = tmp_path / "ids.h5"
    shard = write_shard_file(path, make_content(make_rows(rows))).read_bytes()
    with EmbeddingStore.open(path) as store:
        assert len(list(store.ids)) == rows
    at = shard.index(b"photos/0") - 8
    data = shard[:at] + word(2**40) + shard[at + 8 :]
    path.write_bytes(sealed(data))
    assert outcomes(tmp_path)["ids.h5"].startswith(("StoreFormatError", "StoreCorruptError"))
    with pytest.raises(StoreFormatError, match="a text lies outside its heap"):
        list(EmbeddingStore.open(path).ids)
