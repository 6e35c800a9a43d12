"""What a precision costs, against figures worked out by hand and by brute force."""

import numpy as np
import pytest

from embedkit.engines.fidelity import GATE, Fidelity, measure_fidelity


def test_equal_rows_are_wholly_faithful():
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    found = measure_fidelity(rows, 3 * rows)  # the length doesn't matter
    assert found.images == 50
    assert found.cosine_min == pytest.approx(1)
    assert found.same_neighbor == 1
    assert found.reaches(GATE)


def test_figures_are_those_of_brute_force():
    random = np.random.default_rng(1)
    reference = random.normal(size=(200, 6))
    found = reference + 0.4 * random.normal(size=(200, 6))
    told = measure_fidelity(reference.astype(np.float32), found.astype(np.float32))
    cosines, same = [], 0
    for i in range(200):
        a, b = reference[i], found[i]
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        near = [
            max(
                (j for j in range(200) if j != i),
                key=lambda j: rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]),
            )
            for rows in (reference, found)
        ]
        same += near[0] == near[1]
    assert told.cosine_min == pytest.approx(min(cosines), abs=1e-5)
    assert told.cosine_1pct == pytest.approx(np.quantile(cosines, 0.01), abs=1e-5)
    assert told.cosine_median == pytest.approx(np.median(cosines), abs=1e-5)
    assert told.same_neighbor == same / 200
    assert 0.05 < told.same_neighbor < 0.95


def test_copies_are_one_neighbour():
    rows = np.array([[1, 0.1], [1, 0.1], [1, 0.1], [0, 1]], np.float32)
    jitter = np.array([[0, 0], [0, 0.001], [0, -0.001], [0, 0]], np.float32)
    assert measure_fidelity(rows, rows + jitter).same_neighbor == 1


def test_rows_that_are_not_finite_are_not_faithful():
    rows = np.ones((3, 4), np.float32)
    broken = rows.copy()
    broken[1, 2] = np.nan
    assert measure_fidelity(rows, broken).cosine_min == -1


def test_one_row_and_none():
    assert measure_fidelity(np.ones((1, 3)), np.ones((1, 3))).same_neighbor == 1
    with pytest.raises(ValueError, match="can't compare"):
        measure_fidelity(np.ones((0, 3)), np.ones((0, 3)))
    with pytest.raises(ValueError, match="can't compare"):
        measure_fidelity(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize(
    "worse",
    [
        {"images": 31},
        {"cosine_min": 0.99},
        {"cosine_1pct": 0.99},
        {"cosine_median": 0.999},
        {"same_neighbor": 0.98},
    ],
)
def test_every_figure_counts_at_the_gate(worse):
    assert GATE.reaches(GATE)
    assert not Fidelity(**{**GATE.to_config(), **worse}).reaches(GATE)


def test_config_round_trip():
    assert Fidelity.from_config(GATE.to_config()) == GATE
