"""``calibration="cosine"``: pairs by their cosine alone, against brute force."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write_store

from embedkit import find_duplicates
from embedkit.dedup.candidates import exact_join
from embedkit.errors import StoreError


def find(path: Path, **options: object) -> object:
    return find_duplicates(path, calibration="cosine", **options)


def expected_pairs(rows: np.ndarray, contents: list[bytes], threshold: float) -> dict:
    """Every pair, one by one, and its cosine."""
    found = {}
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            a, b = rows[i].astype(np.float64), rows[j].astype(np.float64)
            norms = np.linalg.norm(a) * np.linalg.norm(b)
            cosine = a @ b / norms if norms else 0.0
            if contents[i] == contents[j] or (norms and cosine >= threshold):
                found[i, j] = cosine
    return found


def connected(pairs: list[tuple[int, int]], count: int) -> set[tuple[int, ...]]:
    group = list(range(count))
    for i, j in pairs:
        group = [group[i] if g == group[j] else g for g in group]
    sets = {g: tuple(i for i in range(count) if group[i] == g) for g in group}
    return {members for members in sets.values() if len(members) > 1}


def groups_of(found) -> set[tuple[int, ...]]:
    members: dict[int, list[int]] = {}
    for node, group in zip(found.groups.node.tolist(), found.groups.group.tolist(), strict=True):
        if group >= 0:
            members.setdefault(group, []).append(node)
    return {tuple(sorted(rows)) for rows in members.values()}


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_of_distinct_images(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_join, "STRIPE", 7)  # a few rows fill several blocks
    monkeypatch.setattr(exact_join, "BLOCK", 11)
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, 16))
    rows = (centres[rng.integers(0, 8, 40)] + rng.standard_normal((40, 16)) * 0.2).astype("f4")
    rows *= rng.uniform(0.01, 100, (40, 1)).astype("f4")
    contents = [b"%032d" % row for row in range(40)]
    found = find(write_store(tmp_path / "s.h5", rows, content_hash=contents), threshold=0.9)
    expected = expected_pairs(rows, contents, 0.9)
    assert len(expected) > 20
    pairs = found.pairs
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == list(expected)
    np.testing.assert_allclose(pairs.score, list(expected.values()), atol=1e-6)
    np.testing.assert_array_equal(pairs.score, pairs.cosine)
    assert (pairs.info.threshold, pairs.info.calibration) == (0.9, "cosine")
    assert groups_of(found) == connected(list(expected), 40)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.integers(0, 3)),
        max_size=14,
    )
)
def test_groups_are_those_of_all_pairs(images: list[tuple[list[int], int]]) -> None:
    """Whatever is collapsed on the way, the groups are as if every pair had been compared."""
    rows = np.array([image[0] for image in images], np.float32).reshape(-1, 3)
    contents = [b"%032d" % image[1] for image in images]
    rows = rows[[contents.index(one) for one in contents]]  # the same bytes, the same embedding
    threshold = 0.93  # no cosine of such small vectors is near it
    with TemporaryDirectory() as folder:
        path = write_store(Path(folder) / "s.h5", rows, content_hash=contents)
        found = find(path, threshold=threshold)
    expected = expected_pairs(rows, contents, threshold)
    assert groups_of(found) == connected(list(expected), len(images))
    pairs = zip(found.pairs.first.tolist(), found.pairs.second.tolist(), strict=True)
    assert set(pairs) <= set(expected)


def test_thousands_of_one_image_are_a_star(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.ones((10_000, 8), np.float16))
    tracemalloc.start()
    found = find(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert groups_of(found) == {tuple(range(10_000))}
    assert (found.pairs.first == 0).all()
    assert len(found.pairs) == 9_999
    assert peak < 100 * 2**20


def test_equal_bytes_score_one_and_zeros_are_like_nothing(tmp_path: Path) -> None:
    rows = np.zeros((4, 4), np.float16)
    path = write_store(tmp_path / "s.h5", rows, content_hash=[b"1" * 32, b"2" * 32] * 2)
    found = find(path)
    assert groups_of(found) == {(0, 2), (1, 3)}
    assert found.pairs.score.tolist() == [1, 1]
    assert found.pairs.exact.all()


def test_two_stores(tmp_path: Path) -> None:
    rows, contents = np.eye(3, dtype=np.float32), [b"%032d" % row for row in range(5)]
    one = write_store(tmp_path / "a.h5", rows, ids=list("abc"), content_hash=contents[:3])
    two = write_store(tmp_path / "b.h5", rows[1:], ids=list("de"), content_hash=contents[3:])
    found = find(one, against=two)
    assert list(zip(found.pairs.first.tolist(), found.pairs.second.tolist(), strict=True)) == [
        (1, 0), (2, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(tmp_path: Path, count: int) -> None:
    found = find(write_store(tmp_path / "s.h5", np.ones((count, 4), np.float32)))
    assert len(found.pairs) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    rows = np.ones((4, 4), np.float32)
    rows[2, 1] = bad
    with pytest.raises(StoreError, match=r"2\.jpg isn't finite"):
        find(write_store(tmp_path / "s.h5", rows))


def test_pixels_are_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="compares embeddings alone"):
        find(path, verify=True)
