"""What is fuzzed: for each kind of file, some samples and how a mutant is read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from images import draw_photo, encode
from PIL import features

from embedkit.errors import EmbedkitError

if TYPE_CHECKING:
    from collections.abc import Callable

PHOTO = draw_photo(1, (48, 40))
SMALL = draw_photo(2, (16, 12))


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        samples: Whole files, which are changed.
        read: Reads a file as embedkit does; raises an error of embedkit's for a damaged one.
        mend: Makes the checksums of a changed file right, so that it is read further.
    """

    samples: list[bytes]
    read: Callable[[bytes], object]
    mend: Callable[[bytes], bytes] = bytes


MOVING = {"save_all": True, "append_images": [SMALL.resize(PHOTO.size)]}
WAYS: dict[str, list[dict]] = {
    "JPEG": [{}, {"progressive": True}, {"quality": 30, "subsampling": 0},
             {"restart_marker_rows": 1}],
    "PNG": [{}, {"compress_level": 0}],
    "WEBP": [{}, {"lossless": True}, MOVING],
    "GIF": [{}, MOVING],
    "BMP": [{}],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"big_tiff": True},
             {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}],
    "PPM": [{}],
    "AVIF": [{}, MOVING],
    "JPEG2000": [{}, {"no_jp2": True}, {"tile_size": (16, 16)}],
}  # fmt: skip
MODES = ["RGB", "L", "P", "RGBA", "CMYK", "1"]


def _image_samples(kind: str) -> list[bytes]:
    found = []
    for mode in MODES:
        for options in WAYS[kind]:
            try:
                found.append(encode(PHOTO.convert(mode), kind, **options))
            except (OSError, ValueError, KeyError, RuntimeError):
                continue  # Pillow doesn't write it
    if kind == "PPM":
        found += [b"P3\n2 2\n255\n1 2 3 4 5 6 7 8 9 10 11 12\n", b"P1\n2 2\n0 1 1 0\n",
                  b"P2 # a comment\n2 2 1000\n1 2 3 999\n", b"P5 2 2 999\n" + bytes(8)]  # fmt: skip
    return found


def _image(kind: str) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        from embedkit.decode.exact import decode_image
        from embedkit.decode.fast import decode_jpeg
        from embedkit.decode.policy import DecodePolicy
        from embedkit.decode.stated import stated

        policy = DecodePolicy(max_pixels=10_000_000)

        def read(data: bytes) -> None:
            if kind == "JPEG":
                decode_jpeg(data, "x", policy)
            decoded = decode_image(data, "x", policy, 0)
            decoded.image.load()
            stated(data, decoded.format)

        return Target(_image_samples(kind), read, _right_crcs if kind == "PNG" else bytes)

    return make


