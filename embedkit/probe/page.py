"""The page of a probe: curves, confusion matrix, figures and mistakes."""

from __future__ import annotations

from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.extraction.source_images import policy_of
from embedkit.probe.shots import summarize_shots
from embedkit.report import Picture
from embedkit.report.charts import Chart, ConfusionChart, Series
from embedkit.report.probe_page import FigureTable, PictureGroup, ProbePage
from embedkit.report.thumbnails import thumbnails, thumbnails_if_found
from embedkit.store.format import possible_folders

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from embedkit.probe.metrics import Measure
    from embedkit.probe.run import ProbeResult, ProbeRun

__all__ = ["find_pictures", "make_page"]

_SIDE = 128  # pixels
_NOTES = {
    "classes": "The classes with the lowest accuracy, and their misclassified images; "
    "the most confident mistakes first.",
    "multilabel": "The labels with the lowest average precision, and the highest-scoring images "
    "without them.",
    "regression": "The largest errors.",
}


def make_page(result: ProbeResult, found: Mapping[str, Picture]) -> ProbePage:
    """The content of a probe's page.

    Args:
        result: What ``run_probe`` found.
        found: What ``find_pictures`` found.
    """
    kind = "Linear" if result.probe.kind == "linear" else "kNN"
    counts = result.confusion
    return ProbePage(
        f"{kind} probe of {Path(result.train).name}",
        list(_facts(result)),
        charts=list(_charts(result)),
        confusion=None if counts is None else ConfusionChart.of(counts, result.probe.names),
        tables=list(_tables(result)),
        groups=_groups(result, found),
        groups_note=_NOTES[result.probe.task],
        no_mistakes=("No mistakes", f"on the {result.runs[-1].test_images:,} test images"),
        summary=_summary(result),
    )


def _summary(result: ProbeResult) -> str:
    last = result.runs[-1]
    name, headline = next(iter(last.measures.items()))
    figure = _share(headline.value)
    if isfinite(headline.low):
        figure += f" ({_share(headline.low)} to {_share(headline.high)})"
    shots = "" if last.shots is None else f"; last of the draws of {last.shots:,} per class"
    classes = "" if result.probe.task == "regression" else f", {len(result.probe.names):,} classes"
    return (
        f"{name} {figure} on {last.test_images:,} test images, trained on "
        f"{last.training_images:,}{classes}{shots}"
    )


def _facts(result: ProbeResult) -> Iterator[tuple[str, str]]:
    last, probe = result.runs[-1], result.probe
    yield "Training store", result.train
    yield "Test store", result.test if result.test != result.train else "the same, split"
    yield "Backbone", f"{probe.meta.backbone}, weights {probe.meta.weights_fingerprint[:12]}…"
    yield "Features", "of unit length" if probe.normalize else "as stored"
    if result.unlabelled:
        yield "Left out", f"{result.unlabelled:,} images without a label"
    yield "Seed", str(result.seed)
    yield "Split", f"training {last.training_hash[:16]}…, test {last.test_hash[:16]}…"
    yield "Chosen on training images", ", ".join(f"{k} = {v:g}" for k, v in last.chosen.items())
    yield "Near-duplicates across the split", _leaks(last)
    if last.shots is None and probe.task == "classes":
        yield "Learning curve", "not measured; several numbers of shots per class give one"


def _leaks(run: ProbeRun) -> str:
    if run.leaks is None:
        return "not looked for"
    leaks = run.leaks
    return (
        f"{leaks.images:,} test images ({leaks.same_bytes:,} of the same bytes, "
        f"{leaks.same_phash:,} of the same perceptual hash, {leaks.similar:,} of a cosine of at "
        f"least {leaks.threshold:g})"
    )


