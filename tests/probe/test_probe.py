"""Probes: against scikit-learn, against plain loops, and end to end on stores of drawn features."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from stores import write_store

from embedkit.errors import (
    EmbedkitError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreMismatchError,
)
from embedkit.probe import LinearProbe, load_probe, run_probe
from embedkit.probe.c_search import fit_linear
from embedkit.probe.evaluation import Predictions
from embedkit.probe.knn import nearest, votes
from embedkit.probe.logistic import LogisticProblem
from embedkit.probe.metrics import (
    confusion_matrix,
    digits,
    measure_classes,
    r_squared,
)
from embedkit.probe.predict import predict
from embedkit.probe.report import write_probe
from embedkit.probe.ridge import RidgeProblem
from embedkit.probe.rotated_features import Features
from embedkit.probe.rows import Rows
from embedkit.probe.splits import draw_shots, hash_ids, split_off
from embedkit.probe.targets import Targets, read_targets
from embedkit.report.probe_page import draw_confusion
from embedkit.store import EmbeddingStore
from embedkit.utils.knn_votes import TEMPERATURE
from embedkit.utils.vectors import unit_rows

CS = (1e-2, 1.0, 1e2)


def draw(count, dim, classes, seed=0, spread=1.0, draw_seed=1):
    """Features around a centre for each class, and the classes."""
    rng = np.random.default_rng(draw_seed)
    centres = np.random.default_rng(seed).standard_normal((classes, dim))
    truth = np.arange(count) % classes
    noise = rng.standard_normal((count, dim)) * np.linspace(2, 0.1, dim)
    return (centres[truth] + spread * noise + 1).astype(np.float32), truth


def targets_of(values, names, task="classes"):
    ids = tuple(f"{row}.jpg" for row in range(len(values)))
    return Targets(task, names, np.arange(len(values)), ids, values)


@pytest.fixture
def stores(tmp_path):
    """A training and a test store of five classes, 16 dimensions."""
    names = ["ant", "bee", "cat", "dog", "<b>eel</b>"]
    paths = []
    for number, count in enumerate((150, 60)):
        rows, truth = draw(count, 16, 5, draw_seed=number)
        ids = [f"{number}/{row}.jpg" for row in range(count)]
        labels = [names[one] for one in truth]
        hashes = [hashlib.sha256(one.encode()).digest() for one in ids]
        phash = [int.from_bytes(one[:8], "big") for one in hashes]
        paths.append(
            write_store(
                tmp_path / f"{number}.h5",
                rows.astype(np.float16),
                ids=ids,
                labels=labels,
                content_hash=hashes,
                phash=phash,
            )
        )
    return paths


@pytest.mark.parametrize("memory", [2**31, 0], ids=["kept", "streamed"])
@pytest.mark.parametrize(("count", "dim"), [(200, 12), (40, 60)])
@pytest.mark.parametrize("c", CS)
def test_logistic_regression_is_scikit_learns(count, dim, c, memory):
    raw, truth = draw(count, dim, 4, spread=2)
    rows = unit_rows(raw)
    features = Features(Rows(raw), memory=memory)
    assert features.is_kept == (memory > 0)
    found = LogisticProblem(features, torch.from_numpy(truth), 4).solve(c)
    exact = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(rows.astype(float), truth)
    weight = (found.weight @ features.axes.T).numpy()
    bias = found.bias.numpy() - weight @ features.mean.numpy()
    logits = rows @ weight.T + bias
    wanted = exact.decision_function(rows.astype(float))
    logits, wanted = (one - one.mean(axis=1, keepdims=True) for one in (logits, wanted))
    assert np.abs(logits - wanted).max() < 1e-3 * np.abs(wanted).max()
    assert found.converged


def test_single_precision_is_near_enough(monkeypatch):
    raw, truth = draw(300, 20, 4, spread=2)
    known = torch.from_numpy(truth)
    exact = LogisticProblem(Features(Rows(raw)), known, 4).solve(100)
    monkeypatch.setattr("embedkit.probe.rotated_features._DOUBLE_VALUES", 0)
    features = Features(Rows(raw))
    assert features.dtype == torch.float32
    found = LogisticProblem(features, known, 4).solve(100)
    assert found.value == pytest.approx(exact.value, rel=1e-4)


@pytest.mark.parametrize("memory", [2**31, 0], ids=["kept", "streamed"])
def test_c_is_chosen_in_single_precision_as_in_double(memory):
    raw, truth = draw(300, 20, 4, spread=2)
    rows = unit_rows(raw).astype(float)
    known = targets_of(truth, ("a", "b", "c", "d"))
    features = Features(Rows(raw), memory=memory)
    rough = features.in_single_precision()
    assert (features.dtype, rough.dtype) == (torch.float64, torch.float32)
    found = fit_linear(features, known, 240, cs=CS)
    exact = LogisticRegression(C=found.c, tol=1e-10, max_iter=10_000).fit(rows, truth)
    weight, wanted = (one - one.mean(axis=0) for one in (found.weight, exact.coef_))
    assert np.abs(weight - wanted).max() < 1e-3 * np.abs(wanted).max()
    for one in found.swept:
        held_out = LogisticRegression(C=one.c, tol=1e-8, max_iter=10_000)
        held_out.fit(rows[:240], truth[:240])
        assert one.score == pytest.approx(held_out.score(rows[240:], truth[240:]), abs=0.02)


@pytest.mark.parametrize("little", [0, 2e8], ids=["large", "small"])
def test_small_problems_take_one_thread(monkeypatch, stores, little):
    threads = []

    def spied(*args, **options):
        threads.append(torch.get_num_threads())
        return fit_linear(*args, **options)

    before = torch.get_num_threads()
    monkeypatch.setattr("embedkit.probe.train._LITTLE_WORK", little)
    monkeypatch.setattr("embedkit.probe.train.fit_linear", spied)
    monkeypatch.setattr("embedkit.utils.threads.usable_cores", lambda: 2)
    torch.set_num_threads(3)
    try:
        run_probe("linear", stores[0], cs=CS)
        assert (threads, torch.get_num_threads()) == ([2 if little == 0 else 1], 3)
    finally:
        torch.set_num_threads(before)


def test_one_against_the_rest_is_scikit_learns():
    raw, truth = draw(200, 10, 4, spread=2)
    marks = np.stack([truth == 0, truth <= 1, truth % 2 == 1], axis=1).astype(np.float32)
    features = Features(Rows(raw))
    found = LogisticProblem(features, torch.from_numpy(marks), 3).solve(10)
    weight = (found.weight @ features.axes.T).numpy()
    for label in range(3):
        exact = LogisticRegression(C=10, tol=1e-10, max_iter=10_000)
        exact.fit(unit_rows(raw).astype(float), marks[:, label])
        assert weight[label] == pytest.approx(exact.coef_[0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("memory", [2**31, 0], ids=["kept", "streamed"])
def test_ridge_regression_is_scikit_learns(memory):
    raw, _ = draw(120, 10, 3)
    rows = unit_rows(raw).astype(float)
    wanted = (rows @ np.arange(10) + 5 + np.random.default_rng(0).normal(0, 0.1, 120))[:, None]
    features = Features(Rows(raw), memory=memory)
    part = RidgeProblem(features, torch.from_numpy(wanted), 1, 90)
    found = part.solve(20.0)
    exact = Ridge(alpha=1 / 20).fit(rows[:90], wanted[:90, 0])
    said = torch.cat(list(part.logits(found, 90, 120))).numpy()[:, 0]
    assert said == pytest.approx(exact.predict(rows[90:]), rel=1e-4)


def test_votes_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr("embedkit.probe.knn._TRAINING", 7)  # several blocks
    raw, truth = draw(40, 6, 3, spread=3)
    others, _ = draw(9, 6, 3, spread=3, draw_seed=5)
    known = targets_of(truth, ("a", "b", "c"))
    (found,) = nearest(Rows(others), Rows(raw), 10)
    by_k = dict(zip((5, 10), votes(found, known, (5, 10)), strict=True))
    cosines = unit_rows(others).astype(float) @ unit_rows(raw).astype(float).T
    for k, shares in by_k.items():
        for query in range(9):
            best = sorted(range(40), key=lambda row: -cosines[query, row])[:k]
            weights = dict.fromkeys(range(3), 0.0)
            for row in best:
                weights[truth[row]] += np.exp(cosines[query, row] / TEMPERATURE)
            wanted = np.array(list(weights.values())) / sum(weights.values())
            assert shares[query] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("size", [7, 64, 16384])
def test_of_equal_neighbours_the_first_rows_count(monkeypatch, size):
    monkeypatch.setattr("embedkit.probe.knn._TRAINING", size)
    monkeypatch.setattr("embedkit.probe.knn._TIED", 3)
    rng = np.random.default_rng(0)
    rows = rng.integers(-2, 3, (300, 4)).astype(np.float32)  # small whole numbers: exact products
    asked = rows[:20]
    (found,) = nearest(Rows(asked, normalize=False), Rows(rows, normalize=False), 10)
    products = asked @ rows.T
    wanted = [np.lexsort((np.arange(300), -line))[:10] for line in products]
    assert (found.rows == wanted).all()
    assert (found.cosines == np.take_along_axis(products, found.rows, axis=1)).all()


@pytest.mark.parametrize("size", [7, 100, 16384])
@pytest.mark.parametrize("copies", [6, 100])
def test_copies_are_neighbours_in_the_order_of_their_rows(monkeypatch, size, copies):
    monkeypatch.setattr("embedkit.probe.knn._TRAINING", size)
    base = np.random.default_rng(0).standard_normal((9, 33)).astype(np.float32)
    rows = np.tile(base, (copies, 1))
    (many,) = nearest(Rows(base), Rows(rows), 50)
    (few,) = nearest(Rows(base), Rows(rows), 10)
    assert (few.rows == many.rows[:, :10]).all()
    first = np.arange(9)[:, None] + 9 * np.arange(min(copies, 10))
    assert (few.rows[:, :copies] == first).all()
    for number in range(9):  # alone, it has the same neighbours
        (alone,) = nearest(Rows(base[number : number + 1]), Rows(rows), 10)
        assert (alone.rows[0] == few.rows[number]).all()
        assert (alone.cosines[0] == few.cosines[number]).all()


def test_an_image_is_no_neighbour_of_itself():
    raw, _ = draw(30, 6, 3)
    drawn = np.array([3, 17, 29])
    rows = Rows(raw)
    (found,) = nearest(rows.take(drawn), rows, 5, own=drawn)
    (with_itself,) = nearest(rows.take(drawn), rows, 6)
    assert (with_itself.rows[:, 0] == drawn).all()
    assert (found.rows == with_itself.rows[:, 1:]).all()


def test_neighbours_that_are_numbers_give_their_weighted_mean():
    raw, _ = draw(20, 6, 3)
    known = targets_of(np.arange(20.0)[:, None], ("age",), "regression")
    (found,) = nearest(Rows(raw[:2]), Rows(raw), 3)
    (said,) = votes(found, known, [3])
    weights = np.exp(found.cosines / TEMPERATURE)
    assert said[:, 0] == pytest.approx((weights * found.rows).sum(1) / weights.sum(1), rel=1e-5)


def test_splits_are_stratified_and_depend_on_ids_alone():
    ids = [f"{row}.jpg" for row in range(101)]
    strata = np.arange(101) % 4
    strata[100] = 9  # a class of one image
    aside = split_off(ids, strata, 0.2, "1")
    assert np.bincount(strata[aside], minlength=10).tolist() == [5, 5, 5, 5, 0, 0, 0, 0, 0, 0]
    order = np.random.default_rng(0).permutation(101)
    again = split_off([ids[i] for i in order], strata[order], 0.2, "1")
    assert (again == aside[order]).all()
    assert (split_off(ids, strata, 0.2, "2") != aside).any()
    chosen = {ids[i] for i in np.flatnonzero(aside)}
    assert hash_ids(chosen) == hash_ids(sorted(chosen, reverse=True))
    with pytest.raises(ValueError, match="above 0"):
        split_off(ids, strata, 1.0, "1")


def test_shots():
    ids = [f"{row}.jpg" for row in range(20)]
    strata = np.arange(20) % 2
    drawn = draw_shots(ids, strata, 3, "0")
    assert np.bincount(strata[drawn]).tolist() == [3, 3]
    assert (draw_shots(ids, strata, 5, "0") >= drawn).all()  # more shots hold the fewer
    with pytest.raises(ValueError, match="only 10"):
        draw_shots(ids, strata, 11, "0")


def test_r_squared_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, said = rng.standard_normal((2, 50))
    assert r_squared(said, truth) == pytest.approx(r2_score(truth, said))


def test_measures_of_classes():
    truth = np.array([0, 0, 0, 1, 2, 5])
    top = np.array([[0, 1, 2, 3, 4]] * 6)
    found = measure_classes(top, truth, 6, 0)
    assert found["top1"].value == 3 / 6
    assert found["top5"].value == 5 / 6
    assert found["mean_per_class"].value == pytest.approx(1 / 4)
    assert found["mean_per_class"].low <= 1 / 4 <= found["mean_per_class"].high
    counts = confusion_matrix(top[:, 0], truth, 6)
    assert counts[:, 0].tolist() == [3, 1, 1, 0, 0, 1]
    assert counts.sum() == 6


def test_the_best_five_of_many_classes():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 40, (50, 60)).astype(np.float32)  # with ties
    truth = targets_of(rng.integers(0, 60, 50), tuple(map(str, range(60))))
    predictions = Predictions(truth)
    predictions.add(scores)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    wanted = (top == truth.values[:, None]).any(axis=1).mean()
    assert predictions.measures(0)["top5"].value == wanted


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_probe_of_two_stores(stores, tmp_path, kind):
    train, test = stores
    result = run_probe(kind, train, test=test, cs=CS)
    (run,) = result.runs
    assert run.measures["top1"].value > 0.8
    assert (run.training_images, run.test_images) == (150, 60)
    assert run.leaks.images == 0
    assert result.confusion.sum() == 60
    hits = np.trace(result.confusion) / 60
    assert run.measures["top1"].value == pytest.approx(hits)
    folder = write_probe(result, tmp_path / "probe")
    probe = load_probe(folder)
    ids, names = zip(
        *(
            (one, top)
            for b in predict(folder, test, 1)
            for one, (top,) in zip(b.ids, b.names, strict=True)
        ),
        strict=True,
    )
    assert ids == tuple(f"1/{row}.jpg" for row in range(60))
    classes = sorted(["ant", "bee", "cat", "dog", "<b>eel</b>"])
    wanted = [["ant", "bee", "cat", "dog", "<b>eel</b>"][row % 5] for row in range(60)]
    assert probe.names == tuple(classes)
    assert np.mean([a == b for a, b in zip(names, wanted, strict=True)]) == pytest.approx(hits)
    told = json.loads((folder / "report.json").read_text())
    assert told["runs"][0]["measures"]["top1"]["value"] == run.measures["top1"].value
    page = (folder / "report.html").read_text("utf-8")
    assert "<b>eel" not in page
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "confusion.json").read_text())["classes"] == classes


def test_same_seed_same_report(stores, tmp_path):
    train, _ = stores
    pages = []
    for name, seed in (("a", 0), ("b", 0)):
        folder = write_probe(run_probe("linear", train, cs=CS, seed=seed), tmp_path / name)
        names = ("report.json", "report.html", "confusion.png", "probe.safetensors")
        pages.append([(folder / one).read_bytes() for one in names])
    assert pages[0] == pages[1]
    hashes = {run_probe("knn", train, seed=seed).runs[0].test_hash for seed in (0, 1)}
    assert len(hashes) == 2


def test_shots_are_drawn_and_summarized(stores):
    train, _ = stores
    result = run_probe("knn", train, shots=[1, 5], trials=3)
    wanted = [(shots, trial) for shots in (1, 5) for trial in range(3)]
    assert [(run.shots, run.trial) for run in result.runs] == wanted
    assert [run.training_images for run in result.runs] == [5] * 3 + [25] * 3
    assert len({run.training_hash for run in result.runs}) == 6
    linear = run_probe("linear", train, shots=[1], trials=1, cs=CS)
    assert linear.runs[0].chosen == {"c": 1.0}  # nothing could be held out
    assert linear.runs[0].tried == ()


def test_a_single_c_is_fitted_once_on_all(stores):
    train, test = stores
    (run,) = run_probe("linear", train, test=test, cs=(0.5,)).runs
    assert (run.chosen, run.tried) == ({"c": 0.5}, ())
    with EmbeddingStore.open(train) as known, EmbeddingStore.open(test) as asked:
        peer = LogisticRegression(C=0.5, tol=1e-9, max_iter=10_000)
        peer.fit(unit_rows(known.to_numpy()), known.labels)
        hits = peer.predict(unit_rows(asked.to_numpy())) == np.array(asked.labels)
    assert run.measures["top1"].value == hits.mean()


def test_copies_across_the_split_are_found(stores, tmp_path, caplog):
    rows, truth = draw(50, 16, 5)
    rows[49] = rows[4] * 3  # the same direction
    hashes = [hashlib.sha256(b"%d" % row).digest() for row in range(50)]
    train = write_store(
        tmp_path / "a.h5", rows[:40], labels=[str(c) for c in truth[:40]], content_hash=hashes[:40]
    )
    test = write_store(
        tmp_path / "b.h5",
        rows[40:],
        labels=[str(c) for c in truth[40:]],
        content_hash=[hashes[7], *hashes[41:]],
        phash=[2**63 + 12345 + row for row in range(10)],
    )
    with caplog.at_level("WARNING", "embedkit"):
        result = run_probe("knn", train, test=test)
    leaks = result.runs[0].leaks
    assert (leaks.images, leaks.same_bytes, leaks.same_phash, leaks.similar) == (2, 1, 0, 1)
    assert leaks.examples[0][:2] == (9, 4)
    assert "2 of the test images have a near-duplicate" in caplog.text
    assert run_probe("knn", train, test=test, check_leaks=False).runs[0].leaks is None


def test_another_backbone_is_refused(stores, tmp_path):
    train, _ = stores
    rows, truth = draw(20, 16, 2)
    labels = ["ant" if one else "bee" for one in truth]
    other = write_store(tmp_path / "other.h5", rows, labels=labels, weights_fingerprint="a" * 64)
    with pytest.raises(StoreMismatchError, match="weights_fingerprint"):
        run_probe("knn", train, test=other)
    folder = write_probe(run_probe("knn", train), tmp_path / "probe")
    with pytest.raises(StoreMismatchError, match=r"weights_fingerprint.*; give images, or a store"):
        predict(folder, other)


def test_unknown_classes_and_missing_labels_are_told(stores, tmp_path):
    train, _ = stores
    rows, _ = draw(4, 16, 2)
    other = write_store(tmp_path / "other.h5", rows, labels=["ant", "yak", "ant", "bee"])
    with pytest.raises(EmbedkitError, match="yak"):
        run_probe("knn", train, test=other)
    bare = write_store(tmp_path / "bare.h5", rows)
    with pytest.raises(EmbedkitError, match="has no labels"):
        run_probe("knn", bare)
    with pytest.raises(ValueError, match="give one of"):
        run_probe("knn", train, test=train, split=0.5)
    with pytest.raises(ValueError, match="seed must be at least 0, not -5"):
        run_probe("knn", train, seed=-5)
    with pytest.raises(ValueError, match="knn or linear"):
        run_probe("svm", train)


def test_images_without_a_label_are_left_out(tmp_path):
    rows, truth = draw(40, 8, 2)
    labels = [None if row % 10 == 0 else str(one) for row, one in enumerate(truth)]
    store = write_store(tmp_path / "a.h5", rows, labels=labels)
    result = run_probe("knn", store)
    assert result.unlabelled == 4
    assert sum((result.runs[0].training_images, result.runs[0].test_images)) == 36


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_several_labels(tmp_path, kind):
    rows, truth = draw(120, 12, 4)
    names = [["red|round", "red", "blue|round", "blue"][one] for one in truth]
    store = write_store(tmp_path / "a.h5", rows, labels=names)
    result = run_probe(kind, store, task="multilabel", cs=CS)
    assert result.probe.names == ("blue", "red", "round")
    assert result.runs[0].measures["mAP"].value > 0.95
    assert result.confusion is None
    folder = write_probe(result, tmp_path / "probe")
    batch = next(predict(folder, store, 3))
    assert batch.scores.shape == (120, 3)
    by_name = [dict(zip(n, s, strict=True)) for n, s in zip(batch.names, batch.scores, strict=True)]
    round_ = np.array([one["round"] for one in by_name])
    assert round_[truth % 2 == 0].mean() > 0.5 > round_[truth % 2 == 1].mean()


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_numbers_from_a_file(tmp_path, kind):
    rows, _ = draw(300, 6, 1, spread=1)
    ages = unit_rows(rows) @ np.arange(6) * 10 + 3
    store = write_store(tmp_path / "a.h5", rows, source=("photos/",))
    table = tmp_path / "ages.csv"
    lines = [f"{row}.jpg,{age}" for row, age in enumerate(ages)]
    table.write_text("\n".join(["id,age", *lines]))
    result = run_probe(
        kind, store, task="regression", labels=str(table), label_column="age", split=0.3
    )
    measures = result.runs[0].measures
    assert measures["R2"].value > (0.99 if kind == "linear" else 0.6)
    assert measures["MAE"].low <= measures["MAE"].value <= measures["MAE"].high
    folder = write_probe(result, tmp_path / "probe")
    batch = next(predict(folder, store))
    assert batch.names[0] == ("age",)
    table.write_text("id,age\n0.jpg,old\n")
    with pytest.raises(EmbedkitError, match="'old' is no number"):
        run_probe(kind, store, task="regression", labels=str(table), label_column="age")


@pytest.mark.parametrize("kind", ["knn", "linear"])
@pytest.mark.parametrize("offset", [0.0, 1.7e9, -20_240_101_000.0])
def test_figures_of_numbers_depend_on_no_offset(tmp_path, kind, offset):
    rows, _ = draw(300, 6, 1, spread=1)
    ages = unit_rows(rows).astype(float) @ np.arange(6) * 10
    store = write_store(tmp_path / "a.h5", rows, labels=[repr(float(age)) for age in ages])
    moved = write_store(tmp_path / "b.h5", rows, labels=[repr(float(age + offset)) for age in ages])
    told, other = (run_probe(kind, one, task="regression") for one in (store, moved))
    for name, figure in told.runs[0].measures.items():
        assert other.runs[0].measures[name].value == pytest.approx(figure.value, abs=1e-4)
    assert other.runs[0].chosen == told.runs[0].chosen
    folder = write_probe(other, tmp_path / "probe")
    (batch,) = predict(folder, moved)
    assert batch.scores.dtype == np.float64
    assert batch.scores == pytest.approx(other.probe.scores(rows), abs=1e-4)
    assert r_squared(batch.scores[:, 0], ages + offset) > 0.6


def test_probes_of_numbers_in_float32_are_read(tmp_path):
    rows, _ = draw(40, 6, 1)
    store = write_store(tmp_path / "a.h5", rows, labels=[f"{row}.5" for row in range(40)])
    result = run_probe("linear", store, task="regression")
    probe = result.probe
    older = replace(probe, weight=probe.weight.astype("f4"), bias=probe.bias.astype("f4"))
    folder = write_probe(replace(result, probe=older), tmp_path / "probe")
    said = next(predict(folder, store)).scores
    assert said == pytest.approx(probe.scores(rows), rel=1e-4)


def test_numbers_that_are_too_large_are_refused(tmp_path):
    rows, _ = draw(10, 6, 1)
    store = write_store(tmp_path / "a.h5", rows, labels=[f"{row}e300" for row in range(10)])
    with pytest.raises(EmbedkitError, match=r"a label of 9e\+300: .* a larger unit"):
        run_probe("knn", store, task="regression")


def test_test_images_may_be_of_one_class(stores, tmp_path):
    train, _ = stores
    rows, truth = draw(50, 16, 5, draw_seed=3)
    ants = write_store(tmp_path / "ants.h5", rows[truth == 0], labels=["ant"] * 10)
    (run,) = run_probe("knn", train, test=ants).runs
    assert run.test_images == 10
    assert run.measures["mean_per_class"].value == run.measures["top1"].value > 0.5
    with pytest.raises(EmbedkitError, match="all images have the label 'ant'"):
        run_probe("knn", ants, test=train)


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_figures_that_the_images_do_not_tell_are_null(tmp_path, kind):
    rows, _ = draw(60, 6, 1)
    same = write_store(tmp_path / "same.h5", rows, labels=["0.1"] * 60)
    marked = write_store(tmp_path / "marked.h5", rows, labels=["red|round", "blue"] * 30)
    bare = write_store(tmp_path / "bare.h5", rows, labels=["|"] * 60)
    numbers = run_probe(kind, same, task="regression", cs=CS)
    marks = run_probe(kind, marked, test=bare, task="multilabel", cs=CS)
    for name, result in {"R2": numbers, "mAP": marks}.items():
        folder = write_probe(result, tmp_path / name)
        text = (folder / "report.json").read_text()
        assert "NaN" not in text
        figure = json.loads(text)["runs"][0]["measures"][name]
        assert figure == {"value": None, "low": None, "high": None, "interval": "bootstrap"}
        assert "nan" not in (folder / "report.html").read_text("utf-8").split("<table", 1)[1]
    assert numbers.runs[0].measures["MAE"].value == pytest.approx(0, abs=1e-6)
    with pytest.raises(EmbedkitError, match="no image has a label"):
        run_probe(kind, bare, task="multilabel")


def test_blanks_around_labels_do_not_count(tmp_path):
    rows, _ = draw(20, 6, 1)
    store = write_store(tmp_path / "a.h5", rows, labels=["red | round", "red|blue "] * 10)
    with EmbeddingStore.open(store) as opened:
        assert read_targets(opened, task="multilabel").names == ("blue", "red", "round")


def test_a_large_number_is_shown_with_all_its_digits():
    shown = [digits(one) for one in (0.123456, 12.3456, 20240101.25, -1.7e9 - 3, 1e50)]
    assert shown == ["0.1235", "12.35", "20240101.25", "-1700000003", "1e+50"]


def test_a_damaged_probe_is_refused(stores, tmp_path):
    folder = write_probe(run_probe("linear", stores[0], cs=CS), tmp_path / "probe")
    assert isinstance(load_probe(folder), LinearProbe)
    data = bytearray((folder / "probe.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "probe.safetensors").write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"probe\.json names"):
        load_probe(folder)
    (folder / "probe.json").write_text('{"format": "other"}')
    with pytest.raises(StoreError, match="not the manifest of a probe"):
        load_probe(folder)
    with pytest.raises(StoreError, match="not a probe"):
        load_probe(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [("knn", "k", "Infinity"), ("linear", "c", "1" + "0" * 400), ("knn", "k", "NaN")],
)
def test_settings_out_of_range_are_refused(stores, tmp_path, kind, name, value):
    folder = write_probe(run_probe(kind, stores[0], cs=CS), tmp_path / "probe")
    told = json.loads((folder / "probe.json").read_text())
    told["settings"][name] = "?"
    del told["sha256"]  # as an older version wrote it
    (folder / "probe.json").write_text(json.dumps(told).replace('"?"', value))
    with pytest.raises(StoreFormatError, match="not a probe"):
        load_probe(folder)


@pytest.mark.parametrize("dtype", ["f4", "?"])
def test_class_numbers_that_are_not_whole_are_refused(stores, tmp_path, dtype):
    result = run_probe("knn", stores[0])
    odd = replace(result.probe, values=result.probe.values.astype(dtype))
    folder = write_probe(replace(result, probe=odd), tmp_path / "probe")
    with pytest.raises(StoreFormatError, match="not whole numbers"):
        load_probe(folder)


def test_folders_that_are_no_probe_are_kept(stores, tmp_path):
    result = run_probe("knn", stores[0])
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    with pytest.raises(StoreError, match="is no probe"):
        write_probe(result, mine, overwrite=True)
    folder = write_probe(result, tmp_path / "probe")
    with pytest.raises(StoreError, match="overwrite=True"):
        write_probe(result, folder)
    assert write_probe(result, folder, overwrite=True) == folder


def test_the_least_c_tells_classes_too():
    raw, truth = draw(200, 12, 4)
    rows = unit_rows(raw).astype(float)
    for c in (1e-6, 1e-4):
        features = Features(Rows(raw))
        problem = LogisticProblem(features, torch.from_numpy(truth), 4)
        found = problem.solve(c, tolerance=1e-5)
        said = torch.cat(list(problem.logits(found, 0, 200))).argmax(dim=1).numpy()
        exact = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12).fit(rows, truth)
        assert (said == exact.predict(rows)).all()


def test_a_plot_takes_any_name():
    names = ["$x^2$ \\frac", "名前", "a\n\u202eb", "\udcff", "long " * 60]
    counts = np.arange(25).reshape(5, 5)
    drawn = draw_confusion(counts, names)
    assert drawn == draw_confusion(counts, names)
    assert draw_confusion(counts[::-1], names) != drawn
    assert (
        draw_confusion(np.eye(200, dtype=np.int64), [str(n) for n in range(200)])[:4] == drawn[:4]
    )
