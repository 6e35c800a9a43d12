"""Opaque names of images, by which a client asks for them: no path can be read off them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["ItemKeys", "key_of"]

_KEY = re.compile(r"[0-9a-f]{16}", re.ASCII)


def key_of(image_id: str, secret: bytes) -> str:
    """The opaque name of an id: a keyed hash, 16 hexadecimal digits."""
    return _digest(image_id.encode("utf-8", "surrogateescape"), secret).hex()


def _digest(name: bytes, secret: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=8, key=secret).digest()


class ItemKeys:
    """The rows of N images by their opaque names: 16 bytes an image.

    Args:
        ids: N ids, as stored.
        secret: Keys the hash; the same secret gives the same names.
    """

    def __init__(self, ids: Iterable[bytes], secret: bytes) -> None:
        self._secret = secret
        digests = b"".join(_digest(name, secret) for name in ids)
        keys = np.frombuffer(digests, ">u8").astype(np.uint64)
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]

    def key(self, image_id: str) -> str:
        """The opaque name of an id."""
        return key_of(image_id, self._secret)

    def row(self, key: str) -> int | None:
        """The row of an opaque name; None if no image has it."""
        if not _KEY.fullmatch(key) or not len(self._keys):
            return None
        number = np.uint64(int(key, 16))
        at = int(np.searchsorted(self._keys, number))
        if at == len(self._keys) or self._keys[at] != number:
            return None
        return int(self._rows[at])

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """The rows of some opaque names, ``(n,)``; -1 where no image has one."""
        found = [self.row(key) for key in keys]
        return np.array([-1 if row is None else row for row in found], np.int64)
