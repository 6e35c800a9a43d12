"""``embedkit probe``: how well stored embeddings tell classes, labels or numbers apart."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._images import ImagesOption
from ._output import ExitCode, ProgressLine, plain, print_json, print_table, tell
from ._quick import QuickCommand
from .extract import EngineName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.probe import ProbeResult
    from embedkit.probe.run import ProbeOptions
    from embedkit.types import ImageFailure

__all__ = ["Task", "group"]

group = typer.Typer(
    help="Measure how well embeddings tell classes apart, and use what was learnt.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_TOLD = 20  # failures


class Task(StrEnum):
    """What the labels are."""

    CLASSES = "classes"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"


_Train = Annotated[Path, typer.Argument(help="The store that trains, with labels.")]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The folder to write: the probe and its report."),
]
_Test = Annotated[Path | None, typer.Option(help="The store that tests.")]
_Split = Annotated[
    float | None,
    typer.Option(help="Or: the share of each class that tests. [default: 0.2]", metavar="SHARE"),
]
_Shots = Annotated[
    str,
    typer.Option(help="Or: so many images of each class train, the others test: 1,2,5,10."),
]
_Trials = Annotated[int, typer.Option(min=1, help="Draws of each number of shots.")]
_Seed = Annotated[int, typer.Option(min=0, help="Of every choice by chance.")]
_Task = Annotated[
    Task, typer.Option(help="What the labels are; several labels have | between them.")
]
_Labels = Annotated[
    str | None, typer.Option(help="A CSV or Parquet file of labels, not the store's own.")
]
_LabelColumn = Annotated[str | None, typer.Option(help="Its column of labels.")]
_Normalize = Annotated[
    bool, typer.Option("--normalize/--raw", help="Features of unit length, or as stored.")
]
_Leaks = Annotated[
    bool, typer.Option("--leaks/--no-leaks", help="Look for copies across the split first.")
]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
_Memory = Annotated[
    float, typer.Option(min=0, help="GiB for keeping training features; else they are streamed.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an older probe.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@group.command("knn", cls=QuickCommand)
def _knn(
    train: _Train,
    output: _Output = None,
    test: _Test = None,
    split: _Split = None,
    shots: _Shots = "",
    trials: _Trials = 5,
    seed: _Seed = 0,
    task: _Task = Task.CLASSES,
    labels: _Labels = None,
    label_column: _LabelColumn = None,
    normalize: _Normalize = True,
    leaks: _Leaks = True,
    device: _Device = "auto",
    images: ImagesOption = None,
    overwrite: _Overwrite = False,
    json: _Json = False,
) -> None:
    """Weighted votes of the nearest 5 to 200 training images; nothing is learnt."""
    options: ProbeOptions = {
        "test": test,
        "split": split,
        "shots": _numbers(shots),
        "trials": trials,
        "seed": seed,
        "task": task.value,
        "labels": labels,
        "label_column": label_column,
        "normalize": normalize,
        "check_leaks": leaks,
        "device": device,
    }
    _run("knn", train, options, output, images or (), overwrite=overwrite, json=json)


@group.command("linear", cls=QuickCommand)
def _linear(
    train: _Train,
    output: _Output = None,
    test: _Test = None,
    split: _Split = None,
    shots: _Shots = "",
    trials: _Trials = 5,
    seed: _Seed = 0,
    task: _Task = Task.CLASSES,
    labels: _Labels = None,
    label_column: _LabelColumn = None,
    normalize: _Normalize = True,
    leaks: _Leaks = True,
    device: _Device = "auto",
    memory: _Memory = 2.0,
    c: Annotated[
        float | None,
        typer.Option("--c", help="Take this C (for a large store), and try no others."),
    ] = None,
    max_iterations: Annotated[
        int, typer.Option(min=1, help="The most L-BFGS iterations of each fit.")
    ] = 1000,
    images: ImagesOption = None,
    overwrite: _Overwrite = False,
    json: _Json = False,
) -> None:
    """Logistic (or ridge) regression; C is chosen among 45 on held-out training images."""
    options: ProbeOptions = {
        "test": test,
        "split": split,
        "shots": _numbers(shots),
        "trials": trials,
        "seed": seed,
        "task": task.value,
        "labels": labels,
        "label_column": label_column,
        "normalize": normalize,
        "check_leaks": leaks,
        "device": device,
        "memory": _bytes(memory),
        "max_iterations": max_iterations,
    }
    if c is not None:
        options["cs"] = (c,)
    _run("linear", train, options, output, images or (), overwrite=overwrite, json=json)


@group.command("predict", cls=QuickCommand)
def _predict(
    context: typer.Context,
    probe: Annotated[Path, typer.Argument(help="The probe: a folder.")],
    images: Annotated[
        list[str],
        typer.Argument(help="Store (.h5), image, folder, list, glob, archive or URL."),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Classes or labels an image.")] = 5,
    weights: Annotated[
        str, typer.Option(help="auto, or the file that the probe's images were embedded with.")
    ] = "auto",
    engine: Annotated[
        EngineName, typer.Option(help="auto: OpenVINO on a CPU, PyTorch on CUDA.")
    ] = EngineName.AUTO,
    device: _Device = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images a batch; the default is the store's own on a CPU.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; the default is one a core.")] = None,
    json: _Json = False,
) -> None:
    """Predict classes, labels or numbers of new images, embedded as the probe's were.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.probe.metrics import digits
    from embedkit.probe.predict import predict

    line = ProgressLine(quiet=context.obj["quiet"])
    batches = predict(
        probe,
        images,
        k,
        weights=weights,
        engine=engine.value,
        device=device,
        batch_size=batch_size,
        workers=workers,
        on_download=line.download,
    )
    told: list[dict[str, Any]] = []
    failures: list[ImageFailure] = []
    with line:
        for batch in batches:
            failures += batch.failures
            for one, names, scores in zip(batch.ids, batch.names, batch.scores, strict=True):
                said = [
                    (name, float(str(score))) for name, score in zip(names, scores, strict=True)
                ]
                if json:
                    predictions = [{"name": name, "score": score} for name, score in said]
                    told.append({"id": one, "predictions": predictions})
                else:
                    shown = ", ".join(f"{plain(name)} {digits(score)}" for name, score in said)
                    typer.echo(f"{plain(one)}: {shown}")
    if json:
        lost = [{"id": f.id, "reason": f.reason} for f in failures]
        print_json({"probe": str(probe), "predictions": told, "failures": lost})
    for failure in failures[:_TOLD]:
        tell(f"{plain(failure.id)}: {failure.reason}")
    if len(failures) > _TOLD:
        tell(f"{len(failures) - _TOLD:,} more failed")
    if failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _bytes(gib: float) -> int:
    count = gib * 2**30
    if not math.isfinite(count):
        raise typer.BadParameter(f"--memory {gib}: too much")
    return int(count)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise typer.BadParameter(f"--shots {text}: give numbers, as 1,2,5") from None


