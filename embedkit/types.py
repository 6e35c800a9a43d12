"""Plain data types that the stages of the pipeline exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EmbeddingBatch",
    "Head",
    "ImageFacts",
    "ImageFailure",
    "ImageRecord",
    "Neighbors",
    "SearchResult",
]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a source: its id, and where its encoded bytes lie.

    Attributes:
        id: The true source path (``photos/cat.jpg``, a URL) or ``archive#member``; bytes that are
            not UTF-8 are kept as surrogate escapes (``os.fsencode`` gives them back).
        path: The file or URL that holds the bytes.
        kind: How ``path`` holds them: as a whole file, or as a member of an archive or table.
        offset: For tar: where the bytes begin in the (decompressed) archive.
        nbytes: How many bytes, where the listing knows it.
        key: For zip, Parquet and datasets: what the reader needs to find the member.
        label: The label that the source gives, if any.
        problem: Why the image can't be read, where the listing already knows.
        named: Counts as an image although its id doesn't end like an image's name: the user named
            this very file, or it is ``a.jpg@2``. It fails if its content is no image, where another
            file would be skipped.
    """

    id: str
    path: str
    kind: Literal["file", "tar", "zip", "parquet", "dataset"] = "file"
    offset: int | None = None
    nbytes: int | None = None
    key: str | None = None
    label: str | None = None
    problem: str | None = None
    named: bool = False


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The stored facts of an image besides its embedding.

    Attributes:
        width: Pixels, as displayed (after EXIF orientation).
        height: Pixels, as displayed.
        nbytes: Size of the encoded image, bytes.
        format: ``JPEG``, ``PNG``, … as found in the content, not in the name.
        content_hash: SHA-256 of the encoded bytes, 32 bytes.
        phash: 64-bit DCT perceptual hash.
        mtime: When the file (or the archive that holds it) was changed last, nanoseconds since
            1970; -1 where it isn't known.
    """

    width: int
    height: int
    nbytes: int
    format: str
    content_hash: bytes
    phash: int
    mtime: int = -1


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """An image that could not be embedded.

    Attributes:
        id: The image's id.
        reason: One line.
        nbytes: Size of the encoded image, bytes; -1 where it is not known.
    """

    id: str
    reason: str
    nbytes: int = -1


@dataclass(frozen=True, slots=True)
class Head:
    """The classifier of a backbone.

    ``logits = embeddings @ weight.T + bias`` for avg-pooled, unnormalised embeddings.

    Attributes:
        weight: ``(C, D)`` float32.
        bias: ``(C,)`` float32.
        class_names: C names.
        class_ids: C identifiers (ImageNet synsets), or none.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """Consecutive rows of a store.

    Attributes:
        start: Row number of the first row.
        ids: N ids.
        embeddings: ``(N, D)`` float16 or float32, as stored.
    """

    start: int
    ids: tuple[str, ...]
    embeddings: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The neighbours that a search found, best first. Higher scores are closer.

    Attributes:
        ids: Q tuples of at most k ids.
        scores: ``(Q, k)`` float32; NaN where fewer than k were found.
    """

    ids: tuple[tuple[str, ...], ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The results of a search, per query.

    Attributes:
        queries: Q ids of the queries, in the order in which they were given.
        neighbors: Neighbours per query, best first.
        failures: Queries that could not be searched with; they are not among ``queries``.
    """

    queries: tuple[str, ...]
    neighbors: Neighbors
    failures: tuple[ImageFailure, ...] = ()
