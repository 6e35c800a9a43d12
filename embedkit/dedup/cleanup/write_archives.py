"""Copies archives without the images that a plan removes; the archives themselves stay."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from embedkit.dedup.cleanup.compare import NOT_VERIFIED, PixelComparison, compared_mark
from embedkit.errors import DedupError, EmbedkitError
from embedkit.sources import ImageReader, open_source
from embedkit.sources.naming import kind_of_name
from embedkit.sources.webdataset import sample_key
from embedkit.utils.atomic_write import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from embedkit.dedup.cleanup.plan import PlanRow
    from embedkit.dedup.cleanup.plan_csv import Plan
    from embedkit.types import ImageRecord

__all__ = ["Archives", "output_names"]

_NUMBERED = re.compile(r"\{(\d+)\.\.\}")


@dataclass(frozen=True)
class Archives:
    """The archives to copy.

    Attributes:
        images: Place (``archive#member``, as a plan writes it) to the record of each image.
        reader: Reads their bytes.
    """

    images: Mapping[str, ImageRecord]
    reader: ImageReader

    @classmethod
    def list_all(cls, sources: Sequence[str | os.PathLike[str]], reader: ImageReader) -> Archives:
        """Lists tar archives and Parquet files.

        Raises:
            SourceError: A source can't be listed.
            DedupError: One of them is something else, or an archive is damaged.
        """
        if not sources:
            raise DedupError("write needs images=..., the archives to copy, all of them")
        images = {}
        for record in open_source(list(sources), labels="none").scan():
            if record.kind not in {"tar", "parquet"}:
                raise DedupError(f"{record.path}: neither a tar archive nor a Parquet file")
            if record.id == record.path:
                raise DedupError(f"{record.path}: damaged, so not copied: {record.problem}")
            place = os.path.realpath(record.path) + record.id[len(record.path) :]
            images[place] = record
        return cls(images, reader)

    def paths(self) -> list[str]:
        """The archives' paths, in order."""
        return list(dict.fromkeys(record.path for record in self.images.values()))

    def why_not(self, row: PlanRow, plan: Plan) -> str:
        """Why an image isn't left out; empty if it is."""
        try:
            self._check(row.path, row.content_hash)
            for kept in plan.keepers(row):
                self._check(kept.path, kept.content_hash)
                if row.compared == compared_mark(row.content_hash, kept.content_hash):
                    return ""
                comparison = PixelComparison(lambda key: self._read(key[1]))
                problem = comparison.why_not((0, row.path), (0, kept.path))
                return f"{NOT_VERIFIED}{problem}" if problem else ""
        except EmbedkitError as exc:
            return str(exc)
        return "nothing that it is a copy of would be left"

    def _read(self, place: str) -> bytes:
        if place not in self.images:
            raise DedupError(f"{place}: not in the archives that are copied")
        return self.reader.read(self.images[place])

    def _check(self, place: str, content_hash: str) -> None:
        if hashlib.sha256(self._read(place)).hexdigest() != content_hash:
            raise DedupError(f"{place}: changed since it was embedded: other bytes")

    def copy(self, path: str, target: Path, removed: Iterable[str], *, overwrite: bool) -> None:
        """Copies one archive without some of its images and their companions.

        Raises:
            DedupError: ``target`` exists, or the archive can't be read.
        """
        if target.exists() and not overwrite:
            raise DedupError(f"{target}: exists already; overwrite=True replaces it")
        mine = [record for record in self.images.values() if record.path == path]
        gone = {self.images[place].id for place in removed}
        copy = _copy_tar if kind_of_name(path) == "tar" else _copy_parquet
        try:
            with atomic_file(target) as file:
                copy(path, file, mine, gone)
        except (OSError, tarfile.TarError) as exc:
            raise DedupError(f"{path}: can't be copied: {exc}") from exc


def output_names(pattern: str, count: int) -> list[Path]:
    """The names of the copies: ``clean-{00000..}.tar`` numbers them from 00000.

    Raises:
        DedupError: There are several, and the pattern has no number.
    """
    found = _NUMBERED.search(pattern)
    if found is None:
        if count > 1:
            raise DedupError(
                f"{pattern}: {count} archives need numbers: to='clean-{{00000..}}.tar'"
            )
        return [Path(pattern)]
    start, width = int(found[1]), len(found[1])
    return [
        Path(pattern[: found.start()] + f"{number:0{width}}" + pattern[found.end() :])
        for number in range(start, start + count)
    ]


def _copy_tar(path: str, file: IO[bytes], images: Sequence[ImageRecord], gone: set[str]) -> None:
    kept = {record.offset: record.id not in gone for record in images}
    with tarfile.open(path, ignore_zeros=True) as source:
        members = source.getmembers()
        left_out = set(_left_out(members, kept))
        with tarfile.open(fileobj=file, mode="w") as target:
            for member in members:
                if member.offset_data not in left_out:
                    data = source.extractfile(member) if member.isreg() else None
                    target.addfile(member, data)


def _left_out(members: Sequence[tarfile.TarInfo], kept: Mapping[int | None, bool]) -> Iterator[int]:
    """Where the members begin that are left out: removed images, and what belongs to these only."""
    for _, run in groupby(members, lambda member: sample_key(member.name)):
        sample = list(run)
        images = [member for member in sample if member.offset_data in kept]
        for member in sample:
            owners = [member] if member in images else _owners(member, images)
            if owners and not any(kept[owner.offset_data] for owner in owners):
                yield member.offset_data


def _owners(
    member: tarfile.TarInfo, images: Sequence[tarfile.TarInfo]
) -> Sequence[tarfile.TarInfo]:
    """The images of a sample whose names have the most dotted parts in common with a member's."""
    shared = [_equal_parts(_parts(member), _parts(image)) for image in images]
    return [i for i, n in zip(images, shared, strict=True) if n == max(shared)]


def _equal_parts(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts from the first on are equal."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _parts(member: tarfile.TarInfo) -> list[str]:
    return member.name.rpartition(".")[0].split(".")


def _copy_parquet(
    path: str, file: IO[bytes], images: Sequence[ImageRecord], gone: set[str]
) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    removed: dict[int, list[int]] = {}
    for record in images:
        if record.id in gone:
            number, row = (record.key or "").rsplit("/", 2)[1:]
            removed.setdefault(int(number), []).append(int(row))
    with pq.ParquetFile(path) as source, pq.ParquetWriter(file, source.schema_arrow) as target:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            stays = np.ones(len(table), bool)
            stays[removed.get(group, [])] = False
            target.write_table(table.filter(pa.array(stays)))
