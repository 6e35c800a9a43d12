"""Reads and writes faiss files; write errors are raised, and sizes are limited on reading."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import faiss

from embedkit.index.faiss_types import complete, faiss_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["read_faiss", "read_without_lists", "write_faiss"]

_LEAST_LIMIT = 2**20
_TABLE_RATIO = (
    128  # the limit holds for a table, too, that faiss makes of a product quantizer's file
)
_TABLE_LIMIT = 2**31  # faiss makes none that is larger
_limits = threading.Lock()  # faiss's limits are the process's


def write_faiss(index: faiss.Index, write: Callable[[bytes], int]) -> None:
    """Writes an index to a file that is open.

    Not by name: faiss ends a write to a full disk without an error.
    """
    writer = faiss.PyCallbackIOWriter(write)
    faiss.write_index(index, writer)


def read_faiss(file: IO[bytes], path: Path, nbytes: int) -> faiss.Index:
    """Reads an index into memory.

    Args:
        file: The file, open at its start.
        path: Its path, for errors.
        nbytes: Its size, which bounds what an array in it may claim to be.

    Raises:
        IndexCorruptError: faiss can't read it.
        IndexFileError: There isn't enough memory.
    """
    reader = faiss.PyCallbackIOReader(file.read)
    with faiss_errors(path), _limited(nbytes):
        return complete(faiss.read_index(reader))


def read_without_lists(file: IO[bytes], path: Path, nbytes: int) -> faiss.Index:
    """Reads an index whose inverted lists lie in another file, which isn't looked for.

    Raises:
        IndexCorruptError: faiss can't read it.
    """
    reader = faiss.PyCallbackIOReader(file.read)
    with faiss_errors(path), _limited(nbytes):
        return faiss.read_index(reader, faiss.IO_FLAG_SKIP_IVF_DATA)


@contextmanager
def _limited(nbytes: int) -> Iterator[None]:
    """Bounds what faiss believes of a file's arrays and loops."""
    most = max(nbytes, _LEAST_LIMIT, min(_TABLE_RATIO * nbytes, _TABLE_LIMIT))
    with _limits:
        before = (
            faiss.get_deserialization_vector_byte_limit(),
            faiss.get_deserialization_loop_limit(),
        )
        faiss.set_deserialization_vector_byte_limit(most)
        faiss.set_deserialization_loop_limit(most)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before[0])
            faiss.set_deserialization_loop_limit(before[1])
