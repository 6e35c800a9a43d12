"""Search results as an HTML page: each query with its neighbours, as thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.extraction.source_images import policy_of
from embedkit.report import Gallery, Picture, SearchExample, write_gallery
from embedkit.report.annotated import annotated
from embedkit.report.thumbnails import thumbnails as make_thumbnails
from embedkit.report.thumbnails import thumbnails_if_found
from embedkit.retrieval.metadata import StoreMetadata

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.index import Index
    from embedkit.types import ImageFailure, SearchResult

__all__ = ["SearchPage"]

_MAX_PICTURES = 12_000
_MAX_FAILURES = 1_000
_FEW, _SIDE, _SMALL_SIDE = 2_000, 160, 96  # pictures; pixels
_SCORES = {"cosine": "cosine", "ip": "inner product", "l2": "negative squared L2 distance"}


class SearchPage:
    """Gathers results and writes them as one HTML file that needs nothing else.

    It shows at most 12,000 pictures (1,000 queries with ten neighbours are 11,000) and says how
    many queries it leaves out.

    Args:
        index: The index.
        images: The sources that its images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.
    """

    def __init__(self, index: Index, images: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._index, self._images = index, images
        self._shown: list[tuple[str, list[tuple[str, float]]]] = []
        self._failures: list[ImageFailure] = []
        self._pictures = self._left_out = self._failed = 0

    def add(self, result: SearchResult) -> None:
        """Adds what was found for some queries."""
        found = result.neighbors
        for query, ids, scores in zip(result.queries, found.ids, found.scores, strict=True):
            room = _MAX_PICTURES - self._pictures
            if self._shown and room < 1 + len(ids):
                self._pictures, self._left_out = _MAX_PICTURES, self._left_out + 1
                continue
            near = list(zip(ids, scores.tolist(), strict=False))[: max(room - 1, 0)]
            self._shown.append((query, near))
            self._pictures += 1 + len(near)
        self._failed += len(result.failures)
        self._failures += result.failures[: _MAX_FAILURES - len(self._failures)]

    def write(self, path: Path, facts: Sequence[tuple[str, str]] = ()) -> Path:
        """Writes the page; thumbnails come from the images' own files, where they still are.

        Args:
            path: The file; an existing one is replaced atomically.
            facts: Settings of the search, name to value, shown at the top.

        Raises:
            SourceError: Not one of the images of the index is found.
            EmbedkitError: The file can't be written.
        """
        names = {name for query, near in self._shown for name in (query, *(n for n, _ in near))}
        found = self._thumbnails(sorted(names), path)
        pictures = self._annotated({name: found.get(name) or Picture(name) for name in names})
        searches = [
            SearchExample(pictures[query], [(pictures[name], score) for name, score in near])
            for query, near in self._shown
        ]
        gallery = Gallery(
            title=f"Search in {self._index.path.name}",
            facts=[*self._facts(), *facts],
            searches=searches,
            searches_left_out=self._left_out,
            failures=self._failures,
            failures_note=self._failures_note(),
            summary=self._summary(),
            empty=None if searches else ("No query to show", self._summary()),
        )
        return write_gallery(path, gallery)

    def _thumbnails(self, names: Sequence[str], page: Path) -> dict[str, Picture]:
        policy, side = policy_of(self._index.meta), self._side()
        others = self._index.unknown(names)  # queries from elsewhere
        mine = [name for name in names if name not in others]
        roots = self._index.meta.folders()
        made = make_thumbnails(mine, policy, side, images=self._images, roots=roots, page=page)
        found = thumbnails_if_found(sorted(others), policy, side, roots=roots[::-1], page=page)
        return made | found

    def _annotated(self, pictures: dict[str, Picture]) -> dict[str, Picture]:
        """The pictures with what the stores say of their images, if the stores are there."""
        metadata = StoreMetadata.of_index(self._index)
        if metadata is None:
            return pictures
        with metadata:
            if not any(store.annotations for store in metadata.stores):
                return pictures
            names = [*pictures]
            rows, start = metadata.rows_of(names), 0
            for store in metadata.stores:
                pairs = zip(names, (rows - start).tolist(), strict=True)
                mine = {name: row for name, row in pairs if 0 <= row < len(store)}
                pictures = annotated(pictures, store, mine)
                start += len(store)
            return pictures

    def _summary(self) -> str:
        queries = len(self._shown) + self._left_out
        text = f"{queries:,} queries" if queries != 1 else "1 query"
        return f"{text} in {len(self._index):,} images, scored by {_SCORES[self._index.metric]}"

    def _side(self) -> int:
        return _SIDE if self._pictures <= _FEW else _SMALL_SIDE

    def _facts(self) -> list[tuple[str, str]]:
        index = self._index
        return [
            ("Index", f"{index.path}, {len(index):,} images"),
            ("Backbone", index.meta.backbone),
            ("Score", _SCORES[index.metric]),
            ("Queries", f"{len(self._shown) + self._left_out:,}"),
        ]

    def _failures_note(self) -> str:
        if self._failed > len(self._failures):
            return f"The first {len(self._failures):,} of {self._failed:,} queries that failed."
        return "These queries could not be searched with; the others were not held up."
