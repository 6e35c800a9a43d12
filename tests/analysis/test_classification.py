from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stores import write_store

from embedkit.analysis.classification import classify
from embedkit.errors import StoreError
from embedkit.types import Head

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
HEAD = Head(
    RNG.standard_normal((6, 4)).astype("f4"),
    RNG.standard_normal(6).astype("f4"),
    ("cat", "dog", "<b>owl</b>", "fish", "crane", "crane"),
)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_are_the_softmax_of_the_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    module = import_module("embedkit.analysis.classification.classify")
    monkeypatch.setattr(module, "_BATCH_ROWS", 3)
    rows = (RNG.standard_normal((10, 4)) * 3).astype(dtype)
    path = write_store(tmp_path / "s.h5", rows, head=HEAD)
    batches = list(classify(path, 3))
    assert [batch.start for batch in batches] == [0, 3, 6, 9]
    assert [name for batch in batches for name in batch.ids] == [f"{i}.jpg" for i in range(10)]
    logits = rows.astype(np.float64) @ HEAD.weight.T.astype(np.float64) + HEAD.bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.argsort(-expected, axis=1)[:, :3]
    assert (np.concatenate([batch.classes for batch in batches]) == order).all()
    found = np.concatenate([batch.probabilities for batch in batches])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.take_along_axis(expected, order, axis=1), rtol=1e-5)
    names = [name for batch in batches for name in batch.class_names]
    assert names == [tuple(HEAD.class_names[c] for c in row) for row in order]


def test_huge_logits_do_not_overflow(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.full((1, 4), 6e4, np.float16), head=HEAD)
    (batch,) = classify(path, 1)
    assert batch.probabilities.tolist() == [[1]]


def test_k_above_the_number_of_classes(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.ones((2, 4), np.float32), head=HEAD)
    (batch,) = classify(path, 100)
    assert batch.classes.shape == (2, 6)
    np.testing.assert_allclose(batch.probabilities.sum(axis=1), 1, rtol=1e-6)


def test_no_rows(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.ones((0, 4), np.float32), head=HEAD)
    assert list(classify(path)) == []


def test_what_is_refused_is_refused_at_once(tmp_path: Path) -> None:
    rows = np.ones((2, 4), np.float32)
    with pytest.raises(StoreError, match="no classifier"):
        classify(write_store(tmp_path / "a.h5", rows))
    with pytest.raises(StoreError, match="extract again"):
        classify(write_store(tmp_path / "b.h5", rows, head=HEAD, head_applies=False))
    with pytest.raises(ValueError, match="k must be"):
        classify(write_store(tmp_path / "c.h5", rows, head=HEAD), 0)
