"""The frozen plan of a run: which images, in which order, cut into shards.

A plan is two files in a folder: ``plan.jsonl``, one image per line, and ``plan.json``, which is
written last and atomically, so that a plan is either complete or absent. The order of
the lines is the order of the rows, regardless of which images finish first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from embedkit.errors import SourceError
from embedkit.sources.unique_ids import UniqueIds
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Plan", "record_from_json", "record_to_json", "storable"]

_HEADER, _LINES = "plan.json", "plan.jsonl"
_SAMPLED_SHARDS = 16  # a shard is read whole for the sake of some of its lines
_DEFAULTS = tuple((field.name, field.default) for field in dataclasses.fields(ImageRecord))
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run, frozen on disk.

    Attributes:
        folder: Where ``plan.json`` and ``plan.jsonl`` lie.
        count: Images in the plan.
        shard_rows: Images per shard.
        labelled: Images that have a label.
        digest: SHA-256 (hex) of ids, places and labels in their order.
        offsets: For each shard, the byte in ``plan.jsonl`` where its first line begins.
    """

    folder: Path
    count: int
    shard_rows: int
    labelled: int
    digest: str
    offsets: tuple[int, ...]

    @property
    def num_shards(self) -> int:
        """How many shards the plan is cut into."""
        return len(self.offsets)

    @property
    def has_labels(self) -> bool:
        """Whether any image has a label."""
        return self.labelled > 0

    @classmethod
    def freeze(cls, records: Iterable[ImageRecord], folder: Path, shard_rows: int) -> Plan:
        """Writes the plan of these records into ``folder``; holds 8 bytes per image in memory.

        An id that comes again is renamed: the second ``a`` becomes ``a@2``.

        Args:
            records: The images in their final order.
            folder: An existing folder.
            shard_rows: Images per shard, at least 1.

        Raises:
            SourceError: There isn't one image.
        """
        ids = UniqueIds()
        plan = cls._write(ids.noted(map(storable, records)), folder, shard_rows)
        renamed = ids.renamed(plan.records)
        if renamed is not None:
            plan = cls._write(renamed, folder, shard_rows)
        _write_header(plan)
        return plan

    @classmethod
    def draft(cls, records: Iterable[ImageRecord]) -> Plan:
        """The plan of these records, with its digest; its files are temporary, and gone.

        Raises:
            SourceError: There isn't one image.
        """
        with TemporaryDirectory(prefix="embedkit-") as folder:
            return cls.freeze(records, Path(folder), 1_000_000_000)

    @classmethod
    def _write(cls, records: Iterable[ImageRecord], folder: Path, shard_rows: int) -> Plan:
        """Writes the lines under another name first: the records may come from the old ones."""
        temporary = folder / f"{_LINES}.tmp"
        with temporary.open("wb") as lines:
            plan = cls._write_lines(records, folder, shard_rows, lines)
            lines.flush()
            os.fsync(lines.fileno())
        temporary.replace(folder / _LINES)
        return plan

    @classmethod
    def _write_lines(
        cls, records: Iterable[ImageRecord], folder: Path, shard_rows: int, lines: BinaryIO
    ) -> Plan:
        digest, offsets = hashlib.sha256(), []
        count = labelled = position = 0
        for record in records:
            if count % shard_rows == 0:
                offsets.append(position)
            line = _to_line(record)
            digest.update(line)
            position += lines.write(line)
            labelled += record.label is not None
            count += 1
        if not count:
            raise SourceError("no images found in the source")
        return cls(folder, count, shard_rows, labelled, digest.hexdigest(), tuple(offsets))

    @classmethod
    def open(cls, folder: Path) -> Plan | None:
        """Opens the plan in ``folder``; None if none was frozen there.

        Raises:
            SourceError: The plan is damaged.
        """
        try:
            header = json.loads((folder / _HEADER).read_bytes())
            with (folder / _LINES).open("rb") as lines:
                digest = hashlib.file_digest(lines, "sha256").hexdigest()
            plan = cls(folder=folder, **{**header, "offsets": tuple(header["offsets"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as exc:
            raise _damaged(folder / _HEADER) from exc
        if digest != plan.digest:
            raise _damaged(folder / _LINES)
        return plan

    def rows(self, number: int) -> int:
        """How many images one shard has."""
        return min(self.shard_rows, self.count - number * self.shard_rows)

    def shard(self, number: int) -> list[ImageRecord]:
        """The images of one shard, in order.

        Raises:
            SourceError: The plan is damaged.
        """
        try:
            with (self.folder / _LINES).open("rb") as lines:
                lines.seek(self.offsets[number])
                return [_from_line(lines.readline()) for _ in range(self.rows(number))]
        except (ValueError, TypeError) as exc:
            raise _damaged(self.folder / _HEADER) from exc

    def records(self, chosen: Iterable[bool] | None = None) -> Iterator[ImageRecord]:
        """All images in order, or those of them that are chosen."""
        with (self.folder / _LINES).open("rb") as lines:
            yield from map(_from_line, lines if chosen is None else compress(lines, chosen))

    def sample(self, count: int) -> list[ImageRecord]:
        """Up to ``count`` images, evenly spaced over at most 16 shards; deterministic."""
        shards = _evenly_spaced(self.num_shards, _SAMPLED_SHARDS)
        found = []
        for place, number in enumerate(shards):
            share = (place + 1) * count // len(shards) - place * count // len(shards)
            records = self.shard(number)
            found += [records[index] for index in _evenly_spaced(len(records), share)]
        return found


def _damaged(path: Path) -> SourceError:
    return SourceError(f"{path}: damaged; start again with overwrite=True")


def _evenly_spaced(length: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers below ``length``, evenly spaced."""
    if count >= length:
        return list(range(length))
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def _write_header(plan: Plan) -> None:
    header = dataclasses.asdict(plan)
    del header["folder"]
    temporary = plan.folder / f"{_HEADER}.tmp"
    with temporary.open("w", encoding="ascii") as file:
        json.dump(header, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(plan.folder / _HEADER)


def storable(record: ImageRecord) -> ImageRecord:
    """The record, with an id and a label that can be stored; one with a hostile id will fail."""
    if record.label is not None and not _is_storable(record.label):
        record = dataclasses.replace(record, label=_escaped(record.label))
    if _is_storable(record.id):
        return record
    problem = "its name can't be stored"
    return dataclasses.replace(record, id=_escaped(record.id), problem=problem)


def _is_storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that no file name has
        return False


def _escaped(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def record_to_json(record: ImageRecord) -> dict[str, Any]:
    """The fields that aren't at their defaults, as JSON can hold them."""
    return {  # asdict takes ten times longer
        name: value
        for name, default in _DEFAULTS  # a field without one has a value that equals nothing
        if (value := getattr(record, name)) != default
    }


def record_from_json(fields: Mapping[str, Any]) -> ImageRecord:
    """What `record_to_json` gave."""
    return ImageRecord(**fields)


def _to_line(record: ImageRecord) -> bytes:
    """One JSON line; ASCII only, so surrogate escapes of strange file names survive."""
    return _encode(record_to_json(record)).encode("ascii") + b"\n"


def _from_line(line: bytes) -> ImageRecord:
    return record_from_json(json.loads(str(line, "ascii")))  # of bytes it looks for the encoding
