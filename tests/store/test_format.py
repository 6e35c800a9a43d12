"""What is written is what is read, and every bit that changes afterwards is found."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_contents import HEAD, make_content, make_rows, write_folder, write_shard_file
from stores import make_meta

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.store import EmbeddingStore, StoreMeta, verify
from embedkit.store.format import (
    IMAGE_DTYPES,
    OPTIONAL_DTYPES,
    USUAL_COLUMNS,
    Purpose,
    RowBlock,
    in_blocks,
)
from embedkit.store.manifest import MANIFEST
from embedkit.store.writer import encode_shard, write_shard
from embedkit.types import ImageFailure
from embedkit.utils.atomic_write import RememberingFile, atomic_file

# File names: any bytes but NUL, as Python shows them.
NAMES = st.binary(min_size=1, max_size=30).map(lambda b: os.fsdecode(b.replace(b"\0", b"?")))


@settings(max_examples=20)
@given(
    names=st.lists(NAMES, max_size=9),
    dtype=st.sampled_from(["float16", "float32"]),
    failed=st.lists(st.tuples(NAMES, st.text()), max_size=4),
    data=st.data(),
)
def test_round_trip(tmp_path_factory, names, dtype, failed, data):
    labels = data.draw(st.lists(st.none() | NAMES, min_size=len(names), max_size=len(names)))
    rows = make_rows(len(names), ids=names, labels=labels, dtype=dtype) if names else None
    failures = [ImageFailure(name, reason, i - 1) for i, (name, reason) in enumerate(failed)]
    content = make_content(rows, failures=failures, skipped=3)
    path = write_shard_file(tmp_path_factory.mktemp("s") / "a.h5", content)
    assert verify(path) == []
    with EmbeddingStore.open(path) as store:
        assert list(store.ids) == names
        assert store.labels == ([label or "" for label in labels] if any(labels) else None)
        assert store.meta.to_config() == content.meta.to_config()
        assert [(f.id, f.nbytes) for f in store.failures()] == [(f.id, f.nbytes) for f in failures]
        counts = store.counts
        assert (counts.embedded, counts.failed, counts.skipped) == (len(names), len(failed), 3)
        assert counts.found == counts.embedded + counts.failed + counts.skipped
        if rows is not None:
            assert np.array_equal(store.embeddings, rows.embeddings)
            for name, column in rows.images.items():
                np.testing.assert_array_equal(store.images(name), column)


def test_the_head_and_strange_attributes_come_back(tmp_path):
    sources = [f"/data/{i:05d}/\udcff{'x' * 60}" for i in range(2000)]  # over 64 KiB of JSON
    content = make_content(make_rows(2), source=sources, weights="file:/w\udcfe.pth")
    with EmbeddingStore.open(write_shard_file(tmp_path / "a\udcff.h5", content)) as store:
        assert store.meta.source == sources
        assert store.meta.weights == "file:/w\udcfe.pth"
        assert np.array_equal(store.head.weight, HEAD.weight)
        assert np.array_equal(store.head.bias, HEAD.bias)
        assert store.head.class_names == HEAD.class_names
        assert store.head.class_ids == HEAD.class_ids
    headless = write_shard_file(tmp_path / "b.h5", make_content(make_rows(2), head=None))
    with EmbeddingStore.open(headless) as store:
        assert store.head is None


def test_meta_reads_its_config_and_refuses_another():
    config = make_meta(feature_dim=4).to_config()
    assert StoreMeta.from_config({**config, "new_in_2030": 1}).to_config() == config
    for name, value in (("feature_dim", 0), ("dtype", "float64"), ("engine", "x"), ("source", 1)):
        with pytest.raises(StoreFormatError):
            StoreMeta.from_config({**config, name: value})


def test_differences_have_dotted_names():
    first, second = make_meta(), make_meta(preprocessing={"resize": 256, "crop": 32}, weights="x")
    assert set(first.differences(second)) == {"preprocessing.crop", "preprocessing.interpolation"}


ALL = {"identical", "updated", "combine", "merge", "compare"}


@pytest.mark.parametrize(
    ("changes", "purposes"),
    [
        ({"generation": 3, "plan_hash": "b", "listing": {"labels": "none"}}, {"identical"}),
        ({"source": ["b"], "plan_hash": "b", "weights": "file:b"}, {"identical", "updated"}),
        ({"engine": {"name": "b"}}, {"identical", "updated"}),
        ({"engine": {"precision": "int8"}}, {"identical", "updated", "merge"}),
        ({"dtype": "float32", "head_applies": False}, ALL - {"compare"}),
        (
            {"decode": {"max_pixels": 1, "max_bytes": 1}},
            ALL - {"compare"},
        ),
        ({"backbone": "b"}, ALL),
        ({"decode": {"decoder": "b"}}, ALL),
        ({"normalized": True}, ALL),
    ],
)
def test_what_may_differ_depends_on_the_purpose(changes, purposes):
    first = make_meta()
    nested = {
        key: {**getattr(first, key), **value}
        for key, value in changes.items()
        if isinstance(value, dict)
    }
    second = replace(first, **{**changes, **nested})
    differing = {name for name in get_args(Purpose) if first.differences(second, purpose=name)}
    assert differing == purposes


def test_normalized_may_differ_where_rows_are_scaled():
    first, second = make_meta(normalized=False), make_meta(normalized=True)
    assert not first.differences(second, purpose="compare", unit_norm=True)


def test_the_bytes_don_t_depend_on_how_they_are_written(tmp_path):
    rows = make_rows(2500, labels=[None] * 2499 + ["last"])
    whole = make_content(rows)
    data = bytes(encode_shard(whole))
    assert data == bytes(encode_shard(whole))
    cuts = [0, 1, 1024, 1700, 2500]
    parts = [rows.rows(a, b) for a, b in pairwise(cuts)]
    parts[0] = RowBlock(parts[0].embeddings, parts[0].ids, parts[0].images)  # no labels at all
    pieces = replace(whole, parts=parts)
    path = tmp_path / "a.h5"
    with atomic_file(path) as file:
        write_shard(file, pieces)
    assert path.read_bytes() == data


def test_blocks_are_cut_anew():
    rows = make_rows(23)
    parts = [rows.rows(0, 3), rows.rows(3, 17), rows.rows(17, 23)]
    blocks = list(in_blocks(parts, 5))
    assert [len(block) for block in blocks] == [5, 5, 5, 5, 3]
    assert [name for block in blocks for name in block.ids] == list(rows.ids)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = write_shard_file(tmp_path_factory.mktemp("whole") / "a.h5")
    assert verify(path) == []
    return path.read_bytes()


def problems_of(folder, data):
    path = folder / "damaged.h5"
    path.write_bytes(data)
    found = verify(path)
    assert all(line.startswith(str(path)) and "\n" not in line for line in found)
    return found


def test_every_flipped_bit_is_found(tmp_path, shard):
    chooser = random.Random(0)
    bits = [chooser.randrange(8 * len(shard)) for _ in range(300)]
    bits += range(0, 8 * 200, 13)  # the seal
    bits += range(8 * 512, 8 * 1500, 37)  # the superblock, the attributes
    for needle in (b"photos/0-3", b"truncated", b"HEAP", b"GCOL", b"TREE", b"weights"):
        at = shard.index(needle)
        bits += [8 * at + 3, 8 * at + 30]
    for bit in bits:
        damaged = bytearray(shard)
        damaged[bit // 8] ^= 1 << bit % 8
        assert problems_of(tmp_path, damaged), f"bit {bit}"


def test_a_damaged_row_is_named(tmp_path):
    rows = make_rows(3000)
    path = write_shard_file(tmp_path / "a.h5", make_content(rows))
    data = bytearray(path.read_bytes())
    data[data.index(rows.embeddings[2000].tobytes())] ^= 1
    found = problems_of(tmp_path, data)
    assert len(found) == 2
    assert "embeddings of rows 1024 to 2047: checksum wrong" in found[1]


def test_cut_grown_and_zeroed_files_are_found(tmp_path, shard):
    for size in [*range(0, len(shard), 997), 1, 511, 512, len(shard) - 1]:
        assert problems_of(tmp_path, shard[:size]), size
    assert problems_of(tmp_path, shard + b"\0")
    assert problems_of(tmp_path, shard + b"more")
    for start in range(0, len(shard) - 600, 1999):
        damaged = bytearray(shard)
        damaged[start : start + 600] = bytes(600)
        assert damaged == shard or problems_of(tmp_path, damaged), start


def test_what_isn_t_finite_is_found(tmp_path):
    rows = make_rows(4)
    rows.embeddings[2, 1] = np.nan
    path = write_shard_file(tmp_path / "a.h5", make_content(rows))
    assert ["not all finite" in line for line in verify(path)] == [True]


def test_damage_in_a_folder_is_found(tmp_path):
    folder = write_folder(tmp_path / "s", [make_content(make_rows(3, seed=i)) for i in range(2)])
    assert verify(folder) == []
    manifest = folder / MANIFEST
    whole = manifest.read_bytes()
    meaning = json.loads(whole)
    chooser = random.Random(1)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[chooser.randrange(len(whole))] ^= 1 << chooser.randrange(8)
        manifest.write_bytes(damaged)
        try:
            same = json.loads(damaged) == meaning
        except ValueError:
            same = False
        assert same or verify(folder), damaged
    manifest.write_bytes(whole)
    (folder / "shard-000001.h5").write_bytes((folder / "shard-000000.h5").read_bytes())
    assert "SHA-256" in verify(folder)[0]
    (folder / "shard-000001.h5").unlink()
    assert "no such file" in verify(folder)[0]


class _FullDisk(io.BytesIO):
    """Takes so many bytes and no more."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_an_error_wherever_it_comes(tmp_path):
    content = make_content(make_rows(1500), failures=[ImageFailure("a", "b")])
    size = len(encode_shard(content))
    for room in range(0, size, size // 40):
        with pytest.raises(OSError, match="No space left"):
            write_shard(_FullDisk(room), content)
    with pytest.raises(StoreError, match=r"a\.h5: can't be written: No space left"):  # noqa: SIM117
        with atomic_file(tmp_path / "a.h5"):
            raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="can't be written"), atomic_file(tmp_path / "no" / "a.h5"):
        pass


