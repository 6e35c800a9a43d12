"""The joins find the pairs that a look at every pair finds, no more and no fewer."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import photo_like

from embedkit.dedup.candidates import exact_join as join
from embedkit.dedup.candidates import hamming_join as hashes
from embedkit.dedup.candidates import projection_bound
from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.candidates.hamming_join import close_hashes
from embedkit.dedup.candidates.products import (
    Bfloat16Products,
    Costs,
    Float32Products,
    Products,
    fastest_products,
)
from embedkit.dedup.unit_rows import UnitRows
from embedkit.errors import EmbedkitError
from embedkit.utils.progress import Progress, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator


def brute(rows: np.ndarray, threshold: float, other: np.ndarray | None = None) -> dict:
    """Every pair's cosine in float64."""
    left = rows.astype(np.float64)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    if other is None:
        cosine = np.triu(left @ left.T, 1) + np.tril(np.full((len(left),) * 2, -9.0))
    else:
        right = other.astype(np.float64)
        cosine = left @ (right / np.linalg.norm(right, axis=1, keepdims=True)).T
    return {(int(i), int(j)): cosine[i, j] for i, j in np.argwhere(cosine >= threshold)}


def as_dict(found: tuple) -> dict:
    first, second, cosines = found
    assert (first.dtype, second.dtype, cosines.dtype) == (np.int64, np.int64, np.float32)
    assert list(zip(first, second, strict=True)) == sorted(zip(first, second, strict=True))
    return dict(
        zip(zip(first.tolist(), second.tolist(), strict=True), cosines.tolist(), strict=True)
    )


def check(found: tuple, expected: dict) -> None:
    got = as_dict(found)
    assert got.keys() == expected.keys()
    np.testing.assert_allclose(
        [got[pair] for pair in expected], list(expected.values()), rtol=0, atol=1e-6
    )


KINDS = (Float32Products, Bfloat16Products)


