"""The frozen plan of a run: which images, in which order, cut into shards.

A plan is two files in a folder: ``plan.jsonl``, one image a line, and ``plan.json``, which is
written last and atomically, so that a plan is either there and whole or not there. The order of
the lines is the order of the rows, whatever is finished first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import SourceError
from embedkit.records import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Plan"]

_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(ImageRecord)
    if field.default is not dataclasses.MISSING
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will embed, frozen on disk.

    Attributes:
        folder: Where ``plan.json`` and ``plan.jsonl`` lie.
        count: Images in the plan.
        sidecars: Files of the source that only accompany images; they count as skipped.
        shard_rows: Images a shard.
        has_labels: Whether any image has a label.
        digest: SHA-256 (hex) of ids, places and labels in their order.
        offsets: For each shard, the byte in ``plan.jsonl`` where its first line begins.
    """

    folder: Path
    count: int
    sidecars: int
    shard_rows: int
    has_labels: bool
    digest: str
    offsets: tuple[int, ...]

    @property
    def num_shards(self) -> int:
        """How many shards the plan is cut into."""
        return len(self.offsets)

    @classmethod
    def freeze(cls, records: Iterable[ImageRecord], folder: Path, shard_rows: int) -> Plan:
        """Writes the plan of these records into ``folder``, in a bounded amount of memory.

        Args:
            records: The images in their final order.
            folder: An existing folder.
            shard_rows: Images a shard, at least 1.

        Raises:
            SourceError: There isn't one image.
        """
        digest, offsets = hashlib.sha256(), []
        count = sidecars = position = 0
        has_labels = False
        with (folder / "plan.jsonl").open("wb") as lines:
            for record in records:
                if record.sidecar:
                    sidecars += 1
                    continue
                if count % shard_rows == 0:
                    offsets.append(position)
                line = _to_line(_storable(record))
                digest.update(line)
                position += lines.write(line)
                has_labels = has_labels or record.label is not None
                count += 1
        if not count:
            raise SourceError("no images found in the source")
        plan = cls(
            folder, count, sidecars, shard_rows, has_labels, digest.hexdigest(), tuple(offsets)
        )
        _write_header(plan)
        return plan

    @classmethod
    def open(cls, folder: Path) -> Plan | None:
        """Opens the plan in ``folder``; None if none was frozen there."""
        try:
            header = json.loads((folder / "plan.json").read_bytes())
        except FileNotFoundError:
            return None
        return cls(folder=folder, **{**header, "offsets": tuple(header["offsets"])})

    def shard(self, number: int) -> list[ImageRecord]:
        """The images of one shard, in order."""
        rows = min(self.shard_rows, self.count - number * self.shard_rows)
        with (self.folder / "plan.jsonl").open("rb") as lines:
            lines.seek(self.offsets[number])
            return [_from_line(lines.readline()) for _ in range(rows)]


def _write_header(plan: Plan) -> None:
    header = dataclasses.asdict(plan)
    del header["folder"]
    temporary = plan.folder / "plan.json.tmp"
    temporary.write_text(json.dumps(header))
    temporary.replace(plan.folder / "plan.json")


def _storable(record: ImageRecord) -> ImageRecord:
    """A record whose id can be stored; a hostile id is escaped and its image will fail."""
    try:
        if b"\0" not in record.id.encode("utf-8", "surrogateescape"):
            return record
    except UnicodeEncodeError:  # a surrogate that no file name has
        pass
    escaped = record.id.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
    return dataclasses.replace(record, id=escaped, problem="its name can't be stored")


def _to_line(record: ImageRecord) -> bytes:
    """One JSON line; ASCII only, so surrogate escapes of strange file names survive."""
    fields = dataclasses.asdict(record)
    told = {k: v for k, v in fields.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
    return json.dumps(told, separators=(",", ":")).encode("ascii") + b"\n"


def _from_line(line: bytes) -> ImageRecord:
    return ImageRecord(**json.loads(line))
