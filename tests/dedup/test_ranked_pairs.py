"""Candidates come in the order of how likely they are copies."""

import numpy as np
import pytest
from stores import write_store

from embedkit.dedup.candidates.collect import Candidates
from embedkit.dedup.candidates.ranked_pairs import rank_candidates
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.store.store import EmbeddingStore

NONE = np.empty(0, np.int64)
NOTHING_KNOWN = Candidates(NONE, NONE, NONE)


class Unchanged:
    """Stands for a whitening that changes nothing."""

    def apply(self, rows):
        return np.asarray(rows, np.float64)


class Reversed:
    """Stands for a whitening under which only the last four values count."""

    def apply(self, rows):
        kept = np.asarray(rows, np.float64)[:, -4:]
        return kept / np.linalg.norm(kept, axis=1, keepdims=True)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def stored(tmp_path):
    """Opens stores of the rows that are given."""
    opened = []

    def store(rows, name="s"):
        path = write_store(tmp_path / f"{name}.h5", rows.astype(np.float32))
        opened.append(EmbeddingStore.open(path))
        return DedupInput(opened[-1])

    yield store
    for one in opened:
        one.close()


@pytest.fixture
def rows():
    """40 rows; 5 and 17 are nearly the same, 8 and 30 near, all others far apart."""
    rows = np.random.default_rng(0).standard_normal((40, 64))
    rows[17] = rows[5] + 0.05 * rows[17]
    rows[30] = rows[8] + 0.5 * rows[30]
    return rows


def ranked(left, right=None, whitening=None, known=NOTHING_KNOWN, **settings):
    found = rank_candidates(
        left, right, whitening or Unchanged(), known, DedupConfig(**settings.pop("config", {})),
        **settings,
    )  # fmt: skip
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_the_nearest_pair_comes_first_and_each_once(stored, rows):
    found = ranked(stored(rows), config={"candidates_per_image": 5})
    assert found[:2] == [(5, 17), (8, 30)]
    assert len(found) == len(set(found))
    assert all(first < second for first, second in found)
    for row in range(len(rows)):  # five of each are there
        assert sum(row in pair for pair in found) >= 5


def test_at_one_cosine_the_pair_with_fewer_nearer_images_comes_first(stored):
    rows = np.eye(12)
    rows[1] = unit(rows[:1] + 0.5 * rows[1:2])[0]  # near 0
    rows[2] = unit(rows[:1] + 0.45 * rows[2:3])[0]  # a little nearer to it
    rows[4] = unit(rows[3:4] + 0.5 * rows[4:5])[0]  # as near to 3, which has no other one
    found = ranked(stored(rows), config={"candidates_per_image": 3})
    assert found.index((3, 4)) < found.index((1, 2))


def test_pairs_that_are_near_only_as_stored_are_there_and_come_last(stored, rows):
    rows[30, -4:], rows[8, -4:] = (1, 0, 0, 0), (-1, 0, 0, 0)  # far apart, whitened
    found = ranked(stored(rows), whitening=Reversed(), config={"candidates_per_image": 3})
    assert (8, 30) in found
    assert found.index((8, 30)) > len(found) / 3
    least = ranked(
        stored(rows, "t"), whitening=Reversed(),
        config={"candidates_per_image": 3, "min_cosine": 0.999},
    )  # fmt: skip
    assert (8, 30) not in least


def test_two_stores_are_looked_at_from_both_sides(stored, rows):
    far = np.random.default_rng(1).standard_normal((6, 64))
    far[2] = rows[11]
    found = ranked(stored(far), stored(rows, "t"), config={"candidates_per_image": 1})
    assert found[0] == (2, 11)
    assert {second for _, second in found} == set(range(40))  # each has its nearest one


def test_known_pairs_are_there_and_come_by_their_cosine(stored, rows):
    known = Candidates(np.array([0, 5]), np.array([39, 17]), np.zeros(2, np.int64))
    found = ranked(stored(rows), known=known, config={"candidates_per_image": 1})
    assert found[0] == (5, 17)
    assert found.count((0, 39)) == 1
    assert found.index((0, 39)) > 1  # many known pairs that are far apart don't hide copies


def test_pairs_of_equal_bytes_come_first(stored, rows):
    rows[39] = rows[0]
    known = Candidates(np.array([0]), np.array([39]), np.zeros(1, np.int64))
    assert ranked(stored(rows), known=known)[0] == (0, 39)


def test_a_view_finds_what_the_images_as_they_are_do_not(stored, rows):
    views = [np.random.default_rng(2).standard_normal(rows.shape)]
    views[0][3] = rows[21]
    found = ranked(stored(rows), views=views, config={"candidates_per_image": 1})
    assert found[0] == (3, 21)
