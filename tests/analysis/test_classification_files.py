"""Classes in files, and how often they are right, beside plain loops."""

import csv
import json
import warnings
from statistics import NormalDist

import numpy as np
import pandas
import pytest
from sklearn.metrics import balanced_accuracy_score
from stores import write_store

from embedkit.analysis.classification import classify, classify_to_file, evaluate
from embedkit.analysis.classification.evaluate import Accuracy
from embedkit.analysis.classification.published_accuracy import published_accuracies
from embedkit.errors import SourceError, StoreError
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


def test_only_the_classes_of_a_subset_compete(tmp_path):
    truth = RNG.integers(0, 4, 40).tolist()
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD, labels=[IDS[n] for n in truth])
    subset, path = [3, 0, 1], tmp_path / "subset.txt"
    path.write_text(f"{IDS[3]} fish, more words\n\n{HEAD.class_names[0]}\n1\n")
    logits = ROWS.astype("f8") @ HEAD.weight.T.astype("f8") + HEAD.bias
    best = np.array(sorted(subset))[logits[:, sorted(subset)].argmax(axis=1)]
    counted = np.isin(truth, subset)
    found = evaluate(store, class_subset=path)
    assert found.top1 == Accuracy(int((best == truth)[counted].sum()), int(counted.sum()))
    assert found.top5.right == found.top5.of == counted.sum()
    assert found.unlabelled == 40 - counted.sum() > 0
    assert [one.class_id for one in found.classes] == [IDS[n] for n in sorted(subset)]
    expected = balanced_accuracy_score(np.array(truth)[counted], best[counted])
    assert found.mean_per_class == pytest.approx(100 * expected)
    assert found.top1 != evaluate(store).top1
    for text, told in {
        "zebra": "line 1, 'zebra', is no class",
        "cat burglar": "line 1, 'cat burglar', is no class",
        "cat\ncrane": "line 2, 'crane', is several classes",
        " \n": "holds no class",
    }.items():
        path.write_text(text)
        with pytest.raises(SourceError, match=told):
            evaluate(store, class_subset=path)
    path.write_text("7")
    with pytest.raises(StoreError, match=r"none of its 40 images is of a class of .*subset\.txt"):
        evaluate(store, class_subset=path)
    with pytest.raises(SourceError, match="No such file"):
        evaluate(store, class_subset=tmp_path / "gone.txt")


def test_mean_per_class_is_the_balanced_accuracy(tmp_path):
    truth = RNG.choice(4, 40, p=[0.7, 0.1, 0.1, 0.1]).tolist()
    store = write_store(tmp_path / "a.h5", ROWS, head=HEAD, labels=[IDS[n] for n in truth])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes without images are predicted
        expected = balanced_accuracy_score(truth, [one[0] for one in top(1)])
    assert evaluate(store).mean_per_class == pytest.approx(100 * expected)


def imagenet(tmp_path, images=60, **meta):
    """A store of a classifier of 1000 classes and images of the validation set, shuffled."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((images, 8)).astype("f4")
    synsets = tuple(f"n{number:08}" for number in range(1000))
    head = Head(rng.standard_normal((1000, 8)).astype("f4"), np.zeros(1000, "f4"), synsets, synsets)
    order = rng.permutation(images)
    ids = [f"val.tar#val/ILSVRC2012_val_{n + 1:08}.JPEG" for n in order.tolist()]
    ids[0] = "other/photo.jpg"
    store = write_store(tmp_path / "v.h5", rows, head=head, ids=ids, **meta)
    logits = rows.astype("f8") @ head.weight.T.astype("f8")
    return store, order, np.argsort(-logits, axis=1)


def test_real_counts_any_of_the_classes_of_an_image(tmp_path):
    store, order, ranked = imagenet(tmp_path)
    rng = np.random.default_rng(4)
    lists = [[] for _ in range(70)]
    for row, image in enumerate(order.tolist()):
        places = rng.choice(12, int(rng.integers(0, 4)), replace=False)
        lists[image] = rng.permutation(ranked[row, places]).tolist()
    path = tmp_path / "real.json"
    path.write_text(json.dumps(lists))
    found = evaluate(store, real=path)
    known = [row for row in range(1, 60) if lists[order[row]]]
    for name, k in (("top1", 1), ("top5", 5)):
        right = sum(bool({*ranked[row, :k]} & {*lists[order[row]]}) for row in known)
        assert getattr(found, name) == Accuracy(right, len(known))
        assert 0 < right < len(known)
    assert found.unlabelled == 60 - len(known) > 1
    per_class = {}
    for row in known:
        for number in lists[order[row]]:
            per_class.setdefault(number, []).append(ranked[row, 0] in lists[order[row]])
    expected = np.mean([np.mean(one) for one in per_class.values()])
    assert found.mean_per_class == pytest.approx(100 * expected)
    subset = sorted({number for one in lists for number in one})[::2]
    (tmp_path / "subset.txt").write_text("\n".join(map(str, subset)))
    both = evaluate(store, real=path, class_subset=tmp_path / "subset.txt")
    inside = [row for row in known if {*lists[order[row]]} & {*subset}]
    firsts = [next(n for n in ranked[row].tolist() if n in {*subset}) for row in inside]
    right = sum(n in lists[order[row]] for n, row in zip(firsts, inside, strict=True))
    assert both.top1 == Accuracy(right, len(inside))


def test_what_real_refuses(tmp_path):
    store, _, _ = imagenet(tmp_path)
    path = tmp_path / "real.json"
    for text, told in {
        "[[1]": "isn't JSON",
        "{}": "isn't a JSON list of lists",
        "[[1000]]": "from 0 to 999",
        "[[true]]": "from 0 to 999",
        "[]": "x",
    }.items():
        path.write_text(text)
        error = StoreError if text == "[]" else SourceError
        with pytest.raises(error, match="none of its 60 images" if text == "[]" else told):
            evaluate(store, real=path)
    other = write_store(tmp_path / "o.h5", ROWS, head=HEAD)
    with pytest.raises(SourceError, match=r"ImageNet's 1000 classes.*has 8 classes"):
        evaluate(other, real=path)
