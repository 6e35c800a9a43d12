"""The recipes of docs/exports.md run as they stand, on a store that was made here."""

import re
import sys
from pathlib import Path
from types import ModuleType

import duckdb
import lancedb
import numpy as np
import pytest
from stores import write_store

from embedkit.analysis.classification import classify, classify_to_file
from embedkit.exporters.export import export
from embedkit.types import Head
from embedkit.utils.vectors import unit_rows

TEXT = (Path(__file__).parents[2] / "docs" / "exports.md").read_text("utf-8")
DIM = 1280
IDS = [f"photos/{n}_{'goldfish' if n == 3 else 'owl'}.JPEG" for n in range(6)]
HEAD = Head(np.eye(2, DIM, dtype="f4"), np.zeros(2, "f4"), ("goldfish", "owl"))


def blocks(language):
    return re.findall(rf"^```{language}$(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """The rows of ``photos.h5`` in the current folder; images 1 and 4 are copies."""
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).standard_normal((6, DIM)).astype("f4")
    hashes = [bytes([n % 3 if n in {1, 4} else n + 10]) * 32 for n in range(6)]
    labels = ["a", None, "b", None, "a", "b"]
    write_store(Path("photos.h5"), rows, ids=IDS, head=HEAD, content_hash=hashes, labels=labels)
    return rows


def test_duckdb(rows):
    export("photos.h5", "photos.parquet", to="parquet")
    classify_to_file(["photos.h5"], "classes.parquet", 2)
    nearest, classes, copies = (duckdb.sql(block).fetchall() for block in blocks("sql"))
    unit = unit_rows(rows)
    order = np.argsort(-(unit @ unit[3]))[:5]
    assert [name for name, _ in nearest] == [IDS[row] for row in order]
    np.testing.assert_allclose([score for _, score in nearest], (unit @ unit[3])[order], atol=1e-5)
    (batch,) = classify("photos.h5", 1)
    sure = [
        names[0]
        for names, share in zip(batch.class_names, batch.probabilities, strict=True)
        if share[0] > 0.5
    ]
    assert {(name, count) for name, count, _ in classes} == {(n, sure.count(n)) for n in {*sure}}
    assert {pixels for *_, pixels in classes} == {64 * 48 / 1e6}
    assert copies == [(2, [IDS[1], IDS[4]])]


def test_lancedb(rows):
    export("photos.h5", "photos.lancedb", to="lancedb")
    code = blocks("python")[0].replace("table.search", "found = table.search")
    names = {"vector": rows[2]}
    exec(code.replace("width >= 300", "width >= 30"), names)
    assert names["found"]["id"].to_pylist()[0] == IDS[2]
    unit = unit_rows(rows)
    expected = 1 - np.sort(unit @ unit[2])[::-1][:5]
    np.testing.assert_allclose(names["found"]["_distance"].to_numpy(), expected, atol=1e-5)
    assert lancedb.connect("photos.lancedb").open_table("images").count_rows() == 6


class FakeDataset(list):
    """As much of FiftyOne as the recipe calls, and no argument that FiftyOne doesn't have."""

    def __init__(self, name=None):
        super().__init__()
        self.name, self.runs = name, {}

    def add_samples(self, samples):
        self.extend(samples)


class FakeSample(dict):
    def __init__(self, filepath):
        super().__init__()
        self.filepath = filepath


class FakeClassification:
    def __init__(self, *, label=None, confidence=None):
        self.label = label


def run(samples, *, embeddings=None, method=None, brain_key=None):
    """Takes an array with a row for each sample, as both of the brain's methods do."""
    assert embeddings.shape == (len(samples), DIM)
    samples.runs[brain_key] = embeddings


def test_fiftyone_gets_the_shapes_that_it_takes(rows, monkeypatch):
    fiftyone, brain = ModuleType("fiftyone"), ModuleType("fiftyone.brain")
    fiftyone.Dataset, fiftyone.Sample = FakeDataset, FakeSample
    fiftyone.Classification, fiftyone.brain = FakeClassification, brain
    brain.compute_visualization = brain.compute_similarity = run
    monkeypatch.setitem(sys.modules, "fiftyone", fiftyone)
    monkeypatch.setitem(sys.modules, "fiftyone.brain", brain)
    names = {}
    exec(blocks("python")[1], names)
    dataset = names["dataset"]
    assert [sample.filepath for sample in dataset] == IDS
    truth = [s["ground_truth"].label if "ground_truth" in s else None for s in dataset]
    assert truth == ["a", None, "b", None, "a", "b"]
    (batch,) = classify("photos.h5", 1)
    assert [s["prediction"].label for s in dataset] == [n[0] for n in batch.class_names]
    assert dataset.runs.keys() == {"map", "similar"}
    assert all(np.array_equal(given, rows) for given in dataset.runs.values())
