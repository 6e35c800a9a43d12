"""Joins inverted lists of several parts, in memory or in a memory-mapped file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import faiss
import numpy as np

from embedkit.index.faiss_types import ivf_of, layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "copy_lists",
    "ids_are_within",
    "is_on_disk",
    "map_lists",
    "merge_lists",
    "merge_on_disk",
    "name_lists",
    "rename_vectors",
    "set_count",
    "sizes_of_parts",
]

_ID_BYTES = 8


def merge_lists(index: faiss.Index, parts: Sequence[Path], numbers: range | None = None) -> None:
    """Joins the inverted lists of parts in memory, each list of exactly the size that it gets.

    Args:
        index: Trained and empty.
        parts: Indexes with the same training, whose rows have their positions as ids.
        numbers: Which lists; None joins all.
    """
    target = _lists_of(index)
    numbers = range(target.nlist) if numbers is None else numbers
    sizes = sizes_of_parts(index, parts, numbers)
    for number, size in zip(numbers, sizes.tolist(), strict=True):
        target.resize(number, size)
    filled = np.zeros(target.nlist, np.int64)
    for part in parts:
        opened = _mapped(part)
        lists = _lists_of(opened)
        for number, size in zip(numbers, _sizes_of(opened, numbers).tolist(), strict=True):
            if size:
                ids, codes = lists.get_ids(number), lists.get_codes(number)
                target.update_entries(number, int(filled[number]), size, ids, codes)
                filled[number] += size
    set_count(index, int(sizes.sum()))


def sizes_of_parts(
    index: faiss.Index, parts: Sequence[Path], numbers: range | None = None
) -> NDArray[np.int64]:
    """How many rows each list of an index gets, if the lists of parts are joined to its own.

    Args:
        index: The index.
        parts: Indexes with the same number of lists.
        numbers: Which lists; None counts all.
    """
    return sum((_sizes_of(_mapped(part), numbers) for part in parts), _sizes_of(index, numbers))


def copy_lists(index: faiss.Index, source: faiss.Index, numbers: range) -> None:
    """Copies some inverted lists of packed codes to an index whose own are empty."""
    target, lists = _lists_of(index), _lists_of(source)
    for number in numbers:
        size = lists.list_size(number)
        if size:
            target.resize(number, size)
            nbytes = -(-size // lists.n_per_block) * lists.block_size
            faiss.memcpy(target.get_codes(number), lists.get_codes(number), nbytes)
            faiss.memcpy(target.get_ids(number), lists.get_ids(number), size * _ID_BYTES)


def merge_on_disk(
    index: faiss.Index,
    parts: Sequence[Path],
    lists_file: Path,
    before: faiss.Index | None = None,
) -> None:
    """Joins inverted lists in a file, which ``index`` then maps; memory stays what it was.

    faiss's own merge function prints to standard output, so it isn't used.

    Args:
        index: Trained and empty.
        parts: Indexes with the same training, whose rows have their positions as ids.
        lists_file: The file to make; one that is there is replaced.
        before: An index whose lists come first; None where there is none.
    """
    sources = [*([before] if before is not None else []), *map(_mapped, parts)]
    sizes = sum(map(_sizes_of, sources), _sizes_of(index))
    lists_file.unlink(missing_ok=True)  # what has it mapped keeps it
    with lists_file.open("wb") as file:
        for number in range(len(sizes)):
            for codes in _codes(sources, number):
                file.write(codes.data)
            for ids in _ids(sources, number):
                file.write(ids.data)
        file.flush()
        os.fsync(file.fileno())
    ivf = ivf_of(index)
    assert ivf is not None
    target = faiss.OnDiskInvertedLists(ivf.nlist, ivf.code_size, str(lists_file))
    target.set_all_lists_sizes(faiss.swig_ptr(sizes.astype(np.uint64)))
    target.totsize = int(sizes.sum()) * (ivf.code_size + _ID_BYTES)
    ivf.replace_invlists(target, True)
    target.this.disown()
    map_lists(index, lists_file)
    set_count(index, int(sizes.sum()))


def map_lists(index: faiss.Index, lists_file: Path) -> None:
    """Maps the file of an index's lists, which was read without it.

    Raises:
        RuntimeError: The lists don't lie in the file; faiss would read outside its memory.
    """
    lists = _lists_of(index)
    _check_table(index, lists, lists_file.stat().st_size)
    lists.filename, lists.read_only = str(lists_file), True
    lists.prefetch_nthread = 0  # reading ahead is not for several threads that search
    if lists.totsize:
        lists.do_mmap()


def _check_table(index: faiss.Index, lists: faiss.InvertedLists, nbytes: int) -> None:
    """Compares the places of the lists with the size of their file."""
    ivf = ivf_of(index)
    assert ivf is not None
    if not isinstance(lists, faiss.OnDiskInvertedLists) or lists.totsize > nbytes:
        raise RuntimeError("the inverted lists are not those of this file")
    if (lists.nlist, lists.code_size, lists.lists.size()) != (
        ivf.nlist, ivf.code_size, ivf.nlist,
    ):  # fmt: skip
        raise RuntimeError("the inverted lists have another shape than the index")
    item = ivf.code_size + _ID_BYTES
    for number in range(ivf.nlist):
        one = lists.lists.at(number)
        is_outside = one.capacity and one.offset + one.capacity * item > lists.totsize
        if one.size > one.capacity or is_outside:
            raise RuntimeError(f"inverted list {number} lies outside its file")


def name_lists(index: faiss.Index, name: str) -> None:
    """Makes an index on disk name the file of its lists."""
    _lists_of(index).filename = name


def ids_are_within(index: faiss.Index, count: int) -> bool:
    """Whether all ids in an index's lists, if it has such, are from 0 to ``count`` - 1."""
    if ivf_of(index) is None:
        return True
    return all(ids.min() >= 0 and ids.max() < count for ids in _all_ids(index))


