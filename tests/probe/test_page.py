"""The page of a probe: curves and confusion matrix first, tables of candidates folded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from html_page import Page
from stores import write_store

from embedkit.probe import run_probe
from embedkit.probe.report import write_probe


def page_of(tmp_path, kind, name="probe", spread=1.0, **options):
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(3, 8), 12, axis=0) + spread * rng.standard_normal((36, 8)) / 3
    labels = [f"class_{n // 12}" for n in range(36)]
    store = write_store(tmp_path / f"{name}.h5", rows.astype("f4"), labels=labels)
    result = run_probe(kind, store, check_leaks=False, **options)
    return Page(Path(write_probe(result, tmp_path / name), "report.html").read_text("utf-8"))


def charts(page):
    """Names of the charts, in order."""
    return [chart["aria-label"] for chart in page.find("svg")]


def test_curve_and_matrix_come_before_the_folded_table_of_c(tmp_path):
    page = page_of(tmp_path, "linear", cs=(0.01, 1.0, 100.0))
    assert charts(page) == ["Score by C", "Confusion matrix of 3 classes"]
    words = page.words
    assert words.index("Confusion matrix") < words.index("Candidates and their scores")
    folds = [fold for fold in page.find("details") if fold.get("class") == "fold"]
    assert len(folds) == 1
    assert "open" not in folds[0]
    assert "class_2" in words


def test_shots_give_a_learning_curve(tmp_path):
    page = page_of(tmp_path, "knn", shots=(1, 2, 4), trials=2)
    assert charts(page)[:2] == ["Learning curve", "Confusion matrix of 3 classes"]
    assert "standard deviation of 2 random draws" in page.words
    assert "Learning curve" not in charts(page_of(tmp_path, "knn", "split"))


def test_no_mistakes_are_told(tmp_path):
    page = page_of(tmp_path, "knn", spread=0.0)
    assert "No mistakes on the" in page.words
