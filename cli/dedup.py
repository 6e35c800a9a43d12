"""``embedkit dedup``: finding copies, and what is written of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import dedup_calibrate, dedup_plan
from ._images import ImagesOption
from ._output import ProgressLine, count_of, plain, print_json, print_table
from ._quick import QuickCommand, QuickGroup

if TYPE_CHECKING:
    from embedkit.dedup import Calibration, Duplicates

__all__ = ["NAME", "Linkage", "Mode", "group"]

NAME = "dedup"

group = typer.Typer(
    help="Find copies of images, and decide what becomes of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=QuickGroup,
)


class Mode(StrEnum):
    """How embeddings are searched."""

    AUTO = "auto"
    EXACT = "exact"
    APPROXIMATE = "approximate"


class Linkage(StrEnum):
    """How pairs become groups."""

    SINGLE = "single"
    AVERAGE = "average"
    COMPLETE = "complete"
    STAR = "star"
    PAIRS = "pairs"


_RootOption = Annotated[
    Path, typer.Option(help="The folder that relative ids are below, for the thumbnails.")
]
_ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html too.")]
_OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an older folder of duplicates.")
]
_OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]
_ClassesOption = Annotated[int, typer.Option(help="Classes to list of each store that leaks.")]


@group.command("find", cls=QuickCommand)
def _find(
    context: typer.Context,
    store: Annotated[Path, typer.Argument(help="The store: a file or a folder of shards.")],
    output: _OutputOption,
    against: Annotated[
        Path | None,
        typer.Option(help="Another store: find which of its images are in this one too (leaks)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score of a pair, 0 to 1. [default: what --precision needs]"),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="The share of the pairs that shall be copies, by the calibration.")
    ] = 0.99,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="A file of 'dedup calibrate', or cosine: the score is the cosine, 0.95 or more. "
            "[default: the built-in calibration for the backbone]"
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="exact: no pair is missed; approximate: quicker, and the recall is measured; "
            "auto: exact up to 1.4 million images."
        ),
    ] = Mode.AUTO,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look at the pixels of pairs in doubt.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Find mirrored copies by embedding mirrored images.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Find copies turned by quarters likewise.")
    ] = False,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder (or other source) of the images, for --verify, --flip, --rotate and "
            "thumbnails; repeat it for several. [default: where their ids say]"
        ),
    ] = None,
    max_hamming: Annotated[
        int, typer.Option(help="Bits in which perceptual hashes may differ; -1 leaves them out.")
    ] = 7,
    min_cosine: Annotated[
        float | None,
        typer.Option(help="Least cosine of what is scored. [default: by --looks]"),
    ] = None,
    looks: Annotated[
        float, typer.Option(help="How many others each image is scored with, beside its copies.")
    ] = 30.0,
    weights: Annotated[
        str, typer.Option(help="For --flip and --rotate: auto, or the file of the weights.")
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="Where embeddings are compared, and made for --flip and --rotate: auto, cpu, "
            "cuda or cuda:N."
        ),
    ] = "auto",
    linkage: Annotated[
        Linkage,
        typer.Option(
            help="How pairs become groups: single joins whatever is connected; average and "
            "complete cut chains; star: all are copies of its centre; pairs: no groups."
        ),
    ] = Linkage.SINGLE,
    root: _RootOption = Path(),
    report: _ReportOption = True,
    classes: _ClassesOption = 20,
    overwrite: _OverwriteOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find copies in a store or between two: tables and a report."""
    from embedkit.dedup import write_duplicates
    from embedkit.dedup.api import find_duplicates
    from embedkit.dedup.output.folder import check_output

    check_output(output, overwrite=overwrite)
    with ProgressLine(quiet=context.obj["quiet"]) as line:
        found = find_duplicates(
            store, against=against, images=images or (), root=root, verify=verify, flip=flip,
            rotate=rotate, linkage=linkage.value, weights=weights, device=device,
            threshold=threshold, precision=precision, mode=mode.value,
            calibration=_calibration(calibration), min_cosine=min_cosine,
            candidates_per_image=looks,
            max_hamming=None if max_hamming < 0 else max_hamming,
            on_progress=line.step,
        )  # fmt: skip
    write_duplicates(
        found, output, overwrite=overwrite, report=report, root=root, images=images or ()
    )
    _tell(found, output, classes, json)


def _calibration(text: str | None) -> Calibration | Literal["cosine"] | None:
    from embedkit.dedup import Calibration

    if text is None:
        return None
    if text == "cosine":
        return "cosine"
    return Calibration.load(text)


@group.command("rethreshold", cls=QuickCommand)
def _rethreshold(
    folder: Annotated[Path, typer.Argument(help="What 'dedup find' wrote.")],
    output: _OutputOption,
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score, not below the one of the search. [default: that one]"),
    ] = None,
    linkage: Annotated[
        Linkage | None, typer.Option(help="How pairs become groups. [default: as before]")
    ] = None,
    images: ImagesOption = None,
    root: _RootOption = Path(),
    report: _ReportOption = True,
    classes: _ClassesOption = 20,
    overwrite: _OverwriteOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tighten the threshold or group otherwise; nothing is searched."""
    from embedkit.dedup import read_duplicates, rethreshold, write_duplicates
    from embedkit.dedup.output.folder import check_output

    check_output(output, overwrite=overwrite)
    found = read_duplicates(folder)
    if threshold is None:
        threshold = found.pairs.info.threshold
    tightened = rethreshold(found, threshold, linkage.value if linkage else None)
    write_duplicates(
        tightened, output, overwrite=overwrite, report=report, root=root, images=images or ()
    )
    _tell(tightened, output, classes, json)


def _tell(found: Duplicates, output: Path, classes: int, json: bool) -> None:
    from dataclasses import asdict

    from embedkit.dedup.output.summary import count

    counts = count(found)
    if json:
        leaks = None if found.leaks is None else asdict(found.leaks)
        info = asdict(found.pairs.info)
        print_json({"output": str(output), **counts, "search": info, "leaks": leaks})
        return
    typer.echo(
        f"{plain(output)}: {count_of(counts['pairs'], 'pair')} "
        f"({counts['exact_pairs']:,} of equal bytes), {count_of(counts['groups'], 'group')} of "
        f"{count_of(counts['grouped_images'], 'image')}, {counts['surplus_images']:,} beyond one "
        "of each"
    )
    typer.echo(_search_in_words(found))
    if found.leaks is None or found.against is None:
        return
    for name, side in ((found.store, found.leaks.store), (found.against, found.leaks.against)):
        typer.echo(f"{plain(name.path)}: {side.leaking:,} of {side.images:,} images are in both")
        rows = [(c.label, c.leaking, c.images) for c in side.classes[:classes]]
        if rows:
            print_table(("class", "in both", "images"), rows)


def _search_in_words(found: Duplicates) -> str:
    """How the pairs were found."""
    info, looked = found.pairs.info, int((found.pairs.verified >= 0).sum())
    words = [f"score at least {info.threshold:.4g}", f"calibration: {plain(info.calibration)}"]
    if info.recall is not None:
        words.append(f"approximate: {100 * info.recall:.1f}% of near pairs found, by a sample")
    elif info.mode == "approximate":
        words.append("approximate: no image of the sample has near pairs to tell what is missed")
    if looked:
        words.append(f"{count_of(looked, 'pair')} of these looked at")
    return "; ".join(words)


for _name, _command in {**dedup_calibrate.COMMANDS, **dedup_plan.COMMANDS}.items():
    group.command(_name, cls=QuickCommand)(_command)
