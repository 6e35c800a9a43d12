"""The seal of a shard: hashes in the HDF5 user block, which detect any changed bit.

HDF5 may loop forever on a damaged file. Therefore one hash covers everything but the embeddings:
if it matches, the file can be parsed, and the blocks' checksums then locate damaged rows.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "SEAL_BYTES",
    "SealCheck",
    "check_seal",
    "identity_of",
    "is_readable",
    "is_sealed",
    "seal",
]

SEAL_BYTES = 512  # the smallest HDF5 user block
_READ_BYTES = 4 * 2**20
_REST = re.compile(rb"\nsha256 ([0-9a-f]{64}) without (\d{1,18}) bytes from (\d{1,18})\n")
_readable: set[tuple[int, ...]] = set()  # files that this process has read already


@dataclass(frozen=True, slots=True)
class SealCheck:
    """The result of checking a seal.

    Attributes:
        is_there: Whether the file has a seal that can be read.
        is_whole: Whether no bit of the file has changed.
        is_readable: Whether no bit outside the embeddings has, so that HDF5 may parse the file.
    """

    is_there: bool
    is_whole: bool = False
    is_readable: bool = False


def seal(file: IO[bytes], start: int, nbytes: int) -> None:
    """Seals a file that is ready otherwise.

    Args:
        file: Readable and writable, holding an HDF5 file with a user block of ``SEAL_BYTES``.
        start: Where the embeddings begin, bytes.
        nbytes: How long they are, bytes.
    """
    block = _block(*_digests(_chunks(file), start, nbytes), start, nbytes)
    file.seek(0)
    file.write(block)


def is_sealed(path: Path) -> bool:
    """Whether a path is a file that begins as a shard does, be it whole or not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _REST.search(file.read(SEAL_BYTES)) is not None


def identity_of(file: int) -> tuple[int, ...]:
    """Numbers that tell an open file from any other, and from itself before a change."""
    found = os.fstat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_readable(file: int) -> bool:
    """Whether no bit outside the embeddings has changed; also if the file has no seal.

    Reads everything but the embeddings, once per file and process.

    Args:
        file: A descriptor, open for reading.
    """
    match = _REST.search(os.pread(file, SEAL_BYTES, 0))
    if match is None:
        return True
    which = identity_of(file)
    if which in _readable:
        return True
    size = os.fstat(file).st_size
    digest, start = hashlib.sha256(), max(int(match[3]), SEAL_BYTES)
    stop = max(int(match[3]) + int(match[2]), start)
    for begin, end in ((SEAL_BYTES, min(start, size)), (stop, size)):
        for at in range(begin, end, _READ_BYTES):
            digest.update(os.pread(file, min(_READ_BYTES, end - at), at))
    if digest.hexdigest() != match[1].decode("ascii"):
        return False
    _readable.add(which)
    return True


def check_seal(file: IO[bytes]) -> SealCheck:
    """Reads the whole file, and compares it with its seal."""
    file.seek(0)
    found = file.read(SEAL_BYTES)
    match = _REST.search(found)
    if match is None:
        return SealCheck(is_there=False)
    start, nbytes = int(match[3]), int(match[2])
    size = os.fstat(file.fileno()).st_size - SEAL_BYTES
    chunks = track(_chunks(file), "verifying", size, unit="bytes", size=lambda chunk: len(chunk[1]))
    whole, rest = _digests(chunks, start, nbytes)
    return SealCheck(
        is_there=True,
        is_whole=found == _block(whole, rest, start, nbytes),
        is_readable=match[1].decode("ascii") == rest,
    )


def _block(whole: str, rest: str, start: int, nbytes: int) -> bytes:
    text = f"embedkit store\nsha256 {whole}\nsha256 {rest} without {nbytes} bytes from {start}\n"
    return text.encode("ascii").ljust(SEAL_BYTES, b"\0")


def _digests(chunks: Iterable[tuple[int, memoryview]], start: int, nbytes: int) -> tuple[str, str]:
    """SHA-256 (hex) of all that follows the user block, and of that without the embeddings."""
    whole, rest = hashlib.sha256(), hashlib.sha256()
    for begin, chunk in chunks:
        whole.update(chunk)
        first = min(max(start - begin, 0), len(chunk))
        last = min(max(start + nbytes - begin, first), len(chunk))
        rest.update(chunk[:first])
        rest.update(chunk[last:])
    return whole.hexdigest(), rest.hexdigest()


def _chunks(file: IO[bytes]) -> Iterator[tuple[int, memoryview]]:
    file.seek(SEAL_BYTES)
    begin = SEAL_BYTES
    while chunk := file.read(_READ_BYTES):
        yield begin, memoryview(chunk)
        begin += len(chunk)
