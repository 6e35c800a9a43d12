"""``embedkit probe``: kNN and linear probes on stored embeddings."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import probe_predict
from ._command import Command, Group, JsonOption, examples
from ._images import ImagesOption
from ._output import plain, print_json, print_table
from ._panels import INPUT, OUTPUT, PERFORMANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.probe import ProbeResult

__all__ = ["Task", "group"]

_SPLIT = "Split"

group = typer.Typer(
    help="Train and evaluate kNN and linear probes.",
    epilog=examples(
        "embedkit probe linear photos.h5 -o probe/",
        "embedkit probe predict probe/ new/",
    ),
    rich_markup_mode=None,
    cls=Group,
)


class Task(StrEnum):
    """Kind of labels."""

    CLASSES = "classes"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"


_Train = Annotated[Path, typer.Argument(help="Training store, with labels.")]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder to write: the probe and its report."),
]
_Test = Annotated[
    Path | None, typer.Option(help="Test store [default: split of the training store].")
]
_Split = Annotated[
    float | None,
    typer.Option(help="Share of each class to test on, without --test [default: 0.2]."),
]
_Task = Annotated[Task, typer.Option(help="Kind of labels; multiple labels are separated by |.")]
_Shots = Annotated[
    str,
    typer.Option(
        help="Training images per class, such as 1,2,5,10; the other images are tested.",
        metavar="LIST",
        rich_help_panel=_SPLIT,
    ),
]
_Trials = Annotated[
    int,
    typer.Option(min=1, help="Random draws per number of shots.", rich_help_panel=_SPLIT),
]
_Seed = Annotated[int, typer.Option(min=0, help="Random seed.", rich_help_panel=_SPLIT)]
_Leaks = Annotated[
    bool,
    typer.Option(
        "--leaks/--no-leaks",
        help="Check for near-duplicates across the split first.",
        rich_help_panel=_SPLIT,
    ),
]
_Labels = Annotated[
    str | None,
    typer.Option(
        help="CSV or Parquet file of labels [default: the store's labels].",
        rich_help_panel=INPUT,
    ),
]
_LabelColumn = Annotated[
    str | None, typer.Option(help="Column of the labels in --labels.", rich_help_panel=INPUT)
]
_Normalize = Annotated[
    bool,
    typer.Option(
        "--normalize/--raw",
        help="Scale embeddings to unit length, or use them as stored.",
        rich_help_panel=INPUT,
    ),
]
_Device = Annotated[
    str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
]
_Memory = Annotated[
    float,
    typer.Option(
        min=0,
        help="Memory for training embeddings (GiB); more are streamed from disk.",
        rich_help_panel=PERFORMANCE,
    ),
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing probe.", rich_help_panel=OUTPUT)
]


@group.command(
    "knn",
    cls=Command,
    epilog=examples(
        "embedkit probe knn photos.h5 -o knn/",
        "embedkit probe knn train.h5 --test test.h5",
    ),
)
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
    json: JsonOption = False,
) -> None:
    """Classify by weighted votes of the nearest training images; no training."""
    options: dict[str, Any] = {
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


@group.command(
    "linear",
    cls=Command,
    epilog=examples(
        "embedkit probe linear photos.h5 -o probe/",
        "embedkit probe linear train.h5 --test test.h5 --shots 1,2,5,10",
    ),
)
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
        typer.Option(
            "--c",
            help="Inverse regularization strength C [default: the best of 45].",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    max_iterations: Annotated[
        int,
        typer.Option(
            min=1, help="L-BFGS iterations per fit, at most.", rich_help_panel=PERFORMANCE
        ),
    ] = 1000,
    images: ImagesOption = None,
    overwrite: _Overwrite = False,
    json: JsonOption = False,
) -> None:
    """Train a logistic (or ridge) regression; C is chosen on held-out training images."""
    options: dict[str, Any] = {
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


group.command("predict", cls=Command, epilog=examples(*probe_predict.EXAMPLES))(
    probe_predict.command
)


def _bytes(gib: float) -> int:
    count = gib * 2**30
    if not math.isfinite(count):
        raise typer.BadParameter(f"--memory {gib}: too large")
    return int(count)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise typer.BadParameter(f"--shots {text}: expected numbers such as 1,2,5") from None


def _run(
    kind: Literal["knn", "linear"],
    train: Path,
    options: dict[str, Any],
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
        if not images:
            _refuse_missing_images(options.get("test") or train)
    result = run_probe(kind, train, **options)
    if not json:
        _show(result)
    if output is not None:
        write_probe(result, output, images=images, overwrite=overwrite)
    if json:
        print_json({**to_json(result), "output": None if output is None else str(output)})
    elif output is not None:
        typer.echo(f"{plain(output)}: written (open report.html in a browser)")


def _refuse_missing_images(store: Path) -> None:
    """Refuses a report without pictures before anything is trained."""
    from embedkit.extraction.source_images import refuse_missing_images
    from embedkit.store import EmbeddingStore

    with EmbeddingStore.open(store) as opened:
        refuse_missing_images(opened.ids, opened.meta.folders())


def _show(result: ProbeResult) -> None:
    from embedkit.probe.shots import summarize_shots

    last = result.runs[-1]
    shots = summarize_shots(result)
    if shots:
        rows = [
            (one["shots"], one["measure"], f"{one['mean']:.4f}", f"{one['std']:.4f}", one["trials"])
            for one in shots
        ]
        print_table(("shots", "metric", "mean", "std", "trials"), rows)
        return
    chosen = ", ".join(f"{name} = {value:g}" for name, value in last.chosen.items())
    typer.echo(f"{last.training_images:,} train, {last.test_images:,} test; {chosen}")
    rows_of_figures = [
        (name, _figure(one.value), _figure(one.low), _figure(one.high), one.interval)
        for name, one in last.measures.items()
    ]
    print_table(("metric", "value", "from", "to", "95% interval"), rows_of_figures)
    if last.by_k:
        names = list(last.measures)
        by_k = [
            (k, *(_figure(measures[name].value) for name in names))
            for k, measures in last.by_k.items()
        ]
        print_table(("k", *names), by_k)


def _figure(value: float) -> str | None:
    """A number for a table; None if undefined."""
    return None if math.isnan(value) else f"{value:.4f}"
