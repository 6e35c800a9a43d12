"""``embedkit dedup``: find near-duplicates, and write them to a folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import dedup_calibrate, dedup_plan, dedup_semantic
from ._command import Command, Group, JsonOption, examples
from ._images import ImagesOption
from ._output import count_of, plain, print_json, print_table
from ._panels import INPUT, OUTPUT, PERFORMANCE, SEARCH
from ._ray import RayOption, RayWorkersOption

if TYPE_CHECKING:
    from embedkit.dedup import Calibration, Duplicates

__all__ = ["NAME", "Linkage", "Mode", "group"]

NAME = "dedup"

group = typer.Typer(
    help="Find near-duplicates, review them, remove them.",
    epilog=examples(
        "embedkit dedup find photos.h5 -o duplicates/",
        "embedkit dedup plan duplicates/ -o plan.csv",
        "embedkit dedup apply plan.csv --action move --to removed/ --execute",
    ),
    rich_markup_mode=None,
    cls=Group,
)


class Mode(StrEnum):
    """Search mode."""

    AUTO = "auto"
    EXACT = "exact"
    APPROXIMATE = "approximate"


class What(StrEnum):
    """What is looked for."""

    COPIES = "copies"
    SCENES = "scenes"


class Linkage(StrEnum):
    """How pairs become groups."""

    SINGLE = "single"
    AVERAGE = "average"
    COMPLETE = "complete"
    STAR = "star"
    PAIRS = "pairs"


_RootOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder that relative ids start from [default: as the store remembers].",
        rich_help_panel=INPUT,
    ),
]
_ReportOption = Annotated[
    bool,
    typer.Option("--report/--no-report", help="Write report.html.", rich_help_panel=OUTPUT),
]
_OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an existing output folder.", rich_help_panel=OUTPUT),
]
_OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
_ClassesOption = Annotated[
    int,
    typer.Option(
        help="Classes to list per store that shares images with the other.", rich_help_panel=OUTPUT
    ),
]


@group.command(
    "find",
    cls=Command,
    epilog=examples(
        "embedkit dedup find photos.h5 -o duplicates/",
        "embedkit dedup find photos.h5 -o duplicates/ --verify --images photos/",
        "embedkit dedup find train.h5 --against test.h5 -o leaks/",
        "embedkit dedup find --update duplicates/",
        "embedkit dedup find photos.h5 -o scenes/ --what scenes",
    ),
)
def _find(
    ctx: typer.Context,
    store: Annotated[
        Path | None, typer.Argument(help="Store: a file or a folder of shards.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an earlier search to bring up to date: only new images are searched, "
            "with its settings.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Second store: find the images that are in both (train/test leakage)."),
    ] = None,
    what: Annotated[
        What,
        typer.Option(
            help="copies: images made from each other; scenes: other photographs of one scene as "
            "well, such as bursts (a plan removes none of these).",
        ),
    ] = What.COPIES,
    precision: Annotated[
        float, typer.Option(help="Target precision: share of the pairs that are near-duplicates.")
    ] = 0.99,
    threshold: Annotated[
        float | None,
        typer.Option(help="Lowest score of a pair, 0 to 1 [default: derived from --precision]."),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Compare pairs on their pixels: only images that show the same are pairs "
            "[default: if the images can be found].",
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder (or other source) of the images, for --verify, --flip, --rotate and "
            "thumbnails; repeatable [default: the paths in the ids].",
            rich_help_panel=INPUT,
        ),
    ] = None,
    root: _RootOption = None,
    weights: Annotated[
        str,
        typer.Option(
            help="Weights for --flip and --rotate: auto, or a file.", rich_help_panel=INPUT
        ),
    ] = "auto",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Score calibration: a file from 'dedup calibrate', or cosine (score = cosine, "
            "threshold 0.95) [default: the built-in calibration for the backbone].",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="exact: misses no pair; approximate: faster, with measured recall; auto: exact "
            "up to 1.4 million images.",
            rich_help_panel=SEARCH,
        ),
    ] = Mode.AUTO,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Find mirrored images too.", rich_help_panel=SEARCH),
    ] = False,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="Find images rotated by 90, 180 or 270 degrees too.",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    candidates_per_image: Annotated[
        float,
        typer.Option(
            help="Candidates to score per image, on average, besides its near-duplicates.",
            envvar="EMBEDKIT_DEDUP_FIND_LOOKS",
            rich_help_panel=SEARCH,
        ),
    ] = 30.0,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="Lowest cosine of a candidate [default: derived from --candidates-per-image].",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    max_hamming: Annotated[
        int,
        typer.Option(
            help="Largest distance of perceptual hashes (bits); -1 disables them.",
            rich_help_panel=SEARCH,
        ),
    ] = 7,
    linkage: Annotated[
        Linkage,
        typer.Option(
            help="Grouping. single: connected pairs; average, complete: no chains; star: all match "
            "one image; pairs: no groups.",
            rich_help_panel=SEARCH,
        ),
    ] = Linkage.SINGLE,
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    report: _ReportOption = True,
    classes: _ClassesOption = 20,
    ray: RayOption = None,
    workers: RayWorkersOption = None,
    overwrite: _OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Find near-duplicates in a store, or between two stores."""
    from embedkit.dedup import write_duplicates
    from embedkit.dedup.api import find_duplicates
    from embedkit.dedup.output.folder import check_output
    from embedkit.dedup.update import update_duplicates
    from embedkit.utils.extras import require_extra

    if update is not None:
        _refuse_settings(ctx)
        found = update_duplicates(
            update, store=store, against=against, images=images or (), root=root,
            calibration=_calibration(calibration), weights=weights, device=device,
        )  # fmt: skip
        write_duplicates(
            found, update, overwrite=True, report=report, root=root, images=images or ()
        )
        _print_result(found, update, classes, json)
        return
    if store is None or output is None:
        raise typer.BadParameter("give a store and --output, or --update with an earlier result")
    check_output(output, overwrite=overwrite)
    if verify:
        require_extra("cv2", "verify", "verification on pixels")
    if report and not images:
        _refuse_missing_images(store, root)
    found = find_duplicates(
        store,
        against=against,
        images=images or (),
        root=root,
        verify=verify,
        flip=flip,
        rotate=rotate,
        linkage=linkage.value,
        what=what.value,
        weights=weights,
        device=device,
        threshold=threshold,
        precision=precision,
        mode=mode.value,
        calibration=_calibration(calibration),
        min_cosine=min_cosine,
        candidates_per_image=candidates_per_image,
        max_hamming=None if max_hamming < 0 else max_hamming,
        output=output,
        ray=ray,
        workers=workers,
    )
    write_duplicates(
        found, output, overwrite=overwrite, report=report, root=root, images=images or ()
    )
    _print_result(found, output, classes, json)


