"""Writes a probe's folder: the probe, its metrics as JSON and HTML, the confusion matrix.

::

    probe/
      probe.json, probe.safetensors   the probe: `embedkit probe predict` takes the folder
      report.json                     every metric, with its interval; the hashes of the splits
      report.html                     the same as a page, with the worst classes' mistakes
      confusion.json, confusion.png   where each image has one class
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import StoreError
from embedkit.extraction.source_images import policy_of
from embedkit.probe.serialization import PROBE_FILE, TENSORS_FILE, save_probe
from embedkit.report import Picture
from embedkit.report.probe_page import (
    FigureTable,
    PictureGroup,
    ProbePage,
    data_uri,
    draw_confusion,
    write_probe_page,
)
from embedkit.report.thumbnails import thumbnails as make_thumbnails
from embedkit.utils.extras import require_extra
from embedkit.utils.json import finite

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from embedkit.probe.metrics import Measure
    from embedkit.probe.run import ProbeResult, ProbeRun

__all__ = ["check_folder", "summarize_shots", "to_json", "write_probe"]

_FILES = {
    PROBE_FILE,
    TENSORS_FILE,
    "report.json",
    "report.html",
    "confusion.json",
    "confusion.png",
}
_SIDE = 128  # pixels
_NOTES = {
    "classes": "The classes with the lowest accuracy, and their misclassified images; "
    "the most confident mistakes first.",
    "multilabel": "The labels with the lowest average precision, and the highest-scoring images "
    "without them.",
    "regression": "The largest errors.",
}


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuses a folder that can't be written, before the work; and a missing extra.

    Raises:
        StoreError: It exists, and isn't to be replaced or is no probe.
        MissingExtraError: matplotlib isn't installed.
    """
    require_extra("matplotlib", "probe", "a probe's report")
    path = Path(folder)
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}")
    if not path.exists():
        return
    if not path.is_dir() or not {one.name for one in path.iterdir()} <= _FILES:
        raise StoreError(f"{path}: exists and is no probe; choose another output")
    if not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")


def write_probe(
    result: ProbeResult,
    folder: str | os.PathLike[str],
    *,
    images: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
) -> Path:
    """Writes a probe and its report into a folder, which appears when it is complete.

    Args:
        result: What ``run_probe`` found.
        folder: The folder to make.
        images: The sources that the test images are of, where these lie now, for the thumbnails.
            None: ids are taken for paths.
        overwrite: Whether an older probe is replaced.

    Returns:
        ``folder``.

    Raises:
        StoreError: It can't be written, or exists.
        MissingExtraError: matplotlib isn't installed.
    """
    check_folder(folder, overwrite=overwrite)
    path = Path(folder)
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".probe-") as name:
            whole = Path(name, "new")  # not the folder itself, which only its owner may enter
            whole.mkdir()
            save_probe(replace(result.probe, path=path), whole)
            _write_report(result, whole, images)
            if path.exists():
                path.replace(Path(name, "old"))
            whole.replace(path)
    except OSError as exc:
        raise StoreError(f"{path}: can't be written: {exc.strerror or exc}") from exc
    return path


def to_json(result: ProbeResult) -> dict[str, Any]:
    """Every figure of a result, as JSON; None where the images don't determine it."""
    document = {
        "kind": result.probe.kind,
        "task": result.probe.task,
        "train": result.train,
        "test": result.test,
        "seed": result.seed,
        "unlabelled": result.unlabelled,
        "classes": len(result.probe.names),
        "backbone": result.probe.meta.backbone,
        "weights_fingerprint": result.probe.meta.weights_fingerprint,
        "normalize": result.probe.normalize,
        "shots": summarize_shots(result),
        "runs": [asdict(run) for run in result.runs],
    }
    return dict(finite(document))


def summarize_shots(result: ProbeResult) -> list[dict[str, Any]]:
    """The mean and the sample's standard deviation of each figure over trials."""
    rows = []
    for shots in dict.fromkeys(run.shots for run in result.runs if run.shots is not None):
        runs = [run for run in result.runs if run.shots == shots]
        for name in runs[0].measures:
            values = [run.measures[name].value for run in runs]
            std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            mean = float(np.mean(values))
            row = {"shots": shots, "measure": name, "mean": mean, "std": std}
            rows.append({**row, "trials": len(runs)})
    return rows


