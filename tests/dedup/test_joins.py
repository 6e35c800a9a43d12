"""Pairs that are near after whitening, beside brute force."""

from __future__ import annotations

import numpy as np
import pytest

from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.joins import ExactJoin, IvfJoin, WhitenedJoin
from embedkit.dedup.scoring.background import Whitening
from embedkit.dedup.unit_rows import UnitRows


def make_rows(count: int, dim: int = 24) -> np.ndarray:
    """Rows that vary in some directions far more than in others, with twins."""
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((count, dim)) * 0.8 ** np.arange(dim) + 1
    rows[count // 2 :] = rows[: count - count // 2] + rng.standard_normal(
        (count - count // 2, dim)
    ) * 0.02 * 0.8 ** np.arange(dim)
    return rows.astype(np.float32)


@pytest.mark.parametrize("join", [ExactJoin, IvfJoin])
@pytest.mark.parametrize("two_sides", [False, True])
def test_whitened_pairs_are_those_of_brute_force(join: type[ExactJoin], two_sides: bool) -> None:
    rows = make_rows(300)
    left = UnitRows(rows, np.arange(0, 300, 2))
    right = UnitRows(rows, np.arange(1, 300)) if two_sides else None
    other = right or left
    white = Whitening.learn(other.sample(8192))
    cosines = white.apply(left.take(slice(None))) @ white.apply(other.take(slice(None))).T
    reaching = np.argwhere(cosines >= 0.6)
    if not two_sides:
        reaching = reaching[reaching[:, 0] < reaching[:, 1]]
    expected = set(zip(left.numbers[reaching[:, 0]], other.numbers[reaching[:, 1]], strict=True))
    whitened = WhitenedJoin(join(0.6, MAX_PAIRS), white)
    first, second, found = whitened(left, against=right)
    assert len(expected) > 60
    assert set(zip(first, second, strict=True)) == expected
    assert found.min() >= 0.6


def test_nothing_to_whiten() -> None:
    rows, nothing = UnitRows(make_rows(10)), UnitRows(np.empty((0, 24), np.float32))
    white = Whitening.learn(rows.sample(10))
    join = WhitenedJoin(ExactJoin(0.5, MAX_PAIRS), white)
    for left, right in ((nothing, None), (nothing, rows), (rows, nothing)):
        assert [len(column) for column in join(left, against=right)] == [0, 0, 0]
