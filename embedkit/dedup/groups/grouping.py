"""From pairs to groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedkit.dedup.groups.linkage import agglomerate, cover_by_stars
from embedkit.dedup.pairs import SAME_SCENE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.pairs import Pairs

__all__ = [
    "LINKAGES",
    "Groups",
    "Linkage",
    "copy_groups",
    "describe_groups",
    "distinct_images",
    "group_pairs",
    "group_rows",
    "name_groups",
    "nodes_of",
]

Linkage = Literal["single", "average", "complete", "star", "pairs"]
LINKAGES: tuple[Linkage, ...] = ("single", "average", "complete", "star", "pairs")

_SAME = 1 - 2.0**-20  # a cosine of equal embeddings, to the rounding of float32


@dataclass(frozen=True, slots=True)
class Groups:
    """Images that belong together.

    An image is known by its node: its row, or for the other store of ``against`` the rows of the
    first store plus its row.

    Attributes:
        node: ``(M,)`` int64, every image that is in a pair, ascending.
        group: ``(M,)`` int64, the group of each, -1 for none. Groups count from 0 in the order of
            their first nodes, and have two images or more.
        score: ``(M,)`` float32, the highest score of a pair with an image of the same group; NaN
            where there is none.
        nearest: ``(M,)`` int64, the node of that image; -1 where there is none.
        weakest: ``(G,)`` float32, the least score of a pair inside each group.
        found: ``(G,)`` int64, pairs of different images inside each group.
        possible: ``(G,)`` int64, how many there would be if all had been found: far more than
            ``found`` in a chain. Images of equal bytes or embeddings count as one.
    """

    node: NDArray[np.int64]
    group: NDArray[np.int64]
    score: NDArray[np.float32]
    nearest: NDArray[np.int64]
    weakest: NDArray[np.float32]
    found: NDArray[np.int64]
    possible: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.weakest)


def group_pairs(pairs: Pairs, linkage: Linkage = "single") -> Groups:
    """Groups the images of pairs.

    ``single``: whatever is connected, through others too (``weakest``, ``found`` and ``possible``
    show chains). ``average``, ``complete``: clusters merge while the average, or the least, of
    the scores between them reaches the threshold; a pair that wasn't found counts as 0. ``star``:
    each image of a group is in a pair with the group's centre. ``pairs``: no groups.

    Images of equal bytes or equal embeddings are one image to all of these, however they were
    paired: n equal images may come as n - 1 pairs.

    Args:
        pairs: What was found.
        linkage: How to group.

    Raises:
        ValueError: There is no such linkage, or ``average`` or ``complete`` is requested for pairs
            between two stores, whose own images weren't compared with each other.
    """
    if linkage not in LINKAGES:
        raise ValueError(f"no linkage {linkage!r}: {', '.join(LINKAGES)}")
    if pairs.info.against_rows is not None and linkage in {"average", "complete"}:
        raise ValueError(f"linkage {linkage} needs the pairs within a store: single, star or pairs")
    node, ends = nodes_of(pairs)
    if linkage == "pairs":
        return describe_groups(pairs, np.full(len(node), -1, np.int64))
    alike = _alike(pairs, ends, len(node))
    links, scores = _link_distinct(ends, pairs.score, alike)
    labels = _label(links, scores, int(alike.max(initial=-1)) + 1, linkage, pairs)
    return describe_groups(pairs, _number(labels[alike]))


def nodes_of(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(M,)`` the nodes of all images in pairs, ascending; ``(P, 2)`` which of them each pair is.

    See ``Groups`` for what a node is.
    """
    offset = 0 if pairs.info.against_rows is None else pairs.info.rows
    both = np.stack([pairs.first, pairs.second + offset], axis=1)
    node, ends = np.unique(both, return_inverse=True)
    return node, ends.reshape(-1, 2)


def distinct_images(pairs: Pairs) -> NDArray[np.int64]:
    """``(M,)`` a number for each image in pairs, the same for those of equal bytes or embedding."""
    node, ends = nodes_of(pairs)
    return _alike(pairs, ends, len(node))


def copy_groups(pairs: Pairs) -> NDArray[np.int64]:
    """``(M,)`` a number for each image in pairs, the same for those that pairs of copies connect.

    Pairs of two photographs of one scene connect none.
    """
    node, ends = nodes_of(pairs)
    return _components(ends[pairs.verified != SAME_SCENE], len(node))


