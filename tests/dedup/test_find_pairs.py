"""What `find_pairs` looks at, by brute force, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import draw_photo
from stores import make_meta, write_store

from embedkit.dedup import Pairs, find_pairs
from embedkit.dedup.candidates import ivf_join as cells
from embedkit.dedup.candidates.exact_join import exact_join
from embedkit.dedup.config import DedupConfig
from embedkit.dedup.scoring.calibration import Calibration, guessed_calibration
from embedkit.dedup.unit_rows import UnitRows
from embedkit.dedup.verification import batch as looking
from embedkit.dedup.verification import forest
from embedkit.errors import DecodeError, EmbedkitError, StoreError, StoreMismatchError
from embedkit.utils.progress import reporting

TELLING = 0xFFFFFFFF
CLUSTERED = st.lists(
    st.tuples(
        st.lists(st.integers(-2, 2), min_size=3, max_size=3),
        st.integers(0, 3),
        st.sampled_from([0, 1, TELLING, TELLING ^ 1, TELLING ^ 7, TELLING << 20]),
    ),
    max_size=12,
)


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def write(path: Path, images: list[tuple[list[int], int, int]]) -> tuple[Path, list]:
    """A store of images, of which those of the same bytes are the same image."""
    first_of = {number: n for n, (_, number, _) in reversed(list(enumerate(images)))}
    images = [images[first_of[number]] for _, number, _ in images]
    rows = np.array([image[0] for image in images], np.float32).reshape(-1, 3)
    hashes = [b"%032d" % image[1] for image in images]
    write_store(path, rows, phash=[image[2] for image in images], content_hash=hashes)
    return path, images


def is_near(a: tuple[list[int], int, int], b: tuple[list[int], int, int], floor: float) -> bool:
    """Whether two images are to be looked at: equal bytes, near embeddings, near hashes."""
    left, right = (np.array(image[0], np.float64) for image in (a, b))
    norms = np.linalg.norm(left) * np.linalg.norm(right)
    informative = min(a[2].bit_count(), b[2].bit_count()) >= 8
    return bool(
        a[1] == b[1]
        or (norms > 0 and left @ right >= floor * norms)
        or (informative and (a[2] ^ b[2]).bit_count() <= 2)
    )


def components(edges: set[tuple[int, int]], count: int) -> list[int]:
    group = list(range(count))
    for i, j in edges:
        group = [group[i] if g == group[j] else g for g in group]
    first = {g: group.index(g) for g in group}
    return [first[g] for g in group]


@settings(max_examples=80)
@given(CLUSTERED)
def test_every_pair_is_looked_at_or_joined_by_equals(images: list) -> None:
    """No pair but those to be looked at, and what equals left out is connected all the same."""
    with TemporaryDirectory() as folder:
        path, images = write(Path(folder) / "s.h5", images)
        found = as_set(find_pairs(path, DedupConfig(threshold=0.0, min_cosine=0.93, max_hamming=2)))
    count = len(images)
    every = {
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if is_near(images[i], images[j], 0.93)
    }
    assert found <= every
    assert components(found, count) == components(every, count)
    if len({tuple(i[0]) for i in images} | {i[1] for i in images} | {i[2] for i in images}) == (
        3 * count
    ):
        assert found == every


@settings(max_examples=80)
@given(CLUSTERED, CLUSTERED)
def test_every_leak_is_named(left: list, right: list) -> None:
    """Each row that has a copy in the other store is in a pair, and all pairs are true ones."""
    with TemporaryDirectory() as folder:
        path, left = write(Path(folder) / "a.h5", left)
        other, right = write(Path(folder) / "b.h5", right)
        found = as_set(
            find_pairs(
                path, DedupConfig(threshold=0.0, min_cosine=0.93, max_hamming=2), against=other
            )
        )
    every = {
        (i, j)
        for i in range(len(left))
        for j in range(len(right))
        if is_near(left[i], right[j], 0.93)
    }
    assert found <= every
    for side in (0, 1):
        assert {pair[side] for pair in found} == {pair[side] for pair in every}


def test_distinct_images_give_every_pair(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 24))
    rows = (centres[rng.integers(0, 10, 80)] + rng.standard_normal((80, 24)) * 0.4).astype("f4")
    path = write_store(tmp_path / "s.h5", rows)
    found = find_pairs(path, DedupConfig(threshold=0.0, min_cosine=0.8))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.argwhere(np.triu(unit @ unit.T >= 0.8, 1))
    assert len(expected) > 50
    assert np.stack([found.first, found.second], 1).tolist() == expected.tolist()
    np.testing.assert_allclose(found.cosine, (unit @ unit.T)[tuple(expected.T)], atol=1e-6)
    assert found.info.rows == 80
    assert found.info.mode == "exact"
    assert found.info.recall is None
    assert found.info.calibration == "none"


def test_columns_of_a_pair(tmp_path: Path) -> None:
    rows = np.eye(5, dtype=np.float32)
    rows[3] = rows[1] + 0.1 * rows[2]
    hashes = [b"%032d" % i for i in (0, 1, 2, 3, 0)]
    phash = [TELLING << 20, TELLING, TELLING << 31, TELLING ^ 7, TELLING << 20]
    path = write_store(tmp_path / "s.h5", rows, phash=phash, content_hash=hashes)
    found = find_pairs(path, DedupConfig(threshold=0.4))
    assert as_set(found) == {(0, 4), (1, 3)}
    assert found.exact.tolist() == [True, False]
    assert found.score[0] == 1
    assert 0.5 < found.score[1] < 1
    assert found.hamming.tolist() == [0, 3]
    assert found.cosine[1] == pytest.approx(1 / np.sqrt(1.01))
    assert found.verified.tolist() == [-1, -1]
    assert not found.how
    assert found.info.threshold == 0.4


@pytest.mark.parametrize(("count", "pairs"), [(32, 32 * 31 // 2), (33, 32)])
def test_few_of_one_hash_are_all_compared(tmp_path: Path, count: int, pairs: int) -> None:
    rows = np.eye(40, dtype=np.float32)[:count]
    path = write_store(tmp_path / "s.h5", rows, phash=[TELLING << 20] * count)
    found = find_pairs(path, DedupConfig(threshold=0.0, min_cosine=0.9, max_hamming=2))
    assert len(found) == pairs
    assert found.hamming.tolist() == [0] * pairs


def test_too_many_near_hashes_are_refused(tmp_path: Path) -> None:
    hashes = [TELLING ^ 1 << bit for bit in range(30)]
    path = write_store(tmp_path / "s.h5", np.eye(30, dtype=np.float32), phash=hashes)
    with pytest.raises(EmbedkitError, match="more than 400 pairs of perceptual hashes"):
        find_pairs(path, DedupConfig(min_cosine=0.9, max_pairs=400))
    assert len(find_pairs(path, DedupConfig(threshold=0.0, min_cosine=0.9, max_pairs=435))) == 435


def test_thousands_of_one_image_are_a_star(tmp_path: Path) -> None:
    rows = np.ones((10_000, 8), np.float16)
    one = write_store(tmp_path / "a.h5", rows)
    found = find_pairs(one, DedupConfig(threshold=0.0))
    assert as_set(found) == {(0, row) for row in range(1, 10_000)}
    hashes = [b"b%031d" % row for row in range(4000)]
    other = write_store(
        tmp_path / "b.h5", rows[:4000], content_hash=hashes, phash=range(TELLING, TELLING + 4000)
    )
    found = find_pairs(one, DedupConfig(threshold=0.0), against=other)
    assert len(found) == 13_999
    assert set(found.first.tolist()) == set(range(10_000))
    assert set(found.second.tolist()) == set(range(4000))


def test_zero_embeddings_are_like_nothing(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.h5", np.zeros((50, 4), np.float16))
    assert len(find_pairs(path, DedupConfig(threshold=0.0))) == 0


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("mode", ["exact", "approximate"])
def test_nothing_to_compare(tmp_path: Path, count: int, mode: str) -> None:
    path = write_store(tmp_path / "s.h5", np.ones((count, 4), np.float32))
    assert len(find_pairs(path, DedupConfig(mode=mode))) == 0
    two = write_store(tmp_path / "t.h5", np.ones((2, 4), np.float32))
    assert len(find_pairs(path, DedupConfig(mode=mode, threshold=0.0), against=two)) == 2 * count


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    rows = np.ones((4, 4), np.float32)
    rows[2, 1] = bad
    with pytest.raises(StoreError, match=r"2\.jpg isn't finite"):
        find_pairs(write_store(tmp_path / "s.h5", rows))


def test_stores_of_different_backbones_are_refused(tmp_path: Path) -> None:
    one = write_store(tmp_path / "a.h5", np.ones((2, 4), np.float32))
    two = write_store(tmp_path / "b.h5", np.ones((2, 4), np.float32), backbone="other")
    with pytest.raises(StoreMismatchError, match="backbone"):
        find_pairs(one, against=two)
    with pytest.raises(EmbedkitError, match="calibration 'none' is for other"):
        find_pairs(one, DedupConfig(calibration=guessed_calibration(make_meta(backbone="other"))))


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"mode": "quick"},
        {"min_cosine": -2},
        {"max_hamming": 65},
        {"candidates_per_image": -5},
        {"candidates_per_image": float("nan")},
    ],
)
def test_bad_arguments(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DedupConfig(**bad)


def test_no_pair_scores_less_than_the_result_states(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    rows[3:] = rows[:3] + 0.45 * np.random.default_rng(1).standard_normal((3, 16))
    path = write_store(tmp_path / "s.h5", rows)
    guess = guessed_calibration(make_meta())
    for least, count in ((0.6, 2), (0.99, 0)):
        calibration = replace(guess, thresholds=((1.0, least),))
        found = find_pairs(path, DedupConfig(calibration=calibration, max_hamming=None))
        assert found.info.threshold == least
        assert (found.score >= np.float32(least)).all()
        assert len(found) == count


def test_a_view_finds_what_the_image_itself_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 64)).astype(np.float32)
    mirrored = rng.standard_normal((30, 64)).astype(np.float32)
    rows[20], rows[3] = mirrored[4], mirrored[11]
    path = write_store(tmp_path / "s.h5", rows)
    assert len(find_pairs(path)) == 0
    found = find_pairs(path, views={"flip": mirrored})
    assert as_set(found) == {(4, 20), (3, 11)}
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    plain = np.einsum("nd,nd->n", unit[found.first], unit[found.second])
    np.testing.assert_allclose(found.cosine, plain, atol=1e-6)  # as stored, not as seen
    other = write_store(
        tmp_path / "t.h5", rows[[20, 3]], content_hash=[b"x" * 32, b"y" * 32], phash=[0, 0]
    )
    found = find_pairs(path, against=other, views={"other": -rows, "flip": mirrored})
    assert as_set(found) == {(20, 0), (4, 0), (3, 1), (11, 1)}
    with pytest.raises(ValueError, match=r"the view 'flip' is \(29, 64\)"):
        find_pairs(path, views={"flip": mirrored[1:]})
    mirrored[2, 2] = np.nan
    with pytest.raises(ValueError, match="row 2 of the view 'flip' isn't finite"):
        find_pairs(path, views={"flip": mirrored})


def test_cells_find_most_and_say_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 12)).astype(np.float32)
    rows[300:] = rows[:300] + rng.standard_normal((300, 12)).astype(np.float32) * 0.25
    exact = exact_join(UnitRows(rows), 0.8)
    unit = UnitRows(rows)
    found = cells.ivf_join(unit, 0.8, max_pairs=10_000, rows_a_cell=30)
    wanted, got = (
        set(zip(side[0].tolist(), side[1].tolist(), strict=True)) for side in (exact, found)
    )
    assert got <= wanted
    assert 0.5 < len(got) / len(wanted) < 1
    monkeypatch.setattr(cells, "_SAMPLED", 600)
    measured = cells.measure_recall(found, unit, 0.8, against=None, max_pairs=10_000)
    assert measured == pytest.approx(len(got) / len(wanted))
    path = write_store(tmp_path / "s.h5", rows)
    pairs = find_pairs(path, DedupConfig(mode="approximate", min_cosine=0.8, threshold=0.0))
    assert pairs.info.mode == "approximate"
    assert pairs.info.recall == 1.0  # one cell


def test_cells_against_another_store() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 12)).astype(np.float32)
    other = rows[::2] + rng.standard_normal((150, 12)).astype(np.float32) * 0.1
    found = cells.ivf_join(
        UnitRows(rows), 0.9,
        against=UnitRows(other), max_pairs=10_000, rows_a_cell=30,
    )  # fmt: skip
    exact = exact_join(UnitRows(rows), 0.9, against=UnitRows(other))
    missed = len(exact[0]) - len(found[0])
    assert 0 <= missed < len(exact[0]) * 0.1
    share = cells.measure_recall(
        found, UnitRows(rows), 0.9, against=UnitRows(other), max_pairs=10_000
    )
    assert share == pytest.approx(1 - missed / len(exact[0]))


@pytest.fixture
def photos() -> dict[str, np.ndarray]:
    """Ten photos; the last but one is the first, mirrored and cropped, the last can't be read."""
    pixels = {f"{n}.jpg": np.asarray(draw_photo(n)) for n in range(8)}
    pixels["8.jpg"] = pixels["0.jpg"][20:220, 30:300][:, ::-1]
    return pixels