def test_what_could_not_be_written_reads_as_zeros():
    file = RememberingFile(_FullDisk(4))
    assert file.write(b"abcdefgh") == 8
    assert file.seek(0) == 0
    buffer = bytearray(b"x" * 8)
    assert file.readinto(buffer) == 8
    assert buffer == bytes(8)
    with pytest.raises(OSError, match="No space"):
        file.check()


def test_a_really_full_disk(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        content = make_content(make_rows(3000))
        with pytest.raises(StoreError, match="No space left"), atomic_file(tmp_path / "a") as file:
            write_shard(file, content)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def hostile(change):
    """A shard after a change by h5py, sealed anew so that only its structure is wrong."""
    from embedkit.store.seal import seal

    buffer = io.BytesIO(bytes(encode_shard(make_content(make_rows(4), failures=[]))))
    with h5py.File(buffer, "r+") as h5:
        change(h5)
    seal(buffer, 0, 0)
    return buffer.getvalue()


def replaced(name, **created):
    def change(h5):
        del h5[name]
        h5.create_dataset(name, **created)

    return change


def linked(name, link):
    def change(h5):
        del h5[name]
        h5[name] = link

    return change


def virtual(h5):
    layout = h5py.VirtualLayout((4, 4), "<f2")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 4))
    del h5["embeddings"]
    h5.create_virtual_dataset("embeddings", layout)