def _right_crcs(data: bytes) -> bytes:
    """A PNG with the checksum of each chunk made anew."""
    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        end = at + 8 + int.from_bytes(found[at : at + 4], "big")
        if end + 4 > len(found):
            break
        found[end : end + 4] = zlib.crc32(found[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(found)


def _right_tar(data: bytes) -> bytes:
    """A tar with the checksum of each header made anew, as far as their sizes lead."""
    found, at = bytearray(data), 0
    while at + 512 <= len(found):
        header = found[at : at + 512]
        header[148:156] = b" " * 8
        found[at + 148 : at + 156] = b"%06o\0 " % sum(header)
        try:
            size = int(bytes(header[124:136]).strip(b" \0") or b"0", 8)
        except ValueError:
            break
        at += 512 + -(-size // 512) * 512
    return bytes(found)


def _tar(members: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=options.pop("mode", "w"), **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _members() -> dict[str, bytes]:
    jpeg = encode(SMALL, "JPEG")
    return {"a.jpg": jpeg, "a.cls": b"3", "a.json": b'{"label": "cat"}', f"{'n' * 120}.jpg": jpeg,
            "b/c.png": encode(SMALL, "PNG")}  # fmt: skip


def _source(
    name: str, samples: Callable[[], list[bytes]], mend: Callable[[bytes], bytes] = bytes
) -> Callable[[Path], Target]:
    """A file that is listed and read as a source of images."""

    def make(folder: Path) -> Target:
        from embedkit.errors import DecodeError
        from embedkit.sources import ImageReader, open_source

        path = folder / name
        (folder / "a.jpg").write_bytes(encode(SMALL, "JPEG"))

        def read(data: bytes) -> None:
            path.write_bytes(data)
            source = open_source(str(path))
            with ImageReader() as reader:
                for number, record in enumerate(source.scan()):
                    if number > 200:
                        break
                    try:
                        reader.peek(record)
                        reader.read(record)
                    except DecodeError:
                        continue

        return Target(samples(), read, mend)

    return make


def _zips() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in _members().items():
                archive.writestr(name, data)
        found.append(buffer.getvalue())
    return found


def _parquets() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    jpeg = encode(SMALL, "JPEG")
    nested = [{"bytes": jpeg, "path": "a.jpg"}, {"bytes": None, "path": "a.jpg"}]
    tables = [
        pa.table({"image": nested, "label": [1, 2]}),
        pa.table({"image": [jpeg, jpeg], "label": ["cat", None]}),
        pa.table({"path": ["a.jpg", "b.jpg"], "label": [0.5, 1.5]}),
    ]
    found = []
    for table in tables:
        for options in ({}, {"compression": "none"}, {"compression": "zstd"}):
            buffer = io.BytesIO()
            pq.write_table(table, buffer, **options)
            found.append(buffer.getvalue())
    return found


def _label_tables() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["a.jpg", "b.jpg"], "label": ["x", None], "n": [1, 2]}), buffer)
    return [buffer.getvalue()]


def _lists() -> list[bytes]:
    return [b"a.jpg\nb.jpg\n", b"path,label\na.jpg,cat\n", b'{"path": "a.jpg", "label": 3}\n',
            b"a.jpg\0b.jpg\0", b"\xef\xbb\xbfa.jpg\r\n"]  # fmt: skip


def _labels(name: str, samples: Callable[[], list[bytes]]) -> Callable[[Path], Target]:
    """A table of labels, of columns for a store, or a list of ids."""

    def make(folder: Path) -> Target:
        from stores import write_store

        from embedkit.sources import open_source
        from embedkit.store import EmbeddingStore
        from embedkit.store.annotate import annotate
        from embedkit.utils.id_lists import read_ids

        rows = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
        store = write_store(folder / "a.h5", rows, ids=["a.jpg", "b.jpg"])
        whole, path = store.read_bytes(), folder / name
        (folder / "photos").mkdir()
        for one in ("a.jpg", "b.jpg"):
            (folder / "photos" / one).write_bytes(encode(SMALL, "JPEG"))

        def read(data: bytes) -> None:
            path.write_bytes(data)
            errors: list[EmbedkitError] = []
            for action in (
                lambda: list(open_source(str(folder / "photos"), labels=str(path)).scan()),
                lambda: list(read_ids(path)),
                lambda: annotate(store, path),
            ):
                try:
                    action()
                except ValueError as error:  # a column that can't have its name
                    if "column" not in str(error):
                        raise
                except EmbedkitError as error:
                    errors.append(error)
            if store.read_bytes() != whole:
                EmbeddingStore.open(store).close()
                store.write_bytes(whole)
            if errors:
                raise errors[0]

        return Target(samples(), read)

    return make


def _store(folder: Path) -> Target:
    from stores import write_store

    from embedkit.store import EmbeddingStore, verify

    rows = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    sample = write_store(folder / "a.h5", rows, labels=["cat", None, "dog"] * 10).read_bytes()
    path = folder / "m.h5"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        problems = verify(path)
        with EmbeddingStore.open(path) as store:
            found = store.to_numpy()
            kept = list(store.ids), list(store.labels or ())
        if not problems and data != sample:
            raise AssertionError(f"verify finds nothing, {len(kept[0])} rows")
        assert problems or np.array_equal(found, rows)

    return Target([sample], read)


FACTORIES = {"flat": "Flat", "fast-scan": "IVF4,PQ4x4fs", "opq": "OPQ4_8,IVF4,PQ4",
             "hnsw": "HNSW8", "sq": "IVF4,SQ8"}  # fmt: skip


def _index(factory: str, *, on_disk: bool = False) -> Callable[[Path], Target]:
    """An index one of whose files is changed, with the hashes of its manifest made anew."""

    def make(folder: Path) -> Target:
        from stores import write_store

        from embedkit.index import Index, IndexSpec
        from embedkit.index.manifest import _FORMAT, MANIFEST
        from embedkit.index.verify import index_problems

        rows = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
        store = write_store(folder / "a.h5", rows)
        path = folder / "a.index"
        Index.build(store, path, IndexSpec(factory, rerank=False, on_disk=on_disk))
        names = sorted(one.name for one in path.iterdir())
        # The name goes before the content, so that a mutant says which file it is of.
        samples = [name.encode() + b"\0" + (path / name).read_bytes() for name in names]
        whole = {name: (path / name).read_bytes() for name in names}
        queries = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)

        def read(data: bytes) -> None:
            name, _, content = data.partition(b"\0")
            name = os.fsdecode(name)
            for one in names:
                (path / one).write_bytes(content if one == name else whole[one])
            if name in names and name != MANIFEST:
                stated = json.loads(whole[MANIFEST])
                for entry in stated["files"].values():
                    if entry["name"] == name:
                        digest = hashlib.sha256(content).hexdigest()
                        entry |= {"sha256": digest, "nbytes": len(content)}
                for key in ("format", "format_version", "sha256"):
                    del stated[key]
                (path / MANIFEST).write_bytes(_FORMAT.encode(stated))
            index_problems(path)
            with Index.open(path) as index:
                index.search(queries, 5)

        return Target(samples, read)

    return make