@pytest.fixture(scope="module", params=KINDS, autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[type[Products]]:
    """All is found with either kind of products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "fastest_products", lambda _: request.param)
        yield request.param


@pytest.fixture
def always_sketched(monkeypatch: pytest.MonkeyPatch, kind: type[Products]) -> None:
    """A basis even for a few rows, and blocks so small that a few rows fill several."""
    monkeypatch.setattr(projection_bound, "_WORTH_IT", 0)
    monkeypatch.setattr(kind, "costs", Costs(0.25, 1e3))
    monkeypatch.setattr(join, "STRIPE", 17)
    monkeypatch.setattr(join, "BLOCK", 40)
    monkeypatch.setattr(join, "_GATHER_ROWS", 7)


@pytest.mark.usefixtures("always_sketched")
@pytest.mark.parametrize("threshold", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_every_pair_is_found_with_a_sketch(
    seed: int, threshold: float, kind: type[Products]
) -> None:
    rows = photo_like(300, 64, seed)
    plan = projection_bound.plan_projection(UnitRows(rows), UnitRows(rows), threshold, kind.costs)
    assert plan.basis is not None
    expected = brute(rows, threshold)
    assert len(expected) > 10
    check(exact_join(UnitRows(rows), threshold), expected)
    check(exact_join(UnitRows(rows), threshold, threads=1), expected)


@pytest.mark.usefixtures("always_sketched")
def test_every_pair_is_found_with_several_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = photo_like(400, 48, 5, "float32")
    unit = UnitRows(rows)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((48, 48)))[0]
    for widths in ((1,), (3, 9), (2, 5, 11)):
        plan = projection_bound.ProjectionPlan(basis.astype(np.float32), widths)
        monkeypatch.setattr(join, "plan_projection", lambda *_, plan=plan: plan)
        check(exact_join(unit, 0.9), brute(rows, 0.9))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("dim", [32, 700])
def test_a_bound_is_never_below_the_cosine(dim: int, dtype: str) -> None:
    """Even for rows that lie in the basis, against it, or are the same."""
    rng = np.random.default_rng(dim)
    rows = photo_like(120, dim, dim, dtype)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0][:, :20]
    rows[:20] = basis.T * 1e4
    rows[20:30] = -rows[:10]
    rows[30:60] = rows[60:90]
    unit = UnitRows(rows)
    with ThreadPoolExecutor(2) as pool:
        projected = projection_bound.ProjectionPlan(basis.astype(np.float32), (4, 9, 20)).apply(
            unit, pool.map
        )
    exact = unit.take(slice(None)) @ unit.take(slice(None)).T
    bound = np.zeros((120, 120), np.float32)
    previous = np.full((120, 120), np.inf)
    for number, (level, margin) in enumerate(
        zip(projected.levels, projected.rounding_slack, strict=True)
    ):
        signs = np.ones(level.shape[1], np.float32)
        if number:
            signs[-1] = -1
        bound += (level * signs) @ level.T
        assert margin < 2e-4
        assert (bound >= exact - margin / 2).all()
        assert (bound <= previous + margin).all()
        previous = bound.copy()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("dim", [1, 3, 512, 2048])
def test_a_quick_look_passes_what_reaches_and_little_more(dim: int, dtype: str) -> None:
    rows = photo_like(60, dim, dim, dtype)
    rows[:3] = 0
    unit = UnitRows(rows)
    first, second = (side.ravel() for side in np.divmod(np.arange(3600), 60))
    for place, cosine in enumerate(unit.cosines(first, unit, second).tolist()):
        pair = first[place : place + 1], unit, second[place : place + 1]
        assert unit.may_reach(*pair, cosine).all()
        assert not unit.may_reach(*pair, cosine + 1e-3).any()


@pytest.mark.usefixtures("always_sketched")
@pytest.mark.parametrize("shape", [(200, 90), (5, 300), (1, 1)])
def test_against_another_store(shape: tuple[int, int]) -> None:
    rows, other = photo_like(300, 64, 1)[: shape[0]], photo_like(300, 64, 1)[-shape[1] :]
    found = exact_join(UnitRows(rows), 0.8, against=UnitRows(other))
    check(found, brute(rows, 0.8, other))


def test_chosen_rows_keep_their_numbers() -> None:
    rows = photo_like(100, 16, 2)
    numbers = np.arange(100)[::3]
    expected = {(3 * i, 3 * j): cosine for (i, j), cosine in brute(rows[numbers], 0.7).items()}
    assert expected
    check(exact_join(UnitRows(rows, numbers), 0.7), expected)


@settings(max_examples=80)
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4).filter(any), max_size=20),
    st.sampled_from([-0.913, 0.013, 0.513, 0.887, 0.9913]),
)
def test_small_integers(values: list[list[int]], threshold: float) -> None:
    """No cosine of such small vectors is near these thresholds."""
    rows = np.array(values, np.float32).reshape(-1, 4)
    check(exact_join(UnitRows(rows), threshold), brute(rows, threshold))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_one_direction_have_cosine_one(dtype: str) -> None:
    row = np.random.default_rng(0).standard_normal(300).astype(dtype)
    rows = np.stack([row, row * 2, row * 4, -row])
    assert list(as_dict(exact_join(UnitRows(rows), 1.0))) == [(0, 1), (0, 2), (1, 2)]


def test_huge_and_tiny_rows() -> None:
    rows = np.array([[1e38, 1e38], [1e-38, 1e-38], [1e38, -1e38]], np.float32)
    assert list(as_dict(exact_join(UnitRows(rows), 0.999))) == [(0, 1)]


def test_too_many_pairs_are_refused_in_bounded_memory() -> None:
    """Film frames: every row is near every other."""
    rng = np.random.default_rng(0)
    rows = (1 + rng.standard_normal((6000, 32)) * 0.01).astype(np.float32)
    tracemalloc.start()
    with pytest.raises(
        EmbedkitError, match=r"more than 100,000 pairs.*min_cosine=.*candidates_per_image="
    ):
        exact_join(UnitRows(rows), 0.9, max_pairs=100_000)
    assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    tracemalloc.stop()


def test_progress_counts_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "STRIPE", 10)
    told: list[Progress] = []
    with reporting(told.append):
        exact_join(UnitRows(photo_like(35, 8, 0)), 0.9)
    assert [(one.done, one.total) for one in told] == [(n, 35) for n in (0, 10, 20, 30, 35)]


@pytest.mark.parametrize("threshold", [0.9, 0.5, 1e-3, 0.0, -0.4])
def test_products_that_reach_a_threshold(kind: type[Products], threshold: float) -> None:
    left, right = (photo_like(count, 40, count, "float32") for count in (90, 130))
    left[:20] = right[:20]
    left, right = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (left, right))
    products = kind(left, right)
    assert 0 <= products.slack < 0.02
    hits, found = products.reaching(slice(10, 80), slice(5, 130), threshold - products.slack)
    exact = (left[10:80].astype(np.float64) @ right[5:130].T).ravel()
    assert {*np.flatnonzero(exact >= threshold + 1e-6).tolist()} <= {*hits.tolist()}
    assert exact[hits].min() >= threshold - 2 * products.slack - 1e-5
    np.testing.assert_allclose(found, exact[hits], rtol=0, atol=products.slack + 1e-5)


def test_the_fastest_products_are_one_of_these() -> None:
    assert fastest_products(1e12) in KINDS


def test_nothing_to_join() -> None:
    empty, one = UnitRows(np.empty((0, 4), np.float32)), UnitRows(np.ones((1, 4), np.float32))
    assert as_dict(exact_join(empty, 0.5)) == {}
    assert as_dict(exact_join(one, 0.5)) == {}
    assert as_dict(exact_join(one, 0.5, against=empty)) == {}
    assert as_dict(exact_join(empty, 0.5, against=one)) == {}


def brute_hamming(hashes: np.ndarray, bits: int, other: np.ndarray | None = None) -> list:
    distance = np.bitwise_count(hashes[:, None] ^ (hashes if other is None else other)[None, :])
    near = distance <= bits
    return np.argwhere(np.triu(near, 1) if other is None else near).tolist()


def near_hashes(count: int, seed: int) -> np.ndarray:
    """Half of them are another one with 0 to 15 bits changed."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for row in range(count // 2):
        bits = rng.choice(64, rng.integers(0, 16), replace=False)
        hashes[row] = hashes[count // 2 + row] ^ np.uint64(sum(1 << int(bit) for bit in bits))
    return hashes


@pytest.mark.parametrize(
    ("bits", "at_once"),
    [*((bits, 2**20) for bits in range(65)), *((bits, 16) for bits in (0, 1, 5, 7, 8, 25, 64))],
)
def test_every_pair_of_close_hashes(
    bits: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_PAIRS_AT_ONCE", at_once)
    some = near_hashes(80, bits)
    some[:8] = some[40:48]
    some[8:12] = ~some[48:52]
    some[12:16] = some[52:56] ^ np.uint64(0x0F0F0F0F0F0F0F0F)
    some[16:20] = some[56:60] ^ np.uint64(2**bits - 1)
    assert np.stack(close_hashes(some, bits), axis=1).tolist() == brute_hamming(some, bits)
    other = some[30:60] ^ np.uint64(5)
    found = np.stack(close_hashes(some, bits, other), axis=1).tolist()
    assert found == brute_hamming(some, bits, other)


@pytest.mark.parametrize("bits", range(65))
def test_differences_spread_over_all_parts(bits: int) -> None:
    """As many bits as allowed, or one more, as evenly as can be: no part has fewer."""
    rng = np.random.default_rng(bits)
    for count in {bits, min(bits + 1, 64)}:
        even = (np.arange(count) * 64 // max(count, 1)).tolist()
        spread = [even, [63 - bit for bit in even], rng.permutation(64)[:count].tolist()]
        pairs = [[0, sum(1 << bit for bit in places)] for places in spread]
        for pair in pairs:
            some = np.array(pair, np.uint64) ^ np.uint64(0x0123456789ABCDEF)
            expected = [[0, 1]] if count <= bits else []
            assert np.stack(close_hashes(some, bits), axis=1).tolist() == expected


def test_too_many_close_hashes_are_refused_in_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    ones = np.uint64(1) << rng.integers(0, 64, (6000, 3)).astype(np.uint64)
    some = np.bitwise_xor.reduce(ones, axis=1) ^ np.uint64(0x0123456789ABCDEF)
    tracemalloc.start()
    message = r"more than 100,000 pairs of perceptual hashes differ in 7 bits.*max_hamming="
    with pytest.raises(EmbedkitError, match=message):
        close_hashes(some, 7, max_pairs=100_000)
    with pytest.raises(EmbedkitError, match="more than 5 pairs"):
        close_hashes(some[:10], 7, some[10:20], 5)
    first, _ = close_hashes(some[:1500], 7)
    assert len(first) == 1500 * 1499 // 2
    assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    tracemalloc.stop()


def test_no_hashes() -> None:
    none, one = np.empty(0, np.uint64), np.zeros(1, np.uint64)
    for first, second in (
        close_hashes(none, 4), close_hashes(one, 4), close_hashes(one, 4, none),
        close_hashes(none, 4, one),
    ):  # fmt: skip
        assert len(first) == len(second) == 0
