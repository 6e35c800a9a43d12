"""Checks that every class of one kind has to pass; the tests of each class call them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from embedkit.errors import DecodeError
from embedkit.sources import ImageReader, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedkit.types import ImageRecord

__all__ = ["check_source"]


def check_source(
    source: Source, expected: Mapping[str, bytes] | Sequence[str]
) -> list[ImageRecord]:
    """Check that a source keeps its promises.

    Two scans list the same, ids are unique and survive as bytes, and many threads read every image
    from its record alone, in any order, with the bytes of the first reading.

    Args:
        source: What to check.
        expected: The ids in their order, and the bytes of each where it is a mapping. Of those that
            carry a ``problem`` only the id is compared.

    Returns:
        The records.
    """
    assert isinstance(source, Source)
    records = list(source.scan())
    assert list(source.scan()) == records, "two scans differ"
    ids = [record.id for record in records]
    assert ids == list(expected)
    assert len(set(ids)) == len(ids), "an id comes twice"
    assert [os.fsdecode(os.fsencode(one)) for one in ids] == ids
    contents = _check_reads([record for record in records if record.problem is None])
    _check_problems([record for record in records if record.problem is not None])
    if not isinstance(expected, (list, tuple)):
        assert contents == {one: expected[one] for one in contents}
    return records


def _check_reads(records: list[ImageRecord]) -> dict[str, bytes]:
    with ImageReader() as reader:
        contents = {record.id: reader.read(record) for record in records}
        for record in records:
            assert record.nbytes in (None, len(contents[record.id]))
            assert reader.peek(record, 5) == contents[record.id][:5]
    mixed = [*records[::2], *records[::-1]]
    with ImageReader() as reader, ThreadPoolExecutor(8) as pool:
        for record, data in zip(mixed, pool.map(reader.read, mixed), strict=True):
            assert data == contents[record.id], record.id
    return contents


def _check_problems(records: list[ImageRecord]) -> None:
    with ImageReader() as reader:
        for record in records:
            with pytest.raises(DecodeError) as caught:
                reader.read(record)
            assert caught.value.image_id == record.id
            assert caught.value.reason == record.problem
            assert "\n" not in caught.value.reason
