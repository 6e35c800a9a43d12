"""Vectors are widened, scaled and checked as NumPy would do it."""

import numpy as np
import pytest
from stores import write_store

import embedkit
from embedkit.errors import StoreError
from embedkit.types import Head
from embedkit.utils.vectors import first_not_finite, unit_rows, widen

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("width", [1, 8, 30])
def test_every_float16_is_widened_as_numpy_casts_it(width):
    values = HALVES[np.isfinite(HALVES)]
    values = np.resize(values, (len(values) // width + 1, width))
    expected = values.astype("f4")
    for rows in (values, np.asfortranarray(values)):
        assert np.array_equal(widen(rows).view("u4"), expected.view("u4"))
    out = np.empty(values.shape, "f4")
    assert widen(values, out) is out
    assert np.array_equal(out.view("u4"), expected.view("u4"))
    assert widen(expected) is expected


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_what_is_not_finite_is_told(dtype):
    for value in HALVES[~np.isfinite(HALVES)]:
        rows = np.full((70, 3), HALVES[np.isfinite(HALVES)].max(), dtype)
        rows[5] *= -1
        assert first_not_finite(rows) is None
        rows[[40, 69], [1, 0]] = value
        assert first_not_finite(rows) == 40
        assert first_not_finite(np.asfortranarray(rows)) == 40


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_no_rows_are_finite(dtype):
    assert first_not_finite(np.empty((0, 4), dtype)) is None
    assert unit_rows(np.empty((0, 4), dtype)).shape == (0, 4)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("size", [6e-8, 1e-3, 1.0, 2e4])
def test_rows_get_unit_length(dtype, size):
    rng = np.random.default_rng(0)
    rows = (np.sign(rng.standard_normal((300, 700))) * size * (1 + rng.random((300, 700)))).astype(
        dtype
    )
    rows[7] = 0
    before = rows.copy()
    exact = rows.astype("f8")
    exact /= np.where(np.any(exact, axis=1), np.linalg.norm(exact, axis=1), 1)[:, None]
    np.testing.assert_allclose(unit_rows(rows), exact, rtol=3e-6)
    assert unit_rows(rows).dtype == np.float32
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e30, 3e38])
def test_squares_beyond_float32_do_no_harm(size):
    rows = np.array([[3, 4], [0, 0], [-4, 3]]) * size / 4
    unit = unit_rows(rows.astype("f4"))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [-0.8, 0.6]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_store_that_is_not_finite_is_refused_by_all_that_read_it(tmp_path, dtype, bad):
    rows = np.random.default_rng(0).standard_normal((20, 8)).astype(dtype)
    rows[13, 5] = bad
    head = Head(np.ones((3, 8), "f4"), np.zeros(3, "f4"), ("a", "b", "c"))
    store = write_store(tmp_path / "a.h5", rows, head=head, labels=["a", "b"] * 10)
    for call in (
        lambda: list(embedkit.classify(store, 1)),
        lambda: embedkit.evaluate(store),
        lambda: embedkit.plot(store, tmp_path / "map.html", method="pca"),
        lambda: embedkit.find_outliers(store),
    ):
        with pytest.raises(StoreError, match=r"a\.h5: the embedding of (row 13|13\.jpg) isn't"):
            call()
