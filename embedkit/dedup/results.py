"""The result of a near-duplicate search: pairs, groups, and facts about the images in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.thumbnail import thumbnails_of
from embedkit.dedup.groups.grouping import group_pairs, nodes_of
from embedkit.dedup.leakage import Leaks, count_leaks
from embedkit.store import EmbeddingStore
from embedkit.store.format import possible_folders
from embedkit.store.row_keys import content_keys
from embedkit.tabular import Tabular, html_table
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.dedup.groups.grouping import Groups, Linkage
    from embedkit.dedup.pairs import Pairs

__all__ = ["AGAINST", "Duplicates", "FoundImages", "StoreName", "collect", "rethreshold"]

_IDS_AT_ONCE = 65536
AGAINST = b"against"
"""The purpose of the keys of the images that a store is compared with."""
_SHOWN = 5  # groups, and images of each, in a notebook


@dataclass(frozen=True, slots=True)
class StoreName:
    """Which store was searched.

    Attributes:
        path: As it was given.
        digest: SHA-256 (hex) of its seal or manifest, which stand for all that is in it.
        rows: Its rows.
        roots: ``StoreMeta.roots``: the folders that relative ids start from.
    """

    path: str
    digest: str
    rows: int
    roots: tuple[str, ...] = ()

    def folders(
        self, root: str | os.PathLike[str] | None = None, near: Iterable[Path] = ()
    ) -> tuple[Path, ...]:
        """Where relative ids may start from, the likeliest first; see ``possible_folders``."""
        return possible_folders(self.roots, root, near)


@dataclass(frozen=True, slots=True)
class FoundImages:
    """Facts about the images that are in pairs, one row per image.

    Attributes:
        ids: M ids.
        labels: M labels, empty where an image has none.
        formats: M formats, as found in the content.
        width: ``(M,)`` int32, pixels.
        height: ``(M,)`` int32, pixels.
        nbytes: ``(M,)`` int64.
        content_hash: ``(M, 32)`` uint8, SHA-256.
        frames: ``(M,)`` int32, pages or frames of the file, of which only the first was compared;
            -1 where the store doesn't say.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    formats: tuple[str, ...]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    nbytes: NDArray[np.int64]
    content_hash: NDArray[np.uint8]
    frames: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> FoundImages:
        """Some of the images."""
        chosen = rows.tolist()
        return FoundImages(
            tuple(self.ids[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            tuple(self.formats[i] for i in chosen),
            self.width[rows],
            self.height[rows],
            self.nbytes[rows],
            self.content_hash[rows],
            self.frames[rows],
        )


@dataclass(frozen=True, slots=True, repr=False)
class Duplicates(Tabular):
    """The near-duplicates (copies) of a store, or between two.

    Attributes:
        pairs: The pairs.
        groups: The groups; its nodes are the images.
        images: What is known of each node of ``groups``.
        linkage: How the pairs were grouped.
        store: What was searched.
        against: What it was compared with; None within one store.
        leaks: For two stores: how much of each is in the other.
        settings: Of the search, as JSON holds them.
        searched: Keys of the images that were searched, of both stores, ascending uint64; see
            `content_keys`. None in a folder of an older version.
        folder: The folder that it was read from, absolute; None if it was searched for just now.
    """

    pairs: Pairs
    groups: Groups
    images: FoundImages
    linkage: Linkage
    store: StoreName
    against: StoreName | None
    leaks: Leaks | None
    settings: Mapping[str, Any]
    searched: NDArray[np.uint64] | None = None
    folder: Path | None = None

    def _summary(self) -> str:
        where = f" and {self.against.path!r}" if self.against else ""
        return (
            f"{len(self.groups):,} groups, {self.surplus():,} images beyond one of each, in "
            f"{self.store.path!r}{where}"
        )

    def _columns(self) -> dict[str, Any]:
        order = self._in_groups()
        names = [*map(self.images.ids.__getitem__, order.tolist())]
        return {
            "group": self.groups.group[order],
            "id": names,
            "score": self.groups.score[order],
            "width": self.images.width[order],
            "height": self.images.height[order],
            "nbytes": self.images.nbytes[order],
        }

    def _in_groups(self) -> NDArray[np.int64]:
        """The images that are in groups, group by group."""
        group = self.groups.group
        order = np.argsort(group, kind="stable")
        return order[group[order] >= 0]

    def _repr_html_(self) -> str:
        columns = self._columns()
        groups: dict[int, list[str]] = {}
        for number, name in zip(columns["group"].tolist(), columns["id"], strict=True):
            if number < _SHOWN:
                groups.setdefault(number, []).append(name)
        width = min(max(map(len, groups.values()), default=0), _SHOWN)
        shown = {number: names[:width] for number, names in groups.items()}
        rows = [(number, *names, *[""] * (width - len(names))) for number, names in shown.items()]
        roots = dict.fromkeys((*self.store.folders(), *(self.against or self.store).folders()))
        names = {name for names in shown.values() for name in names}
        hashes = self._hashes_of(names)
        thumbnails = thumbnails_of(hashes, tuple(roots), hashes=hashes)
        header = ["group", *map(str, range(1, width + 1))]
        left_out = max(len(self.groups) - _SHOWN, 0)
        return html_table(repr(self), header, rows, thumbnails, left_out=left_out)

    def _hashes_of(self, names: Collection[str]) -> dict[str, bytes]:
        """SHA-256 by id, without ids that the two stores have for different images."""
        rows = zip(self.images.ids, self.images.content_hash, strict=True)
        pairs = {(name, row.tobytes()) for name, row in rows if name in names}
        counts = Counter(name for name, _ in pairs)
        return {name: content_hash for name, content_hash in pairs if counts[name] == 1}

    def is_of_store(self) -> NDArray[np.bool_]:
        """``(M,)`` which images are the store's own, not of ``against``."""
        return self.groups.node < self.store.rows

    def row(self) -> NDArray[np.int64]:
        """``(M,)`` the row of each image in its own store."""
        return np.where(self.is_of_store(), self.groups.node, self.groups.node - self.store.rows)

    def of_first_pages(self) -> NDArray[np.bool_]:
        """``(P,)`` which pairs have a file of several pages or frames, and differ in bytes.

        Only the first page was compared, so that they may be different documents.
        """
        has_more = self.images.frames > 1
        return has_more[nodes_of(self.pairs)[1]].any(axis=1) & ~self.pairs.exact

    def surplus(self) -> int:
        """How many images there are beyond one of each group."""
        return int((self.groups.group >= 0).sum()) - len(self.groups)


def collect(
    pairs: Pairs,
    store: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    linkage: Linkage = "single",
    settings: Mapping[str, Any] | None = None,
) -> Duplicates:
    """Groups pairs, and reads from the stores what deciding about them needs.

    Args:
        pairs: Of ``store``, or between ``store`` and ``against``.
        store: A store file or folder.
        against: The other one, if the pairs are between two.
        linkage: How to group; see ``group_pairs``.
        settings: Of the search, to be kept with what it found.

    Raises:
        StoreError: A store can't be read.
        ValueError: The pairs aren't those stores', or there is no such linkage.
    """
    with Stage("grouping"):
        groups = group_pairs(pairs, linkage)
    with EmbeddingStore.open(store) as opened:
        name, keys = _name(opened), [content_keys(opened)]
        mine = groups.node[groups.node < len(opened)]
        images, totals = _read_images(opened, mine)
    other, parts, all_totals = None, [images], [totals]
    if against is not None:
        with EmbeddingStore.open(against) as opened:
            other = _name(opened)
            keys.append(content_keys(opened, AGAINST))
            images, totals = _read_images(opened, groups.node[len(mine) :] - name.rows)
        parts.append(images)
        all_totals.append(totals)
    if (name.rows, other and other.rows) != (pairs.info.rows, pairs.info.against_rows):
        raise ValueError(f"the pairs aren't those of {store}: other numbers of rows")
    found = Duplicates(
        pairs, groups, _join(parts), linkage, name, other, None, dict(settings or {}),
        np.unique(np.concatenate(keys)),
    )  # fmt: skip
    return found if other is None else replace(found, leaks=_leaks(found, all_totals))


@plain_numbers
def rethreshold(found: Duplicates, threshold: float, linkage: Linkage | None = None) -> Duplicates:
    """Tightens the threshold, and groups anew; nothing is embedded or searched again.

    Args:
        found: What was found.
        threshold: The least score; not below the one of ``found``.
        linkage: How to group; None as before.

    Raises:
        ValueError: The threshold is lower: pairs below the old one were never kept.
    """
    if not found.pairs.info.threshold <= threshold <= 1:
        raise ValueError(
            f"threshold must be from {found.pairs.info.threshold} (what was searched with) to 1, "
            f"not {threshold}; search again for less"
        )
    pairs = found.pairs.where(found.pairs.score >= threshold, threshold)
    groups = group_pairs(pairs, linkage or found.linkage)
    kept = np.searchsorted(found.groups.node, groups.node)
    tightened = replace(
        found,
        pairs=pairs,
        groups=groups,
        images=found.images.take(kept),
        linkage=linkage or found.linkage,
    )
    if found.leaks is None:
        return tightened
    sides = (found.leaks.store, found.leaks.against)
    totals = [{c.label: c.images for c in side.classes} for side in sides]
    return replace(tightened, leaks=_leaks(tightened, totals))


def _name(store: EmbeddingStore) -> StoreName:
    return StoreName(store.address, store.fingerprint, len(store), tuple(store.meta.roots))


def _read_images(
    store: EmbeddingStore, rows: NDArray[np.int64]
) -> tuple[FoundImages, Mapping[str, int]]:
    """Facts about some rows, ascending, and the number of images of each label."""
    ids: list[str] = []
    for start in range(0, len(store), _IDS_AT_ONCE):
        part = rows[slice(*np.searchsorted(rows, [start, start + _IDS_AT_ONCE]))]
        if len(part):
            names = store.ids[start : start + _IDS_AT_ONCE]
            ids += [names[row] for row in (part - start).tolist()]
    labels = store.labels or [""] * len(store)
    formats = store.images("format")[rows]
    width, height, nbytes, content_hash = (
        store.images(name)[rows] for name in ("width", "height", "nbytes", "content_hash")
    )
    has_frames = "frames" in store.columns
    frames = store.images("frames")[rows] if has_frames else np.full(len(rows), -1, np.int32)
    images = FoundImages(
        tuple(ids),
        tuple(labels[row] for row in rows.tolist()),
        tuple(map(_text, formats.tolist())),
        width,
        height,
        nbytes,
        content_hash,
        frames,
    )
    return images, Counter(labels)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _join(parts: Sequence[FoundImages]) -> FoundImages:
    if len(parts) == 1:
        return parts[0]
    a, b = parts
    return FoundImages(
        a.ids + b.ids,
        a.labels + b.labels,
        a.formats + b.formats,
        np.concatenate([a.width, b.width]),
        np.concatenate([a.height, b.height]),
        np.concatenate([a.nbytes, b.nbytes]),
        np.concatenate([a.content_hash, b.content_hash]),
        np.concatenate([a.frames, b.frames]),
    )


def _leaks(found: Duplicates, totals: Sequence[Mapping[str, int]]) -> Leaks:
    assert found.against is not None
    mine, labels = found.is_of_store(), found.images.labels
    sides = [[labels[i] for i in np.flatnonzero(side).tolist()] for side in (mine, ~mine)]
    ends = nodes_of(found.pairs)[1].tolist()
    other = sum(labels[i] != labels[j] for i, j in ends if labels[i] and labels[j])
    return Leaks(
        count_leaks(sides[0], found.store.rows, totals[0]),
        count_leaks(sides[1], found.against.rows, totals[1]),
        other,
    )