HOSTILE = {
    "external link": linked("ids", h5py.ExternalLink("/etc/passwd", "/x")),
    "external group": linked("images", h5py.ExternalLink("/etc/passwd", "/x")),
    "external head": linked("head", h5py.ExternalLink("/etc/passwd", "/x")),
    "external weight": linked("head/weight", h5py.ExternalLink("/etc/passwd", "/x")),
    "soft link": linked("ids", h5py.SoftLink("/images/format")),
    "virtual": virtual,
    "external storage": replaced(
        "embeddings", shape=(4, 4), dtype="<f2", external=[("/etc/passwd", 0, 32)]
    ),
    "chunked": replaced("embeddings", shape=(4, 4), dtype="<f2", chunks=(1, 4)),
    "compressed": replaced("embeddings", shape=(4, 4), dtype="<f2", compression="gzip"),
    "float64": replaced("embeddings", data=np.zeros((4, 4))),
    "big-endian": replaced("embeddings", data=np.zeros((4, 4), ">f2")),
    "other shape": replaced("embeddings", data=np.zeros((4, 5), "<f2")),
    "no rows written": replaced("embeddings", shape=(4, 4), dtype="<f2"),
    "scalar": replaced("ids", data=b"x"),
    "fixed strings": replaced("ids", data=np.array([b"a"] * 4)),
    "numbers as ids": replaced("ids", data=np.arange(4)),
    "too few ids": replaced("ids", data=[b"a"] * 3, dtype=h5py.string_dtype("ascii")),
    "a group": lambda h5: (h5.__delitem__("ids"), h5.create_group("ids")),
    "a dataset as group": replaced("images", data=np.arange(4)),
    "a type": lambda h5: (h5.__delitem__("ids"), h5.__setitem__("ids", np.dtype("f4"))),
    "huge head": replaced("head/weight", shape=(2**40, 4), dtype="<f4"),
    "head of other width": replaced("head/weight", data=np.zeros((3, 5), "<f4")),
    "no checksums": lambda h5: h5.__delitem__("checksums"),
    "no checksum of images": lambda h5: h5.__delitem__("checksums/images"),
    "short checksums": replaced("checksums/images", data=np.zeros((0, 32), "u1")),
    "wrong width": replaced("images/width", data=np.zeros(4, "<f8")),
    "flat thumbnails": replaced("images/thumbnail", data=np.zeros((4, 1024), "u1")),
    "small thumbnails": replaced("images/thumbnail", data=np.zeros((4, 32, 31), "u1")),
    "too few thumbnails": replaced("images/thumbnail", data=np.zeros((3, 32, 32), "u1")),
    "thumbnails in color": replaced("images/thumbnail", data=np.zeros((4, 32, 32, 3), "u1")),
    "signed thumbnails": replaced("images/thumbnail", data=np.zeros((4, 32, 32), "i1")),
    "thumbnails as numbers": replaced("images/thumbnail", data=np.zeros((4, 32, 32), "<f4")),
    "thumbnails that weren't written": replaced("images/thumbnail", shape=(4, 32, 32), dtype="u1"),
    "thumbnails elsewhere": linked("images/thumbnail", h5py.ExternalLink("/etc/passwd", "/x")),
    "huge counts": lambda h5: h5.attrs.update(failed=2**50, found=2**50 + 4),
    "negative count": lambda h5: h5.attrs.update(skipped=-3, found=1),
    "counts that don't add up": lambda h5: h5.attrs.update(found=7),
    "text as count": lambda h5: h5.attrs.update(found="many"),
    "number as text": lambda h5: h5.attrs.update(backbone=5),
    "array as text": lambda h5: h5.attrs.update(format=[1, 2]),
    "list as settings": lambda h5: h5.attrs.update(preprocessing="[1]"),
    "deep settings": lambda h5: h5.attrs.update(engine="[" * 50000),
    "no JSON": lambda h5: h5.attrs.update(source="{"),
    "wrong dtype": lambda h5: h5.attrs.update(dtype="object"),
    "newer": lambda h5: h5.attrs.update(format_version=2),
    "no meta": lambda h5: h5.attrs.__delitem__("pooling"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(tmp_path, change):
    path = tmp_path / "evil.h5"
    path.write_bytes(hostile(change))
    assert verify(path)
    if change is not HOSTILE["short checksums"]:
        with pytest.raises(StoreError) as caught:
            EmbeddingStore.open(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("external link", "/ is missing, or a link to elsewhere"),
        ("external weight", "head is missing, or a link to elsewhere"),
        ("no checksums", "checksums is missing, or a link to elsewhere"),
        ("no checksum of images", "checksums/images is missing, or a link to elsewhere"),
        ("virtual", "embeddings is not a plain dataset"),
        ("external storage", "embeddings is not a plain dataset"),
        ("a group", "ids is not a plain dataset"),
        ("a type", "ids is not a plain dataset"),
        ("chunked", "embeddings is not stored in one piece"),
    ],
)
def test_what_is_wrong_with_a_hostile_file_is_said(tmp_path, name, message):
    path = tmp_path / "evil.h5"
    path.write_bytes(hostile(HOSTILE[name]))
    with pytest.raises(StoreError, match=re.escape(message)):
        EmbeddingStore.open(path)


def test_what_is_no_store_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["x"] = [1]
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name in ("other.h5", "empty.h5", "text.h5", "folder", "missing.h5"):
        with pytest.raises(StoreError, match=name) as caught:
            EmbeddingStore.open(tmp_path / name)
        assert not isinstance(caught.value, StoreCorruptError)
        assert verify(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x.h5"}, {"name": "/etc/passwd"}, {"name": ".."}, {"name": ""}, {"name": 5},
        {"name": "a/b.h5"}, {"name": "a\\b.h5"}, {"embedded": -1}, {"embedded": "3"},
        {"embedded": 4}, {"embedded": True}, {"sha256": None}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_manifests_are_refused(tmp_path, change):
    folder = write_folder(tmp_path / "s", [make_content(make_rows(3))])
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["shards"][0].update(change)
    del manifest["sha256"]  # as an older version, or somebody hostile, writes it
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert verify(folder)
    with pytest.raises(StoreError, match=str(folder)):
        EmbeddingStore.open(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "[" * 90000, "{}", '{"format": "embedkit-store"}', "\xff"]
)
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text.encode("latin-1"))
    assert verify(tmp_path)
    with pytest.raises(StoreFormatError, match=MANIFEST):
        EmbeddingStore.open(tmp_path)


def test_a_manifest_must_name_shards_once_and_of_one_kind(tmp_path):
    folder = write_folder(tmp_path / "s", [make_content(make_rows(3))])
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["sha256"]
    for key, value in (
        ("shards", []),
        ("shards", manifest["shards"] * 2),
        ("meta", {**manifest["meta"], "backbone": "other"}),
        ("format_version", 2),
    ):
        (folder / MANIFEST).write_text(json.dumps({**manifest, key: value}))
        assert verify(folder)
        with pytest.raises(StoreError):
            EmbeddingStore.open(folder)


def test_seal_is_readable_text(shard):
    lines = shard[:512].rstrip(b"\0").decode("ascii").splitlines()
    assert lines[:2] == ["embedkit store", f"sha256 {hashlib.sha256(shard[512:]).hexdigest()}"]


def test_columns_are_written_in_the_order_in_which_they_are_read():
    """The checksum of a block covers its columns in this order."""
    assert (*USUAL_COLUMNS, "etag", "thumbnail") == (*IMAGE_DTYPES, *OPTIONAL_DTYPES)