def is_on_disk(index: faiss.Index) -> bool:
    """Whether an index's inverted lists are mapped from a file."""
    return ivf_of(index) is not None and isinstance(_lists_of(index), faiss.OnDiskInvertedLists)


def rename_vectors(index: faiss.Index, names: NDArray[np.int64]) -> None:
    """Gives the vectors in an index's lists, in memory, other ids: ``names[id]`` for ``id``."""
    for ids in _all_ids(index):
        ids[:] = names[ids]


def _all_ids(index: faiss.Index) -> Iterator[NDArray[np.int64]]:
    """The ids of each list that isn't empty."""
    for number in range(_lists_of(index).nlist):
        yield from _ids([index], number)


def _codes(sources: Sequence[faiss.Index], number: int) -> Iterator[NDArray[np.uint8]]:
    for lists in map(_lists_of, sources):
        size = lists.list_size(number) * lists.code_size
        if size:
            yield faiss.rev_swig_ptr(lists.get_codes(number), size)


def _ids(sources: Sequence[faiss.Index], number: int) -> Iterator[NDArray[np.int64]]:
    for lists in map(_lists_of, sources):
        size = lists.list_size(number)
        if size:
            yield faiss.rev_swig_ptr(lists.get_ids(number), size)


def _mapped(part: Path) -> faiss.Index:
    """A part, its lists mapped from its file."""
    return faiss.read_index(str(part), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)


def _lists_of(index: faiss.Index) -> faiss.InvertedLists:
    """An index's lists; valid as long as the index is."""
    ivf = ivf_of(index)
    assert ivf is not None
    return faiss.downcast_InvertedLists(ivf.invlists)


def _sizes_of(index: faiss.Index, numbers: range | None = None) -> NDArray[np.int64]:
    lists = _lists_of(index)
    numbers = range(lists.nlist) if numbers is None else numbers
    return np.array([lists.list_size(number) for number in numbers], np.int64)


def set_count(index: faiss.Index, count: int) -> None:
    """Sets the number of rows of an index whose lists were filled."""
    for layer in layers(index):
        layer.ntotal = count