def _weights(name: str) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        import safetensors.torch
        import torch

        from embedkit.backbones.checkpoint import read_weights

        state = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3).half()}
        path = folder / f"w{Path(name).suffix}"
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(state, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
        sample = path.read_bytes()

        def read(data: bytes) -> None:
            path.write_bytes(data)
            for tensor in read_weights(path).values():
                tensor.float().sum()

        return Target([sample], read)

    return make


def _plan(folder: Path) -> Target:
    from crash_driver import make_corpus

    from embedkit.dedup.cleanup.apply import apply_plan
    from embedkit.dedup.cleanup.plan_csv import write_plan

    path = folder / "plan.csv"
    write_plan(make_corpus(folder), path)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        apply_plan(path, "move", to=folder / "away")

    return Target([path.read_bytes()], read)


def _journal(folder: Path) -> Target:
    from crash_driver import make_corpus

    from embedkit.dedup.cleanup.apply import apply_plan, undo_journal
    from embedkit.dedup.cleanup.plan_csv import write_plan

    path = folder / "plan.csv"
    write_plan(make_corpus(folder), path)
    apply_plan(path, "move", to=folder / "away", execute=True)
    journal = folder / "plan.csv.journal"

    def read(data: bytes) -> None:
        journal.write_bytes(data)
        undo_journal(journal)

    return Target([journal.read_bytes()], read)


def _run_plan(folder: Path) -> Target:
    from embedkit.sources.shard_plan import Plan
    from embedkit.types import ImageRecord

    records = [ImageRecord(f"{n}.jpg", "file", f"/photos/{n}.jpg") for n in range(5)]
    Plan.freeze(records, folder, 2)
    names = ("plan.json", "plan.jsonl")
    whole = {name: (folder / name).read_bytes() for name in names}

    def read(data: bytes) -> None:
        name, _, content = data.partition(b"\0")
        for one in names:
            (folder / one).write_bytes(content if one.encode() == name else whole[one])
        plan = Plan.open(folder)
        if plan is not None:
            for number in range(min(plan.num_shards, 10)):
                plan.shard(number)

    return Target([name.encode() + b"\0" + data for name, data in whole.items()], read)


TARGETS: dict[str, Callable[[Path], Target]] = {
    **{kind.lower(): _image(kind) for kind in WAYS if kind != "AVIF" or features.check("avif")},
    "tar": _source("a.tar", lambda: [_tar(_members(), format=one) for one in (1, 2)], _right_tar),
    "tar.gz": _source("a.tar.gz", lambda: [_tar(_members(), mode="w:gz")]),
    "webdataset": _source("shard-000000.tar", lambda: [_tar(_members())], _right_tar),
    "zip": _source("a.zip", _zips),
    "parquet": _source("a.parquet", _parquets),
    "list": _source("a.txt", _lists),
    "csv": _source("a.csv", lambda: [b"path,label\na.jpg,cat\nb.jpg,\n"]),
    "labels-csv": _labels("t.csv", lambda: [b"id,label,year\na.jpg,cat,3\nb.jpg,,2.5\n"]),
    "labels-parquet": _labels("t.parquet", _label_tables),
    "store": _store,
    **{f"index-{name}": _index(factory) for name, factory in FACTORIES.items()},
    "index-disk": _index("IVF4,SQ8", on_disk=True),
    "weights-safetensors": _weights("w.safetensors"),
    "weights-zip": _weights("w.pth"),
    "weights-old": _weights("old.pth"),
    "plan": _plan,
    "journal": _journal,
    "run-plan": _run_plan,
}
