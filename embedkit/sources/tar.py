"""Lists the images of tar archives and WebDataset shards, without extracting anything."""

from __future__ import annotations

import tarfile
from contextlib import closing
from typing import IO, TYPE_CHECKING, cast

from embedkit.sources.base import Source
from embedkit.sources.image_suffixes import has_image_name, is_repeated_image
from embedkit.sources.io import storage
from embedkit.sources.naming import UniqueNames, first_folder, is_hidden
from embedkit.sources.readers.compression import (
    COMPRESSION_ERRORS,
    ForwardFile,
    compression_of,
    decompress,
)
from embedkit.sources.tar_headers import HeaderDamageError, LeanTar
from embedkit.sources.webdataset import Member, Samples, is_class_name
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TarSource"]

_MAX_CLASS_BYTES = 256
_MAX_NAME = 4096  # the longest path of Linux


class TarSource(Source):
    """The members of one tar archive, plain or compressed with gzip, bzip2 or xz.

    Args:
        path: A path or URL.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def scan(self) -> Iterator[ImageRecord]:
        """List the members in the archive's order, then the damage, if there is any."""
        listing = _Listing(self.path)
        yield from Samples(self.path).records(listing.members())
        if listing.problem is not None:
            yield ImageRecord(id=self.path, path=self.path, kind="tar", problem=listing.problem)


class _Listing:
    """One pass over an archive.

    Attributes:
        problem: After the pass: what is wrong with the archive, if anything.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem: str | None = None
        self._names = UniqueNames()
        self._compression: str | None = None

    def members(self) -> Iterator[Member]:
        """Yield the complete members, and record the damage that ends the pass."""
        count, reason = 0, "can't be read"
        try:
            self._compression = compression_of(self.path)
            with closing(self._open()) as stream:
                reason = "damaged after 0 members"
                for member in self._whole_members(stream):
                    count += 1
                    reason = f"damaged after {count} members"
                    yield from self._known(member)
        except (OSError, ValueError, OverflowError, tarfile.TarError, *COMPRESSION_ERRORS) as exc:
            self.problem = f"tar archive {reason}: {storage.reason_of(exc)}"

    def _open(self) -> IO[bytes]:
        if self._compression is None:
            return storage.open_random(self.path)
        return cast(IO[bytes], ForwardFile(decompress(self.path, self._compression)))

    def _whole_members(self, stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, str | None]]:
        """Yield each member once the next header, or the end, proves that its data is complete."""
        with LeanTar(stream) as tar:
            info = tar.next()
            while info is not None:
                text = _class_text(stream, info)
                offset = tar.offset
                try:
                    following = tar.next()
                except HeaderDamageError:
                    yield info, text
                    raise
                yield info, text
                if following is not None and (following.size < 0 or tar.offset <= offset):
                    raise tarfile.ReadError("a member has a negative size")
                info = following

    def _known(self, member: tuple[tarfile.TarInfo, str | None]) -> Iterator[Member]:
        """Make the record of a member, unless it is to be ignored."""
        info, text = member
        problem = _problem(info)
        if is_hidden(info.name) or not (info.isreg() or problem):
            return
        name = info.name if len(info.name) <= _MAX_NAME else f"{info.name[:_MAX_NAME]}…"
        image_id = f"{self.path}#{self._names.add(name)}"
        record = ImageRecord(
            id=image_id,
            path=self.path,
            kind="tar",
            offset=info.offset_data,
            nbytes=info.size,
            key=self._compression,
            label=first_folder(name),
            problem=problem,
            named=is_repeated_image(name, image_id),
        )
        yield Member(name, record, text)


def _problem(info: tarfile.TarInfo) -> str | None:
    """Say why a member that should be an image can't be read."""
    if len(info.name) > _MAX_NAME:
        return f"a name of {len(info.name):,} letters"
    if (info.issym() or info.islnk()) and has_image_name(info.name):
        return f"a link to {info.linkname!r}; links in tar archives are not followed"
    if info.issparse():
        return "a sparse file; those are not read from tar archives"
    return None


def _class_text(stream: IO[bytes], info: tarfile.TarInfo) -> str | None:
    """Read the class that a ``.cls`` member holds; the stream stands at its data."""
    if not (info.isreg() and is_class_name(info.name) and 0 < info.size <= _MAX_CLASS_BYTES):
        return None
    stream.seek(info.offset_data)
    return stream.read(info.size).decode("utf-8", "replace").strip() or None