def load_from(photos: dict[str, np.ndarray]) -> object:
    def load(name: str) -> np.ndarray:
        if name not in photos:
            raise DecodeError(name, "gone")
        return photos[name]

    return load


def test_pixels_decide(
    tmp_path: Path, photos: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(looking.PairComparer.__init__.__kwdefaults__, "images_kept", 2)
    monkeypatch.setattr(forest, "_PAIRS_AT_ONCE", 3)
    rng = np.random.default_rng(0)
    rows = (1 + 0.3 * rng.standard_normal((10, 32))).astype(np.float32)  # all alike, a little
    path = write_store(tmp_path / "s.h5", rows)
    told = []
    with reporting(told.append):
        found = find_pairs(
            path, DedupConfig(threshold=0.0, min_cosine=0.5), verify=load_from(photos)
        )
    told = [(one.stage, one.done, one.total) for one in told]
    assert len(found) == 36  # nine pairs can't be read
    assert (found.first < 9).all()
    assert (found.second < 9).all()
    copies = (found.first == 0) & (found.second == 8)
    assert found.verified[copies].tolist() == [1]
    assert (found.verified[~copies] == 0).all()
    assert found.score[copies] > 0.5 > found.score[~copies].max()
    how = found.how[int(np.flatnonzero(copies)[0])]
    assert how["flip"] is True
    np.testing.assert_allclose(how["crop"], [30 / 320, 20 / 240, 300 / 320, 220 / 240], atol=0.02)
    assert ("verifying pairs", 45, 45) in told
    assert {what for what, _, _ in told} >= {"finding the nearest images"}


def test_a_calibration_appears_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guess = guessed_calibration(make_meta())
    path = tmp_path / "c.json"
    guess.save(path)
    with pytest.raises(StoreError, match="can't be written"):
        guess.save(tmp_path / "none" / "c.json")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        guess.save(path)
    assert Calibration.load(path) == guess
    assert list(tmp_path.iterdir()) == [path]


def test_a_given_calibration_scores(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    rows[1] = rows[0] + rows[1] * 0.3
    path = write_store(tmp_path / "s.h5", rows)
    guess = guessed_calibration(make_meta(feature_dim=4))
    config = guess.to_config()
    config["plain"]["bias"] += 3.0
    config["name"] = "mine"
    sure = find_pairs(path, DedupConfig(calibration=Calibration.from_config(config), threshold=0.0))
    unsure = find_pairs(path, DedupConfig(calibration=guess, threshold=0.0))
    assert sure.info.calibration == "mine"
    odds = [np.log(p.score[0] / (1 - p.score[0])) for p in (sure, unsure)]
    assert odds[0] - odds[1] == pytest.approx(3.0, abs=1e-3)


def test_pairs_that_can_not_be_looked_at_are_none(
    tmp_path: Path, photos: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.h5", (1 + 0.3 * rng.standard_normal((10, 32))).astype("f4"))
    found = find_pairs(path, verify=load_from(photos))
    assert as_set(found) == {(0, 8)}
    assert found.verified.tolist() == [1]
    assert 0.5 <= found.info.threshold <= found.score[0]
    assert "9 of 45 pairs can't be verified" in caplog.text
    assert len(find_pairs(path, verify=load_from({}))) == 0