_OF_THE_SEARCH = frozenset(
    {"output", "what", "precision", "threshold", "verify", "mode", "flip", "rotate", "linkage"}
    | {"candidates_per_image", "min_cosine", "max_hamming", "ray", "workers"}
)
"""Options that --update takes from the search before."""


def _refuse_settings(ctx: typer.Context) -> None:
    given = {one.name for one in ctx.command.params if _is_given(ctx, one.name)}
    if refused := sorted(given & _OF_THE_SEARCH):
        raise typer.BadParameter(
            f"--{refused[0].replace('_', '-')} isn't for --update, which has the settings of the "
            "search before; search again without --update"
        )


def _is_given(ctx: typer.Context, name: str | None) -> bool:
    source = None if name is None else ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_missing_images(store: Path, root: Path | None) -> None:
    """Refuses a report without pictures before anything is searched."""
    from embedkit.extraction.source_images import refuse_missing_images
    from embedkit.store import EmbeddingStore

    with EmbeddingStore.open(store) as opened:
        refuse_missing_images(opened.ids, opened.meta.folders(root))


def _calibration(text: str | None) -> Calibration | Literal["cosine"] | None:
    from embedkit.dedup import Calibration

    if text is None:
        return None
    if text == "cosine":
        return "cosine"
    return Calibration.load(text)


@group.command(
    "rethreshold",
    cls=Command,
    epilog=examples(
        "embedkit dedup rethreshold duplicates/ -o stricter/ --threshold 0.999",
        "embedkit dedup rethreshold duplicates/ -o groups/ --linkage complete",
    ),
)
def _rethreshold(
    folder: Annotated[Path, typer.Argument(help="Folder written by 'dedup find'.")],
    output: _OutputOption,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Lowest score of a pair, not below that of the search [default: that one]."
        ),
    ] = None,
    linkage: Annotated[
        Linkage | None, typer.Option(help="Grouping [default: that of the search].")
    ] = None,
    images: ImagesOption = None,
    root: _RootOption = None,
    report: _ReportOption = True,
    classes: _ClassesOption = 20,
    overwrite: _OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Raise the threshold or change the grouping, without a new search."""
    from embedkit.dedup import read_duplicates, rethreshold, write_duplicates
    from embedkit.dedup.output.folder import check_output
    from embedkit.extraction.source_images import refuse_missing_images

    check_output(output, overwrite=overwrite)
    found = read_duplicates(folder)
    if threshold is None:
        threshold = found.pairs.info.threshold
    if report and not images:
        refuse_missing_images(found.images.ids, found.store.folders(root))
    tightened = rethreshold(found, threshold, linkage.value if linkage else None)
    write_duplicates(
        tightened, output, overwrite=overwrite, report=report, root=root, images=images or ()
    )
    _print_result(tightened, output, classes, json)


def _print_result(found: Duplicates, output: Path, classes: int, json: bool) -> None:
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
        f"({counts['exact_pairs']:,} identical files), {count_of(counts['groups'], 'group')} of "
        f"{count_of(counts['grouped_images'], 'image')}, {counts['surplus_images']:,} "
        "redundant"
    )
    if counts["first_page_pairs"]:
        typer.echo(
            f"first page only: {count_of(counts['first_page_pairs'], 'pair')} of files with "
            "several pages or frames; a plan removes none of these"
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
    """Describes how the pairs were found."""
    from embedkit.dedup.pairs import SAME_SCENE

    info, looked = found.pairs.info, int((found.pairs.verified >= 0).sum())
    words = [f"score >= {info.threshold:.4g}", f"calibration: {plain(info.calibration)}"]
    if info.recall is not None:
        words.append(f"approximate: recall {100 * info.recall:.1f}%, measured on a sample")
    elif info.mode == "approximate" and not looked:
        words.append("approximate: recall unknown, the sample has no near pairs")
    if looked:
        words.append(f"{count_of(looked, 'pair')} verified on the pixels")
    if scenes := int((found.pairs.verified == SAME_SCENE).sum()):
        words.append(f"{count_of(scenes, 'pair')} are other photographs of one scene")
    if info.calibration != "pixels":
        words.append("not compared on the pixels: look-alikes may be among them")
    if info.candidate_recall is not None:
        words.append(f"{100 * info.candidate_recall:.1f}% of the copies were candidates")
    return "; ".join(words)


for _name, (_command, _lines) in {
    **dedup_calibrate.COMMANDS,
    **dedup_plan.COMMANDS,
    **dedup_semantic.COMMANDS,
}.items():
    group.command(_name, cls=Command, epilog=examples(*_lines))(_command)