def _charts(result: ProbeResult) -> Iterator[Chart]:
    """The learning curve over shots, and the curve that C or k was chosen by."""
    last = result.runs[-1]
    by_measure: dict[str, list[tuple[float, float, float]]] = {}
    for one in summarize_shots(result):
        by_measure.setdefault(one["measure"], []).append((one["shots"], one["mean"], one["std"]))
    if any(len(points) > 1 for points in by_measure.values()):
        trials = sum(run.shots == last.shots for run in result.runs)
        yield Chart(
            "Learning curve",
            f"Training images per class; mean and standard deviation of {trials} random draws.",
            "training images per class",
            [Series(name, points) for name, points in by_measure.items()],
        )
    chosen = next(iter(last.chosen.values()), None)
    by_k = [
        Series(name, [(float(k), one[name].value, 0.0) for k, one in last.by_k.items()])
        for name in list(last.measures)[: 1 if result.probe.task == "regression" else None]
        if all(isfinite(one[name].value) for one in last.by_k.values())
    ]
    if result.probe.kind == "knn":
        if len(last.by_k) > 1 and by_k:
            label = "k, neighbours that vote"
            yield Chart("Score by k", "On the test images.", label, by_k, chosen)
        return
    tried = [(one["c"], one["score"], 0.0) for one in last.tried if isfinite(one["score"])]
    if len(tried) > 1:
        note = "On training images that were held out, to choose C; a larger C regularizes less."
        yield Chart("Score by C", note, "C", [Series("score", tried)], chosen)


def _tables(result: ProbeResult) -> Iterator[FigureTable]:
    last = result.runs[-1]
    rows_of_figures = [(name, *_cells(one)) for name, one in last.measures.items()]
    header = ("figure", "value", "from", "to", "95% interval by")
    yield FigureTable("Figures on the test images", header, rows_of_figures)
    shots = summarize_shots(result)
    if shots:
        rows = [
            (str(one["shots"]), one["measure"], _share(one["mean"]), _share(one["std"]))
            for one in shots
        ]
        note = f"{shots[0]['trials']} draws of each; the rest of the page is about the last one."
        yield FigureTable("By shots", ("shots", "figure", "mean", "std"), rows, note, folded=True)
    if last.by_k:
        names = tuple(last.measures)
        by_k = [
            (str(k), *(_share(measures[name].value) for name in names))
            for k, measures in last.by_k.items()
        ]
        yield FigureTable("By k, on the test images", ("k", *names), by_k, folded=True)
    if last.tried:
        columns = tuple(last.tried[0])
        tried = [
            ["-" if isnan(value) else f"{value:.4g}" for value in one.values()]
            for one in last.tried
        ]
        title = "Candidates and their scores on training images"
        yield FigureTable(title, columns, tried, folded=True)


def _cells(one: Measure) -> tuple[str, ...]:
    return (_share(one.value), _share(one.low), _share(one.high), one.interval)


def _share(value: float) -> str:
    return "-" if isnan(value) else f"{value:.4f}"


def find_pictures(
    result: ProbeResult, page: Path, images: Sequence[str | os.PathLike[str]]
) -> dict[str, Picture]:
    """Pictures of the mistakes by id.

    Args:
        result: What ``run_probe`` found.
        page: Where the page will lie.
        images: The sources that the test images are of, where these lie now. None: ids are taken
            for paths.

    Raises:
        SourceError: ``images`` has none of the images.
    """
    rows = sorted({row for group in result.mistakes for row, _ in group.images})
    hashes = {result.test_ids[row]: result.test_hashes[row].tobytes() for row in rows}
    policy, roots = policy_of(result.probe.meta), possible_folders(result.test_roots)
    make = thumbnails if images else thumbnails_if_found
    return make(sorted(hashes), policy, _SIDE, images=images, roots=roots, hashes=hashes, page=page)


def _groups(result: ProbeResult, found: Mapping[str, Picture]) -> list[PictureGroup]:
    groups = []
    for group in result.mistakes:
        names = [(result.test_ids[row], said) for row, said in group.images]
        pictures = [(found.get(name) or Picture(name), said) for name, said in names]
        groups.append(PictureGroup(group.title, group.note, pictures))
    return groups