def _write_report(
    result: ProbeResult, folder: Path, images: Sequence[str | os.PathLike[str]]
) -> None:
    (folder / "report.json").write_text(
        json.dumps(to_json(result), indent=1, allow_nan=False), "utf-8"
    )
    picture = ""
    if result.confusion is not None:
        names = result.probe.names
        counts = {"classes": names, "counts": result.confusion.tolist()}
        (folder / "confusion.json").write_text(json.dumps(counts), "utf-8")
        png = draw_confusion(result.confusion, names)
        (folder / "confusion.png").write_bytes(png)
        picture = data_uri(png)
    kind = "Linear" if result.probe.kind == "linear" else "kNN"
    page = ProbePage(
        f"{kind} probe of {Path(result.train).name}",
        list(_facts(result)),
        list(_tables(result)),
        picture,
        _groups(result, images),
        _NOTES[result.probe.task],
    )
    write_probe_page(folder / "report.html", page)


def _facts(result: ProbeResult) -> Iterator[tuple[str, str]]:
    last, probe = result.runs[-1], result.probe
    yield "Training store", result.train
    yield "Test store", result.test if result.test != result.train else "the same, split"
    yield "Backbone", f"{probe.meta.backbone}, weights {probe.meta.weights_fingerprint[:12]}…"
    yield "Features", "of unit length" if probe.normalize else "as stored"
    yield "Images", f"{last.training_images:,} train, {last.test_images:,} test"
    if probe.task != "regression":
        yield "Classes", f"{len(probe.names):,}"
    if result.unlabelled:
        yield "Left out", f"{result.unlabelled:,} images without a label"
    yield "Seed", str(result.seed)
    yield "Split", f"training {last.training_hash[:16]}…, test {last.test_hash[:16]}…"
    yield "Chosen on training images", ", ".join(f"{k} = {v:g}" for k, v in last.chosen.items())
    yield "Copies across the split", _leaks(last)


def _leaks(run: ProbeRun) -> str:
    if run.leaks is None:
        return "not looked for"
    leaks = run.leaks
    return (
        f"{leaks.images:,} test images ({leaks.same_bytes:,} of the same bytes, "
        f"{leaks.same_phash:,} of the same perceptual hash, {leaks.similar:,} of a cosine of at "
        f"least {leaks.threshold:g})"
    )


def _tables(result: ProbeResult) -> Iterator[FigureTable]:
    last = result.runs[-1]
    shots = summarize_shots(result)
    if shots:
        rows = [
            (str(one["shots"]), one["measure"], _share(one["mean"]), _share(one["std"]))
            for one in shots
        ]
        note = f"{shots[0]['trials']} draws of each; below is the last one."
        yield FigureTable("By shots", ("shots", "figure", "mean", "std"), rows, note)
    rows_of_figures = [(name, *_cells(one)) for name, one in last.measures.items()]
    header = ("figure", "value", "from", "to", "95% interval by")
    yield FigureTable("Figures on the test images", header, rows_of_figures)
    if last.by_k:
        names = tuple(last.measures)
        by_k = [
            (str(k), *(_share(measures[name].value) for name in names))
            for k, measures in last.by_k.items()
        ]
        yield FigureTable("By k, on the test images", ("k", *names), by_k)
    if last.tried:
        columns = tuple(last.tried[0])
        tried = [
            ["-" if isnan(value) else f"{value:.4g}" for value in one.values()]
            for one in last.tried
        ]
        yield FigureTable("Candidates and their scores on training images", columns, tried)


def _cells(one: Measure) -> tuple[str, ...]:
    return (_share(one.value), _share(one.low), _share(one.high), one.interval)


def _share(value: float) -> str:
    return "-" if isnan(value) else f"{value:.4f}"


def _groups(result: ProbeResult, images: Sequence[str | os.PathLike[str]]) -> list[PictureGroup]:
    rows = {row for group in result.mistakes for row, _ in group.images}
    ids = sorted({result.test_ids[row] for row in rows})
    thumbnails = make_thumbnails(ids, policy_of(result.probe.meta), _SIDE, images=images)
    groups = []
    for group in result.mistakes:
        names = [(result.test_ids[row], said) for row, said in group.images]
        pictures = [(Picture(name, thumbnails.get(name, "")), said) for name, said in names]
        groups.append(PictureGroup(group.title, group.note, pictures))
    return groups