def _alike(pairs: Pairs, ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return _components(ends[pairs.exact | (pairs.cosine >= _SAME)], count)


def _components(ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``(count,)`` the connected component of each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    weights = np.ones(len(ends), bool)
    graph = coo_array((weights, (ends[:, 0], ends[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _link_distinct(
    ends: NDArray[np.int64], scores: NDArray[np.float32], alike: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """``(L, 2)`` pairs of different images, each once, and the best score of each."""
    links = np.sort(alike[ends], axis=1)
    different = links[:, 0] != links[:, 1]
    links, scores = links[different], scores[different]
    keys = links[:, 0] * (int(alike.max(initial=0)) + 1) + links[:, 1]
    order = np.argsort(keys, kind="stable")  # nearly in order already, which this sort is quick on
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    best = np.maximum.reduceat(scores[order], starts) if len(starts) else scores
    return links[order[starts]], best


def _label(
    links: NDArray[np.int64],
    scores: NDArray[np.float32],
    count: int,
    linkage: Linkage,
    pairs: Pairs,
) -> NDArray[np.int64]:
    """``(count,)`` a label for each different image, the same inside a group."""
    if linkage == "star":
        return cover_by_stars(links, scores, count)
    labels = _components(links, count)
    if linkage == "single":
        return labels
    sizes, edges = np.bincount(labels, minlength=1), np.bincount(labels[links[:, 0]], minlength=1)
    edges = np.pad(edges, (0, len(sizes) - len(edges)))
    whole = edges == sizes * (sizes - 1) // 2  # every linkage leaves such a component as it is
    labels = labels + count  # apart from the numbers that agglomerate gives
    order = np.argsort(labels[links[:, 0]], kind="stable")
    links, scores = links[order], scores[order]
    starts = np.searchsorted(labels[links[:, 0]], np.arange(len(sizes) + 1) + count)
    for component in np.flatnonzero(~whole).tolist():
        part = slice(starts[component], starts[component + 1])
        members, local = np.unique(links[part], return_inverse=True)
        found = agglomerate(
            local.reshape(-1, 2),
            scores[part],
            len(members),
            float(np.float32(pairs.info.threshold)),  # as the scores are rounded
            complete=linkage == "complete",
        )
        labels[members] = members[found]
    return labels


def _number(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers groups of two and more from 0, in the order of their first members."""
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    numbers = np.full(len(first), -1, np.int64)
    shared = np.flatnonzero(sizes > 1)
    numbers[shared[np.argsort(first[shared])]] = np.arange(len(shared))
    return numbers[inverse.reshape(-1)]


def describe_groups(pairs: Pairs, group: NDArray[np.int64]) -> Groups:
    """Describes known groups: their scores and the pairs inside them.

    Args:
        pairs: What was found.
        group: ``(M,)`` the group of each image in pairs, as ``Groups`` has it.
    """
    node, ends = nodes_of(pairs)
    alike, scores = _alike(pairs, ends, len(node)), pairs.score
    inner = (group[ends[:, 0]] == group[ends[:, 1]]) & (group[ends[:, 0]] >= 0)
    ends, scores = ends[inner], scores[inner]
    count = int(group.max(initial=-1)) + 1
    weakest = np.full(count, np.inf, np.float32)
    np.minimum.at(weakest, group[ends[:, 0]], scores)
    links, _ = _link_distinct(ends, scores, alike)
    at = np.zeros(int(alike.max(initial=-1)) + 1, np.int64)
    at[alike] = group
    different = np.bincount(at[at >= 0], minlength=count)
    best, nearest = _nearest(len(node), ends, scores)
    return Groups(
        node,
        group,
        best,
        np.where(nearest >= 0, node[nearest], -1) if len(node) else nearest,
        weakest,
        np.bincount(at[links[:, 0]], minlength=count),
        different * (different - 1) // 2,
    )


def _nearest(
    count: int, ends: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best score of each and whom with, at a tie the lowest; NaN and -1 where there is none."""
    mine = np.concatenate([ends[:, 0], ends[:, 1]])
    other = np.concatenate([ends[:, 1], ends[:, 0]])
    both = np.concatenate([scores, scores])
    best = np.full(count, -1, np.float32)
    np.maximum.at(best, mine, both)
    is_best = both == best[mine]
    nearest = np.full(count, count, np.int64)
    np.minimum.at(nearest, mine[is_best], other[is_best])
    alone = nearest == count
    return np.where(alone, np.float32(np.nan), best), np.where(alone, -1, nearest)


def group_rows(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The connected components of a graph.

    Args:
        pairs: ``(P, 2)`` row numbers.

    Returns:
        Rows that belong together, ascending; the groups by their first row.
    """
    rows, ends = np.unique(pairs, return_inverse=True)
    if len(rows) == 0:
        return []
    labels = _components(ends.reshape(-1, 2), len(rows))
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted(np.split(rows[order], cuts), key=lambda group: int(group[0]))


def name_groups(
    groups: Sequence[NDArray[np.int64]], ids: Iterable[str]
) -> tuple[tuple[str, ...], ...]:
    """The ids of each group, sorted.

    Args:
        groups: Row numbers.
        ids: All ids, in the rows' order.
    """
    members = {int(row) for group in groups for row in group}
    # One pass: an id alone costs as much to read from a store as thousands in a row.
    names = {row: name for row, name in enumerate(ids) if row in members}
    return tuple(tuple(sorted(names[int(row)] for row in group)) for group in groups)
