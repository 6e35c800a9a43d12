"""Classes in files, and how often they are right, beside plain loops."""

import csv
import json
from statistics import NormalDist

import numpy as np
import pandas
import pytest
from stores import write_store

from embedkit.analysis.classification import classify, classify_to_file, evaluate
from embedkit.analysis.classification.evaluate import Accuracy
from embedkit.analysis.classification.published_accuracy import published_accuracies
from embedkit.errors import StoreError
from embedkit.types import Head

RNG = np.random.default_rng(3)
IDS = tuple(f"n{number:08d}" for number in range(1, 9))
HEAD = Head(
    RNG.standard_normal((8, 4)).astype("f4"),
    RNG.standard_normal(8).astype("f4"),
    ("cat", "dog", "owl, <b>", "fish", "crane", "crane", "7", "ray"),
    IDS,
)
ROWS = RNG.standard_normal((40, 4)).astype("f2")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_holds_what_classify_gives(tmp_path, suffix):
    names = ["a\udcff.jpg", *(f"{n}.jpg" for n in range(39))]
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD, ids=names)
    output = tmp_path / f"out.{suffix}"
    assert classify_to_file([store, store], output, 3) == 80
    if suffix == "csv":
        with output.open(newline="") as file:
            lines = list(csv.DictReader(file))
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
    else:
        lines = pandas.read_parquet(output).to_dict("records")
    (batch,) = classify(store, 3)
    assert len(lines) == 240
    assert lines[0]["id"] == r"a\xff.jpg"
    assert [int(one["rank"]) for one in lines[:6]] == [1, 2, 3, 1, 2, 3]
    assert [int(one["class"]) for one in lines[120:]] == batch.classes.reshape(-1).tolist()
    assert [one["class_id"] for one in lines[:3]] == list(batch.class_ids[0])
    assert [one["class_name"] for one in lines[:3]] == list(batch.class_names[0])
    found = [np.float32(one["probability"]) for one in lines[:120]]
    assert found == batch.probabilities.reshape(-1).tolist()


def test_a_file_is_replaced_only_when_told(tmp_path):
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD)
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(StoreError, match="overwrite=True"):
        classify_to_file([store], output)
    assert output.read_text() == "mine"
    classify_to_file([store], output, overwrite=True)
    with pytest.raises(ValueError, match="classes are written to"):
        classify_to_file([store], tmp_path / "out.xlsx")


def top(k):
    """The k likeliest classes of each row, by a loop over Python's own numbers."""
    order = []
    for row in ROWS.tolist():
        scores = [
            sum(w * x for w, x in zip(weights, row, strict=True)) + bias
            for weights, bias in zip(HEAD.weight.tolist(), HEAD.bias.tolist(), strict=True)
        ]
        order.append(sorted(range(8), key=lambda number, scores=scores: -scores[number])[:k])
    return order


@pytest.mark.parametrize("how", ["label id", "label name", "label number", "folder", "file", "tar"])
def test_accuracy_is_counted_by_any_kind_of_truth(tmp_path, how):
    truth = RNG.integers(0, 4, 40).tolist()
    ids, labels = [f"x/{n}.jpg" for n in range(40)], None
    if how.startswith("label"):
        words = {"label id": IDS, "label name": HEAD.class_names, "label number": "0123"}[how]
        labels = [words[number] for number in truth]
    else:
        shape = {"folder": "v/{}/{}.jpg", "file": "v/{}_{}.jpg", "tar": "v.tar#{}/{}.jpg"}[how]
        ids = [shape.format(IDS[number], n) for n, number in enumerate(truth)]
    found = evaluate(write_store(tmp_path / "a.h5", ROWS, head=HEAD, ids=ids, labels=labels))
    assert found.top1 == Accuracy(sum(t == [n] for n, t in zip(truth, top(1), strict=True)), 40)
    assert found.top5 == Accuracy(sum(n in t for n, t in zip(truth, top(5), strict=True)), 40)
    assert 0 < found.top1.right < found.top5.right < 40
    assert (found.unlabelled, found.failed) == (0, 0)
    rights = [t == [n] for n, t in zip(truth, top(1), strict=True)]
    shares = [np.mean([r for r, n in zip(rights, truth, strict=True) if n == c]) for c in range(4)]
    assert found.mean_per_class == pytest.approx(100 * np.mean(shares))
    assert [one.class_id for one in found.classes] == list(IDS[:4])


def test_images_of_no_known_class_do_not_count(tmp_path):
    labels = ["cat", None, "crane", "7", "elephant", *[None] * 35]
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD, labels=labels)
    found = evaluate(store)  # two classes are named crane; "7" is a name before it is a number
    assert [one.class_name for one in found.classes] == ["cat", "7"]
    assert (found.top1.of, found.unlabelled) == (2, 38)
    ids = [f"n000000019/{n}.jpg" for n in range(40)]  # nine digits
    with pytest.raises(StoreError, match="none of its 40 images is of a known class"):
        evaluate(write_store(tmp_path / "b.h5", ROWS, head=HEAD, ids=ids))
    with pytest.raises(StoreError, match="no classifier"):
        evaluate(write_store(tmp_path / "c.h5", ROWS))


def test_a_label_may_be_one_of_the_names_or_a_number_as_tables_have_it(tmp_path):
    labels = ["owl", " 3", "2.0", "8.0", "02", *[None] * 35]
    found = evaluate(write_store(tmp_path / "a.h5", ROWS, head=HEAD, labels=labels))
    assert [one.top1.of for one in found.classes] == [2, 1]
    assert [one.class_name for one in found.classes] == ["owl, <b>", "fish"]


@pytest.mark.parametrize("right", [1, 80, 140, 159])
def test_interval_ends_where_the_count_is_two_deviations_away(right):
    for bound in Accuracy(right, 160).interval:
        share = bound / 100
        away = abs(right / 160 - share) / (share * (1 - share) / 160) ** 0.5
        assert away == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-4)
    assert Accuracy(0, 5).interval[0] == pytest.approx(0, abs=1e-9)
    assert Accuracy(5, 5).interval[1] == pytest.approx(100)


def test_published_accuracies(tmp_path):
    from stores import make_meta

    meta = make_meta(backbone="resnext101_32x16d_swsl", weights="hub:x")
    assert published_accuracies(meta) == {"paper": (84.8, 97.4), "timm": (83.34, 96.844)}
    assert published_accuracies(make_meta(backbone="resnet50_swsl", weights="random:0")) == {}
    assert published_accuracies(make_meta(backbone="timm:x", weights="hub:x")) == {}