def _run(
    kind: Literal["knn", "linear"],
    train: Path,
    options: ProbeOptions,
    output: Path | None,
    images: Sequence[Path],
    *,
    overwrite: bool,
    json: bool,
) -> None:
    from embedkit.probe import run_probe
    from embedkit.probe.report import check_folder, to_json, write_probe

    if output is not None:
        check_folder(output, overwrite=overwrite)
    result = run_probe(kind, train, **options)
    if output is not None:
        write_probe(result, output, images=images, overwrite=overwrite)
    if json:
        print_json({**to_json(result), "output": None if output is None else str(output)})
        return
    _show(result)
    if output is not None:
        typer.echo(f"{plain(output)}: written (report.html is to look at)")


def _show(result: ProbeResult) -> None:
    from embedkit.probe.report import summarize_shots

    last = result.runs[-1]
    shots = summarize_shots(result)
    if shots:
        rows = [
            (one["shots"], one["measure"], f"{one['mean']:.4f}", f"{one['std']:.4f}", one["trials"])
            for one in shots
        ]
        print_table(("shots", "figure", "mean", "std", "trials"), rows)
        return
    chosen = ", ".join(f"{name} = {value:g}" for name, value in last.chosen.items())
    typer.echo(f"{last.training_images:,} train, {last.test_images:,} test; {chosen}")
    rows_of_figures = [
        (name, _figure(one.value), _figure(one.low), _figure(one.high), one.interval)
        for name, one in last.measures.items()
    ]
    print_table(("figure", "value", "from", "to", "95% interval"), rows_of_figures)
    if last.by_k:
        names = list(last.measures)
        by_k = [
            (k, *(_figure(measures[name].value) for name in names))
            for k, measures in last.by_k.items()
        ]
        print_table(("k", *names), by_k)


def _figure(value: float) -> str | None:
    """A figure for a table; None where the images don't tell it."""
    return None if math.isnan(value) else f"{value:.4f}"
