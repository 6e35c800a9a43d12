from __future__ import annotations

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write_store

from embedkit.dedup import find_duplicates, hashes, join
from embedkit.errors import StoreError

SAME, EMBEDDING, PHASH = "same bytes", "embedding", "perceptual hash"
TELLING = 0xFFFFFFFF  # 32 bits set, as in a photo's hash


def oracle_pairs(
    rows: np.ndarray, hashes: list[bytes], phashes: list[int], threshold: float, max_hamming: int
) -> dict[tuple[int, int], str]:
    """Every pair of copies and its reasons, one by one."""
    found = {}
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            a, b = rows[i].astype(np.float64), rows[j].astype(np.float64)
            norms = np.linalg.norm(a) * np.linalg.norm(b)
            blank = min(phashes[i].bit_count(), phashes[j].bit_count()) < 8
            reasons = [
                (hashes[i] == hashes[j], SAME),
                (norms > 0 and a @ b / max(norms, 1e-300) >= threshold, EMBEDDING),
                (not blank and (phashes[i] ^ phashes[j]).bit_count() <= max_hamming, PHASH),
            ]
            if any(is_so for is_so, _ in reasons):
                found[i, j] = " + ".join(word for is_so, word in reasons if is_so)
    return found


def oracle_groups(pairs: list[tuple[int, int]], count: int) -> set[tuple[int, ...]]:
    group = list(range(count))
    for i, j in pairs:
        group = [group[i] if g == group[j] else g for g in group]
    sets = {g: tuple(i for i in range(count) if group[i] == g) for g in group}
    return {members for members in sets.values() if len(members) > 1}


def as_dict(found: object) -> dict[tuple[int, int], str]:
    return dict(zip(map(tuple, found.pairs.tolist()), found.reasons, strict=True))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a few rows fill several."""
    monkeypatch.setattr(join, "_STRIPE", 7)
    monkeypatch.setattr(join, "_BLOCK", 11)
    monkeypatch.setattr(hashes, "_PAIRS_AT_ONCE", 5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_of_distinct_images(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, 16))
    rows = (centres[rng.integers(0, 8, 40)] + rng.standard_normal((40, 16)) * 0.2).astype("f4")
    rows *= rng.uniform(0.01, 100, (40, 1)).astype("f4")
    phashes = [TELLING << int(rng.integers(0, 12)) for _ in range(40)]
    phashes = [bits ^ row << 50 for row, bits in enumerate(phashes)]  # all different
    hashes = [b"%032d" % row for row in range(40)]
    path = write_store(tmp_path / "s.h5", rows, phash=phashes, content_hash=hashes)
    found = find_duplicates(path, threshold=0.9, max_hamming=3)
    expected = oracle_pairs(rows, hashes, phashes, 0.9, 3)
    assert len(expected) > 20
    assert as_dict(found) == expected
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = (unit[found.pairs[:, 0]] * unit[found.pairs[:, 1]]).sum(axis=1)
    np.testing.assert_allclose(found.scores, cosine, atol=1e-6)
    assert found.pairs.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.threshold == 0.9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(-2, 2), min_size=3, max_size=3),
            st.integers(0, 3),
            st.sampled_from([0, 1, TELLING, TELLING ^ 1, TELLING ^ 7, TELLING << 20]),
        ),
        max_size=14,
    )
)
def test_groups_are_those_of_all_pairs(images: list[tuple[list[int], int, int]]) -> None:
    """Whatever is collapsed on the way, the groups are as if every pair had been compared."""
    rows = np.array([image[0] for image in images], np.float32).reshape(-1, 3)
    hashes = [b"%032d" % image[1] for image in images]
    phashes = [image[2] for image in images]
    first_of = {digest: hashes.index(digest) for digest in hashes}
    rows = rows[[first_of[digest] for digest in hashes]]  # the same bytes, the same embedding
    phashes = [phashes[first_of[digest]] for digest in hashes]
    threshold = 0.93  # no cosine of such small vectors is near it
    with TemporaryDirectory() as folder:
        path = write_store(Path(folder) / "s.h5", rows, phash=phashes, content_hash=hashes)
        found = find_duplicates(path, threshold=threshold, max_hamming=2)
    expected = oracle_pairs(rows, hashes, phashes, threshold, 2)
    groups = {tuple(sorted(int(name[:-4]) for name in group)) for group in found.groups}
    assert groups == oracle_groups(list(expected), len(images))
    assert set(as_dict(found)) <= set(expected)
    assert len(found.groups) == len(groups)


def test_reasons_are_joined_and_rows_are_in_order(tmp_path: Path) -> None:
    rows = np.eye(6, dtype=np.float32)
    rows[4] = rows[1]
    rows[5] = rows[0]
    hashes = [b"%032d" % i for i in (0, 1, 2, 3, 4, 0)]
    spread = [TELLING << (5 * i) & (2**64 - 1) for i in range(6)]
    spread[4] = spread[1] ^ 3
    path = write_store(tmp_path / "s.h5", rows, phash=spread, content_hash=hashes)
    found = find_duplicates(path)
    assert as_dict(found) == {(0, 5): SAME, (1, 4): f"{EMBEDDING} + {PHASH}"}
    assert found.groups == (("0.jpg", "5.jpg"), ("1.jpg", "4.jpg"))
    assert found.scores.tolist() == [1, 1]


def test_thousands_of_one_image_are_a_star(tmp_path: Path) -> None:
    rows = np.ones((10_000, 8), np.float16)
    one = b"x" * 32
    for name, digests in (("bytes", [one] * 10_000), ("embedding", None)):
        path = write_store(tmp_path / f"{name}.h5", rows, content_hash=digests)
        tracemalloc.start()
        found = find_duplicates(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found.groups) == 1
        assert len(found.groups[0]) == 10_000
        assert (found.pairs[:, 0] == 0).all()
        assert len(found.pairs) == 9_999
        # Where the bytes differ the 10,000 hashes are compared, a block at a time.
        assert peak < 100 * 2**20


def test_blank_images_are_no_copies_by_hash(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    path = write_store(tmp_path / "s.h5", rows, phash=[0, 0, 1 << 63, TELLING])
    assert find_duplicates(path).groups == ()


def test_zero_embeddings_are_like_nothing(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.zeros((5, 4), np.float16))
    assert find_duplicates(path).groups == ()
    same = write_store(
        tmp_path / "t.h5", np.zeros((2, 4), np.float16), content_hash=[b"1" * 32] * 2
    )
    assert find_duplicates(same).groups == (("0.jpg", "1.jpg"),)


def test_without_the_hash(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.eye(2, dtype=np.float32), phash=[TELLING] * 2)
    assert as_dict(find_duplicates(path)) == {(0, 1): PHASH}
    assert find_duplicates(path).scores.tolist() == [0]
    assert find_duplicates(path, max_hamming=None).groups == ()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(tmp_path: Path, count: int) -> None:
    found = find_duplicates(write_store(tmp_path / "s.h5", np.ones((count, 4), np.float32)))
    assert found.groups == found.reasons == ()
    assert found.pairs.shape == (0, 2)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    rows = np.ones((4, 4), np.float32)
    rows[2, 1] = bad
    with pytest.raises(StoreError, match=r"2\.jpg isn't finite"):
        find_duplicates(write_store(tmp_path / "s.h5", rows))


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_bad_thresholds(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        find_duplicates(tmp_path / "s.h5", threshold=threshold)
    with pytest.raises(ValueError, match="max_hamming"):
        find_duplicates(tmp_path / "s.h5", max_hamming=65)
