"""An updated store is cut into shards along those of before, and removed rows keep their places."""

from itertools import pairwise

import numpy as np
import pytest

from embedkit.store.arrangement import FAILED, SKIPPED, Arrangement, Piece, cut_into_shards
from embedkit.store.format import StoreCounts


def images(shards, rows=None):
    """Images of these shards; -1 is a new one, "s" a skipped file."""
    skipped = np.array([one == "s" for one in shards])
    homes = np.array([-1 if one == "s" else one for one in shards], np.int32)
    rows = np.where(skipped, SKIPPED, np.arange(len(shards))) if rows is None else np.array(rows)
    none = np.full(len(shards), -1)
    return Arrangement(rows, homes, none, none.astype(np.int32), none >= 0, [], [])


def cut(shards, before, shard_rows=4):
    counts = [StoreCounts(*one) if isinstance(one, tuple) else StoreCounts(one, 0, 0)
              for one in before]  # fmt: skip
    pieces = cut_into_shards(images(shards), counts, shard_rows)
    assert [piece.start for piece in pieces][:1] in ([0], [])
    assert all(one.stop == other.start for one, other in pairwise(pieces))
    assert pieces[-1].stop == len(shards)
    return [(piece.size, piece.shard) for piece in pieces]


@pytest.mark.parametrize(
    ("shards", "before", "pieces"),
    [
        # as before
        ([0, 0, 0, 0, 1, 1], [4, 2], [(4, 0), (2, 1)]),
        # new ones after the last fill it up, or become shards of their own
        ([0, 0, -1, -1], [2], [(4, 0)]),
        ([0, 0, 0, 0, -1, -1], [4], [(4, 0), (2, None)]),
        ([0, 0, 0, 0, *[-1] * 6], [4], [(4, 0), (4, None), (2, None)]),
        # between two shards, and before the first
        ([0, 0, 0, 0, -1, 1, 1, 1, 1], [4, 4], [(4, 0), (1, None), (4, 1)]),
        ([0, 0, 0, -1, 1, 1, 1, 1], [3, 4], [(4, 0), (4, 1)]),
        ([-1, 0, 0, 0, 0], [4], [(1, None), (4, 0)]),
        ([-1, 0, 0], [2], [(3, 0)]),
        # inside one: it grows, up to twice its size
        ([0, 0, -1, 0, 0, 1, 1], [4, 2], [(5, 0), (2, 1)]),
        ([0] * 9, [9], [(9, 0)]),  # as large as before
        ([0, 0, *[-1] * 6, 0, 1, 1], [3, 2], [(3, None)] * 3 + [(2, 1)]),
        # gone: rows, and a whole shard
        ([0, 0, 2], [4, 4, 1], [(2, 0), (1, 2)]),
        # another order: all anew
        ([1, 1, 0, 0, 0, 0], [4, 2], [(4, None), (2, None)]),
        ([-1] * 5, [4], [(4, None), (1, None)]),
        # skipped files at the ends stay where they were
        ([0, 0, "s", "s", 1, 1], [(2, 0, 1), (2, 0, 1)], [(3, 0), (3, 1)]),
        ([0, 0, "s", "s", 1, 1], [(2, 0, 2), (2, 0, 0)], [(4, 0), (2, 1)]),
        (["s", 0, 0, "s"], [(2, 0, 2)], [(4, 0)]),
        ([0, 0, 0, "s", -1, "s", 1, 1], [(3, 0, 1), (2, 0, 1)], [(4, 0), (1, None), (3, 1)]),
        (["s", "s", 0], [(1, 0, 1)], [(3, 0)]),
    ],
)  # fmt: skip
def test_cut_along_the_shards_of_before(shards, before, pieces):
    assert cut(shards, before) == pieces


def test_every_image_is_in_one_shard_whatever_changes():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(1, 6, rng.integers(1, 6)).tolist()
        homes = [number for number, size in enumerate(sizes) for _ in range(size)]
        kept = [one for one in homes if rng.random() > 0.2]
        for _ in range(rng.integers(0, 12)):
            new = "s" if rng.random() < 0.3 else -1
            kept.insert(int(rng.integers(0, len(kept) + 1)), new)
        if kept:
            skipped = rng.integers(0, 3, len(sizes)).tolist()
            counts = [(size, 0, more) for size, more in zip(sizes, skipped, strict=True)]
            pieces = cut(kept, counts, int(rng.integers(1, 6)))
            assert all(size for size, _ in pieces)
            numbers = [number for _, number in pieces if number is not None]
            assert numbers == sorted(set(numbers))


def test_kept_rows_follow_those_before_them():
    before = np.array([4, -1, 1, 2])  # row 4 is listed first now, then a new one, then 1 and 2
    made = images([0, -1, 0, 0], rows=[4, 9, 1, FAILED])
    kept = made.with_kept(np.array([0, 3, 5]), np.array([0, 0, 1], np.int32), before)
    assert kept.rows.tolist() == [0, 4, 5, 9, 1, FAILED, 3]
    assert kept.shards.tolist() == [0, 0, 1, -1, 0, 0, 0]
    assert kept.mtimes.tolist() == [-1] * 7


def test_pieces_have_sizes():
    assert Piece(3, 7).size == 4
