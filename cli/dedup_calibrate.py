"""``embedkit dedup calibrate`` and ``check``: score calibration; new images against known ones."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._command import JsonOption
from ._output import ExitCode, count_of, plain, print_json, print_message, print_table
from ._panels import BACKBONE, INPUT, OUTPUT, PERFORMANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.dedup.check import Checked
    from embedkit.dedup.scoring.fit import CalibrationReport, Curve

__all__ = ["COMMANDS"]

_PLOTS = (".png", ".svg", ".pdf")


def _calibrate(
    store: Annotated[Path, typer.Argument(help="Store: a file or a folder of shards.")],
    images: Annotated[
        list[Path],
        typer.Option(help="Folder (or other source) of the store's images; repeatable."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write [default: photos.calibration.json for photos.h5]."
        ),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="Target precision: share of the pairs that are near-duplicates.")
    ] = 0.99,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Plot of precision, recall and reliability to write: .png, .svg or .pdf."
        ),
    ] = None,
    originals: Annotated[
        int, typer.Option(help="Number of source images to edit.", rich_help_panel=PERFORMANCE)
    ] = 150,
    seed: Annotated[
        int, typer.Option(help="Random seed of images and edits.", rich_help_panel=PERFORMANCE)
    ] = 0,
    weights: Annotated[
        str, typer.Option(help="Weights: auto, or a file.", rich_help_panel=BACKBONE)
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --plot.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Calibrate duplicate scores on edited versions of the store's own images."""
    from embedkit.dedup.scoring.calibrate import calibrate

    if output is None:
        output = store.with_name(store.name.removesuffix(".h5") + ".calibration.json")
    _check_outputs(output, plot, overwrite=overwrite)
    report = calibrate(
        store,
        images,
        originals=originals,
        precision=precision,
        seed=seed,
        weights=weights,
        device=device,
    )
    report.calibration.save(output)
    if plot is not None:
        _plot(report, plot)
    if json:
        print_json({"output": str(output), **report.to_config()})
    else:
        _print_report(report, output, precision)


def _check_outputs(output: Path, plot: Path | None, *, overwrite: bool) -> None:
    """Checks the outputs before images are edited and embedded, which takes long."""
    from embedkit.errors import EmbedkitError
    from embedkit.utils.extras import require_extra

    if plot is not None:
        if plot.suffix.lower() not in _PLOTS:
            raise EmbedkitError(f"{plot}: plots are written to {', '.join(_PLOTS)}")
        require_extra("matplotlib", "plots", "a plot")
    for path in filter(None, (output, plot)):
        if path.is_dir():
            raise EmbedkitError(f"{path}: is a folder; choose another output")
        if path.exists() and not overwrite:
            raise EmbedkitError(f"{path}: exists already; overwrite=True replaces it")
        if not path.absolute().parent.is_dir():
            raise EmbedkitError(f"{path}: there is no folder {path.parent}")


def _plot(report: CalibrationReport, path: Path) -> None:
    from embedkit.report.pr_curve import plot_curves

    measured = {"embeddings": report.embedding_curve, "with pixels": report.verified_curve}
    curves = {
        name: (curve.thresholds, curve.precision, curve.recall) for name, curve in measured.items()
    }
    reliabilities = {name: curve.reliability for name, curve in measured.items()}
    plot_curves(path, curves, reliabilities, f"Edits of {count_of(report.images, 'image')}")


def _print_report(report: CalibrationReport, output: Path, precision: float) -> None:
    typer.echo(
        f"{plain(output)}: from {count_of(report.copies, 'edit')} of source images, "
        f"compared with {count_of(report.images, 'image')}"
    )
    both = report.embedding_curve, report.verified_curve
    rows = [
        ("threshold", *map(_threshold, both)),
        ("recall, all", *(f"{curve.recall_there:.3f}" for curve in both)),
        ("calibration error", *(f"{curve.reliability.error:.4f}" for curve in both)),
    ]
    rows += [
        (f"recall, {kind}", f"{found:.3f}", f"{report.verified_curve.kinds[kind]:.3f}")
        for kind, found in report.embedding_curve.kinds.items()
    ]
    print_table((f"at precision {precision:g}", "embeddings", "with --verify"), rows)


def _threshold(curve: Curve) -> str:
    return f"{curve.threshold:.4f}" if isfinite(curve.threshold) else "not reached"


def _check(
    known: Annotated[Path, typer.Argument(help="Index, or store, of the known images.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders, lists or archives.")],
    precision: Annotated[
        float, typer.Option(help="Target precision: share of the matches that are near-duplicates.")
    ] = 0.99,
    threshold: Annotated[
        float | None,
        typer.Option(help="Lowest score of a match, 0 to 1 [default: derived from --precision]."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare matches on their pixels: only images that show the same are matches.",
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File from 'dedup calibrate' [default: the built-in calibration for the backbone]."
        ),
    ] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option(
            help="Store that the index was built from; repeatable [default: the stores that it "
            "names].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that relative ids start from [default: as the store remembers].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Weights: auto, or a file.", rich_help_panel=BACKBONE)
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Check new images for near-duplicates in an index or a store.

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
        _print_matches(found)
    if found.failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _print_matches(found: Checked) -> None:
    rows = [
        (m.image, m.id, f"{m.score:.4f}", f"{m.cosine:.3f}", _why(m.exact, m.verified))
        for m in found.matches
    ]
    if rows:
        print_table(("image", "duplicate of", "score", "cosine", "why"), rows)
    new = len(set(found.images) - {match.image for match in found.matches})
    typer.echo(
        f"{new:,} of {count_of(len(found.images), 'image')} new; score >= "
        f"{found.threshold:.4g}; calibration: {plain(found.calibration)}"
    )
    for failure in found.failures:
        print_message(f"{failure.id}: {failure.reason}")


def _why(exact: bool, verified: bool | None) -> str:
    return "identical file" if exact else "verified on the pixels" if verified else "similar"


COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "calibrate": (
        _calibrate,
        ("embedkit dedup calibrate photos.h5 --images photos/ --plot calibration.png",),
    ),
    "check": (
        _check,
        (
            "embedkit dedup check photos.index new/",
            "embedkit dedup check photos.h5 new.jpg --verify --json",
        ),
    ),
}
