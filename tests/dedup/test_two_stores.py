from __future__ import annotations

import hashlib

import numpy as np
import pytest
from stores import write_store

from embedkit.dedup import find_pairs
from embedkit.dedup.config import DedupConfig
from embedkit.errors import StoreError, StoreMismatchError


@pytest.mark.parametrize("seed", range(4))
def test_pairs_between_two_stores_are_those_of_brute_force(tmp_path, seed):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((5, 6))[rng.integers(0, 5, 40)] * 2
    base = (base + rng.standard_normal(base.shape)).astype("f4")
    images = [rng.integers(0, 40, 60), rng.integers(0, 40, 50)]  # some are there several times
    one, other = (
        write_store(
            tmp_path / f"{side}.h5", base[chosen],
            content_hash=[hashlib.sha256(b"%d" % image).digest() for image in chosen],
        )
        for side, chosen in enumerate(images)
    )  # fmt: skip
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    is_copy = unit @ unit.T >= 0.9
    heads = [{int(np.flatnonzero(chosen == image)[0]) for image in chosen} for chosen in images]
    expected = [
        (i, j)
        for i in range(60)
        for j in range(50)
        if is_copy[images[0][i], images[1][j]] and (i in heads[0] or j in heads[1])
    ]
    found = find_pairs(
        one, DedupConfig(threshold=0, min_cosine=0.9, max_hamming=None), against=other
    )
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(found.exact, images[0][found.first] == images[1][found.second])
    assert len(expected) > 60


def test_two_stores_that_can_not_be_compared(tmp_path):
    rows = np.eye(3, dtype=np.float32)
    store = write_store(tmp_path / "s.h5", rows)
    with pytest.raises(StoreMismatchError, match="backbone"):
        find_pairs(store, against=write_store(tmp_path / "t.h5", rows, backbone="other"))
    rows[1, 1] = np.nan
    with pytest.raises(StoreError, match=r"1\.jpg isn't finite"):
        find_pairs(store, against=write_store(tmp_path / "u.h5", rows))
    with pytest.raises(ValueError, match="threshold"):
        find_pairs(store, DedupConfig(threshold=-1), against=store)
