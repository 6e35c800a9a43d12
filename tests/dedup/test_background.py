"""What pairs are measured against: no copies among it, however many a store has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stores import make_meta, write_store

from embedkit.dedup import find_pairs
from embedkit.dedup.candidates import candidate_threshold
from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring import background as background_set
from embedkit.dedup.scoring import learn_background as learning
from embedkit.dedup.scoring.background import WHITENED, Whitening
from embedkit.dedup.scoring.calibration import Calibration, guessed_calibration
from embedkit.dedup.scoring.features import FEATURES, PairFeatures
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.logistic import LogisticModel
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    from pathlib import Path

DIM = 64
GUESS = guessed_calibration(make_meta())


def by_all_features() -> Calibration:
    """A calibration whose scores fall if the whitened or the normalised cosine does."""
    plain = LogisticModel(
        FEATURES, (0.8, 0.4, 0.3, 24.0), (0.1, 0.2, 0.1, 8.0), (2.0, 2.0, 3.0, -1.0), 0.0
    )
    base = GUESS
    return Calibration(
        "all", base.backbone, base.weights_fingerprint, base.pooling, 0, plain,
        base.thresholds,
    )  # fmt: skip


def with_copies(count: int, others: int = 300) -> np.ndarray:
    """``others`` rows with something in common, then ``count`` copies of the first of them."""
    rng = np.random.default_rng(0)
    rows = 0.7 + rng.standard_normal((others, DIM))
    copies = rows[0] + 0.2 * rng.standard_normal((count, DIM))
    return np.concatenate([rows, copies]).astype(np.float32)


@pytest.mark.parametrize("count", [2, 12, 120])
def test_many_copies_are_found_as_well_as_few(tmp_path: Path, count: int) -> None:
    rows = with_copies(count)
    path = write_store(tmp_path / "s.h5", rows)
    found = find_pairs(path, DedupConfig(calibration=by_all_features(), max_hamming=None))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    group = [0, *range(300, 300 + count)]
    assert pairs == {(i, j) for i in group for j in group if i < j}


def test_every_pair_of_large_groups_is_a_candidate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((10, 128)), 100, 0)
    rows = (centres + 0.02 * rng.standard_normal((1000, 128))).astype(np.float16)
    found = find_pairs(write_store(tmp_path / "s.h5", rows), DedupConfig(max_hamming=None))
    assert len(found) == 10 * 100 * 99 // 2
    assert (found.first // 100 == found.second // 100).all()


def test_one_of_each_group_of_copies_is_in_the_background_set(tmp_path: Path) -> None:
    rows = with_copies(40)
    with EmbeddingStore.open(write_store(tmp_path / "s.h5", rows)) as store:
        side = DedupInput(store)
        all_of_them, without = (
            learn_background(side.rows, side, c) for c in (None, by_all_features())
        )
    assert len(all_of_them.rows) == 340
    assert len(without.rows) == 300
    np.testing.assert_allclose(without.rows, all_of_them.rows[:300])
    np.testing.assert_array_equal(without.neighbours, without.rows)


def test_the_background_set_of_large_stores_is_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "_ROWS", 100)
    monkeypatch.setattr(background_set, "_NEIGHBOUR_ROWS", 30)
    with EmbeddingStore.open(write_store(tmp_path / "s.h5", with_copies(0))) as store:
        found = learn_background(DedupInput(store).rows, DedupInput(store), GUESS)
    assert found.rows.shape == (100, DIM)
    assert found.neighbours.shape == (30, DIM)


def thresholds_of(
    path: Path, rows: np.ndarray, plain: float, whitened: float
) -> tuple[float, float]:
    with EmbeddingStore.open(write_store(path, rows)) as store:
        side = DedupInput(store)
        requested = side, None, learn_background(side.rows, side, GUESS), GUESS
        return (
            candidate_cosine_threshold(*requested, plain, max_pairs=MAX_PAIRS),
            candidate_cosine_threshold(*requested, whitened, max_pairs=MAX_PAIRS, whitened=True),
        )


def test_thresholds_leave_as_many_as_requested_beside_the_copies(tmp_path: Path) -> None:
    rows = with_copies(60, 900)
    plain, whitened = thresholds_of(tmp_path / "s.h5", rows, 15, 5)
    unit = rows[:900] / np.linalg.norm(rows[:900], axis=1, keepdims=True)
    white = Whitening.learn(unit).apply(unit)
    for vectors, threshold, each in ((unit, plain, 15), (white, whitened, 5)):
        every = vectors @ vectors.T
        np.fill_diagonal(every, -1)
        assert (every >= threshold).sum(1).mean() == pytest.approx(each, rel=0.1)


def test_no_threshold_where_all_are_few(tmp_path: Path) -> None:
    assert thresholds_of(tmp_path / "few.h5", with_copies(0, 12), 20, 20) == (-1, -1)
    nothing = np.empty((0, DIM), np.float32)
    assert thresholds_of(tmp_path / "no.h5", nothing, 1, 1) == (-1, -1)


def test_thresholds_bound_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_threshold, "_MOST_PAIRS", 900)
    rows = with_copies(0, 900)
    threshold, _ = thresholds_of(tmp_path / "s.h5", rows, 15, 15)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert (np.triu(unit @ unit.T, 1) >= threshold).sum() == pytest.approx(450, rel=0.1)


def test_more_copies_than_may_be_paired_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_store(tmp_path / "s.h5", with_copies(300))
    found = find_pairs(path, DedupConfig(max_hamming=None, max_pairs=20_000, threshold=0.0))
    assert 5_000 < len(found) < 15_000  # of 45,150
    assert "only pairs with a cosine of 0.97" in caplog.text
    other = write_store(
        tmp_path / "t.h5", with_copies(300)[300:], content_hash=[b"%032d" % n for n in range(300)]
    )
    found = find_pairs(
        path, DedupConfig(max_hamming=None, max_pairs=20_000, threshold=0.0), against=other
    )
    assert 5_000 < len(found) < 15_000  # of 90,300
    caplog.clear()
    find_pairs(path, DedupConfig(max_hamming=None))
    assert not caplog.text


def test_features_are_those_of_brute_force(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((200, DIM)).astype(np.float32) + 0.5
    hashes = rng.integers(0, 2**63, 200).tolist()
    with EmbeddingStore.open(write_store(tmp_path / "s.h5", rows, phash=hashes)) as store:
        side = DedupInput(store)
        known = learn_background(side.rows, side, None)
        features = PairFeatures(side.rows, side.rows, side.hashes, side.hashes, known)
        first, second = rng.integers(0, 200, (2, 500))
        found = features.columns(first, second)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    common = np.sort(cosines, axis=1)[:, ::-1][:, 4:20].mean(1)
    white = known.whitening.apply(unit)
    bits = [(hashes[i] ^ hashes[j]).bit_count() for i, j in zip(first, second, strict=True)]
    expected = {
        "cosine": cosines[first, second],
        "whitened": (white @ white.T)[first, second],
        "normalised": cosines[first, second] - (common[first] + common[second]) / 2,
        "hamming": np.minimum(bits, 32),
    }
    for name in FEATURES:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6)


def test_of_few_rows_whitening_leaves_directions_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((4, DIM))
    values = np.linalg.svd(Whitening.learn(rows).matrix, compute_uv=False)
    assert values.max() / values.min() < 3


@pytest.mark.parametrize("count", [2, 3, 20])
def test_copies_alone_in_a_store_are_found(tmp_path: Path, count: int) -> None:
    """The calibration's own background shows how alike unrelated images are."""
    rng = np.random.default_rng(1)
    unrelated = rng.random((600, DIM)).astype(np.float32)
    unrelated /= np.linalg.norm(unrelated, axis=1, keepdims=True)
    one = rng.random(DIM)
    rows = (one + 0.02 * rng.standard_normal((count, DIM))).astype(np.float16)
    path = write_store(tmp_path / "s.h5", rows)
    alone = by_all_features()
    filled = replace(alone, background=unrelated)
    found = find_pairs(path, DedupConfig(calibration=filled, max_hamming=None))
    assert len(found) == count * (count - 1) // 2
    assert not len(find_pairs(path, DedupConfig(calibration=alone, max_hamming=None)))
    with EmbeddingStore.open(path) as store:
        background = learn_background(DedupInput(store).rows, DedupInput(store), filled)
    assert len(background.rows) == 512


def test_a_calibration_keeps_its_background(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((30, 20)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    replace(by_all_features(), background=rows).save(tmp_path / "c.json")
    found = Calibration.load(tmp_path / "c.json").background
    assert found is not None
    assert (found * rows).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("rank", [300, 40])
def test_few_rows_are_whitened_as_by_their_covariance(rank):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, rank)) @ rng.standard_normal((rank, 400))
    learnt = Whitening.learn(rows.astype(np.float32))
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / 300)
    values, vectors = values[-WHITENED:], vectors[:, -WHITENED:]
    added = 0.1 * (centred**2).sum() / 300 / WHITENED
    known = centred @ (vectors / np.sqrt(np.maximum(values, 0) + added))
    white = centred @ learnt.matrix
    np.testing.assert_allclose(white @ white.T, known @ known.T, rtol=1e-3, atol=1e-3)
