"""``embedkit dedup calibrate`` and ``check``: what scores mean; new images against known ones."""

from __future__ import annotations

from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._output import ExitCode, ProgressLine, count_of, plain, print_json, print_table, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.dedup.check import Checked
    from embedkit.dedup.scoring.fit import CalibrationReport, Curve

__all__ = ["COMMANDS"]

_PLOTS = (".png", ".svg", ".pdf")


def _calibrate(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    images: Annotated[
        list[Path], typer.Option(help="The images that it was embedded from; repeat for several.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write. [default: photos.calibration.json]"
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Precision and recall as a .png, .svg or .pdf file.")
    ] = None,
    precision: Annotated[
        float, typer.Option(help="The share of the pairs found that shall be copies.")
    ] = 0.99,
    originals: Annotated[int, typer.Option(help="Images that copies are made of.")] = 150,
    seed: Annotated[int, typer.Option(help="Draws the images and the edits.")] = 0,
    weights: Annotated[str, typer.Option(help="auto, or the file of the weights.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --output and --plot.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make edited copies of the store's own images, and learn which score is a copy's."""
    from embedkit.dedup.scoring.calibrate import calibrate

    if output is None:
        output = store.with_name(store.name.removesuffix(".h5") + ".calibration.json")
    _check_outputs(output, plot, overwrite=overwrite)
    with ProgressLine(quiet=context.obj["quiet"]) as line:
        report = calibrate(
            store, images, originals=originals, precision=precision, seed=seed, weights=weights,
            device=device, on_progress=line.step,
        )  # fmt: skip
    report.calibration.save(output)
    if plot is not None:
        _plot(report, plot)
    if json:
        print_json({"output": str(output), **report.to_config()})
    else:
        _tell(report, output, precision)


def _check_outputs(output: Path, plot: Path | None, *, overwrite: bool) -> None:
    """Refuses before copies are made and embedded, which takes long."""
    from embedkit.errors import EmbedkitError

    if plot is not None:
        if plot.suffix.lower() not in _PLOTS:
            raise EmbedkitError(f"{plot}: plots are written to {', '.join(_PLOTS)}")
        import_module("embedkit.report.pr_curve")  # tells if matplotlib isn't there
    for path in filter(None, (output, plot)):
        if path.is_dir():
            raise EmbedkitError(f"{path}: is a folder; choose another output")
        if path.exists() and not overwrite:
            raise EmbedkitError(f"{path}: exists already; --overwrite replaces it")
        if not path.absolute().parent.is_dir():
            raise EmbedkitError(f"{path}: there is no folder {path.parent}")


def _plot(report: CalibrationReport, path: Path) -> None:
    from embedkit.report.pr_curve import plot_curves

    measured = {"embeddings": report.embedding_curve, "with pixels": report.verified_curve}
    curves = {
        name: (curve.thresholds, curve.precision, curve.recall) for name, curve in measured.items()
    }
    plot_curves(path, curves, f"Copies of {count_of(report.images, 'image')}")


def _tell(report: CalibrationReport, output: Path, precision: float) -> None:
    typer.echo(
        f"{plain(output)}: from {count_of(report.copies, 'edited copy').replace('ys', 'ies')} "
        f"against {count_of(report.images, 'image')}"
    )
    both = report.embedding_curve, report.verified_curve
    rows = [
        ("threshold", *map(_threshold, both)),
        ("recall, all", *(f"{curve.recall_there:.3f}" for curve in both)),
    ]
    rows += [
        (f"recall, {kind}", f"{found:.3f}", f"{report.verified_curve.kinds[kind]:.3f}")
        for kind, found in report.embedding_curve.kinds.items()
    ]
    print_table((f"at precision {precision:g}", "embeddings", "with --verify"), rows)


def _threshold(curve: Curve) -> str:
    return f"{curve.threshold:.4f}" if isfinite(curve.threshold) else "none reaches it"


def _check(
    known: Annotated[Path, typer.Argument(help="The index, or a store.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders, lists or archives.")],
    store: Annotated[
        list[Path] | None,
        typer.Option(help="What the index was built of. [default: the stores that it names]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score, 0 to 1. [default: what --precision needs]"),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="The share of what is found that shall be copies.")
    ] = 0.99,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="What 'dedup calibrate' wrote. [default: the one that comes for the backbone]"
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Look at the pixels too.")] = False,
    root: Annotated[Path, typer.Option(help="The folder that relative ids are below.")] = Path(),
    weights: Annotated[str, typer.Option(help="auto, or the file of the weights.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find what new images are copies of, in an index or a store.

    Exit codes: 0 done, 1 error, 2 usage, 3 done but some images failed, 130 interrupted.
    """
    from embedkit.dedup import Calibration
    from embedkit.dedup.check import check_duplicates

    found = check_duplicates(
        known, images, stores=store, threshold=threshold, precision=precision,
        calibration=None if calibration is None else Calibration.load(calibration),
        verify=verify, root=root, weights=weights, device=device,
    )  # fmt: skip
    if json:
        from dataclasses import asdict

        print_json(asdict(found))
    else:
        _tell_matches(found)
    if found.failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _tell_matches(found: Checked) -> None:
    rows = [
        (m.image, m.id, f"{m.score:.4f}", f"{m.cosine:.3f}", _why(m.exact, m.verified))
        for m in found.matches
    ]
    if rows:
        print_table(("image", "is a copy of", "score", "cosine", "why"), rows)
    new = len(set(found.images) - {match.image for match in found.matches})
    typer.echo(
        f"{new:,} of {count_of(len(found.images), 'image')} new; score at least "
        f"{found.threshold:.4g}; calibration: {plain(found.calibration)}"
    )
    for failure in found.failures:
        tell(f"{failure.id}: {failure.reason}")


def _why(exact: bool, verified: bool | None) -> str:
    return "same bytes" if exact else "seen on the pixels" if verified else "alike"


COMMANDS: dict[str, Callable[..., None]] = {"calibrate": _calibrate, "check": _check}
