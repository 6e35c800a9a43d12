"""Plain data types that the stages of the pipeline exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any, Literal

from embedkit.tabular import Tabular, html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "MISSING_INTEGER",
    "AnnotationKind",
    "EmbeddingBatch",
    "Head",
    "ImageFacts",
    "ImageFailure",
    "ImageRecord",
    "Neighbors",
    "SearchResult",
    "neighbor_columns",
]

AnnotationKind = Literal["text", "integer", "float", "boolean"]
"""What a column holds that a user put into a store."""

MISSING_INTEGER = -(2**63)
"""Stands in an annotation of integers for an image without a value."""


_SHOWN = 5  # queries, and neighbours of each, in a notebook


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
        data: For ``memory``: the encoded image.
        etag: For a URL: the version of its content, as the storage's listing tells it.
    """

    id: str
    path: str
    kind: Literal["file", "tar", "zip", "parquet", "dataset", "memory"] = "file"
    offset: int | None = None
    nbytes: int | None = None
    key: str | None = None
    label: str | None = None
    problem: str | None = None
    named: bool = False
    data: bytes | None = None
    etag: str | None = None


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
        frames: How many frames or pages the file has; the image is the first.
        etag: Of an image behind a URL: the version that was read; empty where it isn't known.
        luminance: Mean luminance, 0 to 255; this and the following as ``decode/quality.py`` defines
            them, NaN where they weren't measured.
        luminance_std: Standard deviation of luminance.
        clipped_dark: Share of nearly black pixels.
        clipped_bright: Share of nearly white pixels.
        entropy: Entropy of luminance, bits.
        sharpness: Variance of the Laplacian.
        colorfulness: 0 is gray.
        gray: Share of gray pixels.
        alpha: 1 if the file has transparency, 0 if not, -1 where it isn't known.
        bits: Bits per channel of the file; -1 where it isn't known.
        captured: When the picture was taken by the camera's clock, seconds since 1970; -1 where it
            isn't known.
        camera: Maker and model; empty where they aren't known.
        thumbnail: The whole image in gray, 32 x 32 bytes row by row; empty where it isn't known.
    """

    width: int
    height: int
    nbytes: int
    format: str
    content_hash: bytes
    phash: int
    mtime: int = -1
    frames: int = 1
    etag: str = ""
    luminance: float = nan
    luminance_std: float = nan
    clipped_dark: float = nan
    clipped_bright: float = nan
    entropy: float = nan
    sharpness: float = nan
    colorfulness: float = nan
    gray: float = nan
    alpha: int = -1
    bits: int = -1
    captured: int = -1
    camera: str = ""
    thumbnail: bytes = b""


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


@dataclass(frozen=True, slots=True, repr=False)
class Neighbors(Tabular):
    """The neighbours that a search found, best first. Higher scores are closer.

    Attributes:
        ids: Q tuples of at most k ids.
        scores: ``(Q, k)`` float32; NaN where fewer than k were found.
    """

    ids: tuple[tuple[str, ...], ...]
    scores: NDArray[np.float32]

    def _summary(self) -> str:
        return f"{sum(map(len, self.ids)):,} of {len(self.ids):,} queries"

    def _columns(self) -> dict[str, Any]:
        return neighbor_columns("query", range(len(self.ids)), self)


def neighbor_columns(name: str, queries: Iterable[Any], found: Neighbors) -> dict[str, Any]:
    """The table of some neighbours, one row per neighbour.

    Args:
        name: The name of the first column.
        queries: Its values, one per query.
        found: The neighbours.
    """
    counts = [len(ids) for ids in found.ids]
    return {
        name: [query for query, count in zip(queries, counts, strict=True) for _ in range(count)],
        "rank": [rank for count in counts for rank in range(1, count + 1)],
        "neighbor_id": [neighbor for ids in found.ids for neighbor in ids],
        "score": [
            score
            for row, count in zip(found.scores.tolist(), counts, strict=True)
            for score in row[:count]
        ],
    }


@dataclass(frozen=True, slots=True, repr=False)
class SearchResult(Tabular):
    """The results of a search, per query.

    A notebook shows the first queries with thumbnails. ``to_pandas`` and ``to_polars`` give one row
    per neighbour: ``query_id``, ``rank`` (from 1), ``neighbor_id``, ``score``.

    Attributes:
        queries: Q ids of the queries, in the order in which they were given.
        neighbors: Neighbours per query, best first.
        failures: Queries that could not be searched with; they are not among ``queries``.
        thumbnails: Makes thumbnails for a notebook: ids to ``data:`` URIs by id.
    """

    queries: tuple[str, ...]
    neighbors: Neighbors
    failures: tuple[ImageFailure, ...] = ()
    thumbnails: Callable[[Sequence[str]], Mapping[str, str]] | None = field(
        default=None, compare=False
    )

    def _summary(self) -> str:
        failed = f", {len(self.failures):,} failed" if self.failures else ""
        count = sum(map(len, self.neighbors.ids))
        return f"{count:,} neighbours of {len(self.queries):,} queries{failed}"

    def _columns(self) -> dict[str, Any]:
        return neighbor_columns("query_id", self.queries, self.neighbors)

    def _repr_html_(self) -> str:
        queries, found = self.queries[:_SHOWN], self.neighbors
        near = [ids[:_SHOWN] for ids in found.ids[:_SHOWN]]
        width = max(map(len, near), default=0)
        rows = [
            (query, *zip(ids, scores, strict=False), *[""] * (width - len(ids)))
            for query, ids, scores in zip(
                queries, near, found.scores[:_SHOWN].tolist(), strict=True
            )
        ]
        names = {*queries, *(name for ids in near for name in ids)}
        made = self.thumbnails(sorted(names)) if self.thumbnails else {}
        header = ["query", *map(str, range(1, width + 1))]
        left_out = max(len(self.queries) - _SHOWN, 0)
        return html_table(repr(self), header, rows, made, left_out=left_out)
