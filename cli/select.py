"""``embedkit select``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._filters import FilterOption
from ._numbers import number_or_auto
from ._output import check_outputs, count_of, plain, print_json
from ._panels import OUTPUT, PERFORMANCE
from ._ray import RayOption

if TYPE_CHECKING:
    from embedkit.analysis.selection.select import Selection

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit select photos.h5 --per-class 100 -o selection.csv",
    "embedkit select part1.h5 part2.h5 --per-class 10 --classes @classes.txt -o selection.csv",
    "embedkit select photos.h5 --diverse 1000 -o selection.csv",
    "embedkit select photos.h5 --representative 500 --seed-from labeled.txt -o selection.csv",
    "embedkit select photos/ --representative 500 --ray auto -o selection.csv",
)

_PANEL = "Without classes"
_ONLY_PER_CLASS = {"classes", "min_score", "max_classes", "workers", "webdataset"}
_ONLY_SUBSET = {"filter", "seed_from", "neighbors", "clusters", "seed", "ray"}


def _subset(text: str) -> Any:
    return typer.Option(min=1, metavar="N", help=text, rich_help_panel=_PANEL)


def command(
    ctx: typer.Context,
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="Stores (.h5) of one backbone.")
    ],
    per_class: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images per class, at most: the most probable ones, or with --diverse and so on "
            "a limit per label, or per most probable class.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="List to write: .csv, .jsonl or .parquet.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Class to select: synset, name or number, or @FILE with one per line; repeatable "
            "[default: all]."
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Lowest probability of the class.")
    ] = None,
    max_classes: Annotated[
        int, typer.Option(min=1, help="Classes per image, at most: its most likely ones.")
    ] = 10,
    diverse: Annotated[
        int | None, _subset("Select images far from each other (k-center greedy).")
    ] = None,
    representative: Annotated[
        int | None, _subset("Select images that stand for many others (facility location).")
    ] = None,
    unique: Annotated[
        int | None, _subset("Select the images farthest from their nearest other image.")
    ] = None,
    balanced: Annotated[
        int | None, _subset("Select as many images of each cluster, at random within it.")
    ] = None,
    filter: FilterOption = None,  # noqa: A002
    seed_from: Annotated[
        Path | None,
        typer.Option(
            help="Images chosen before, to be completed: one id per line, or a table with a "
            "column id.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    neighbors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For --representative: neighbors per image [default: 16 to 64, by N].",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    clusters: Annotated[
        str,
        typer.Option(help="For --balanced: number of clusters, or auto.", rich_help_panel=_PANEL),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.", rich_help_panel=_PANEL)] = 0,
    ray: RayOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of threads [default: 1 per core]; with --ray, of Ray workers, at most "
            "[default: 1 per machine].",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    webdataset: Annotated[
        Path | None,
        typer.Option(
            help="Write the list as JSON lines: tar shards, and the samples to take from each.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --webdataset.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the highest-confidence images per class, or a subset without classes.

    Works on the stored embeddings, in bounded memory.
    """
    from embedkit.analysis.selection.results_file import write_selection, write_webdataset
    from embedkit.analysis.selection.select import select

    counts = {
        "diverse": diverse,
        "representative": representative,
        "unique": unique,
        "balanced": balanced,
    }
    methods = [name for name, count in counts.items() if count is not None]
    _check_usage(ctx, methods, per_class)
    if output is None and webdataset is None:
        raise typer.BadParameter("give --output FILE, or --webdataset FILE")
    check_outputs(output, webdataset, what="selections", overwrite=overwrite)
    if methods:
        settings = {"neighbors": neighbors, "clusters": number_or_auto(clusters, "--clusters")}
        _select_subset(
            stores,
            methods[0],
            counts[methods[0]] or 0,
            output or Path(),
            overwrite=overwrite,
            json=json,
            seed_from=seed_from,
            filters=filter or (),
            per_class=per_class,
            seed=seed,
            ray=ray,
            workers=workers,
            **settings,
        )
        return
    selection = select(
        stores,
        per_class or 1,
        classes=None if classes is None else _expand(classes),
        min_score=min_score,
        max_classes=max_classes,
        workers=workers,
    )
    if output is not None:
        write_selection(selection, output, overwrite=overwrite)
    if webdataset is not None:
        write_webdataset(selection, webdataset, overwrite=overwrite)
    summary = _as_json(selection, per_class or 1)
    if json:
        names = {"output": output, "webdataset": webdataset}
        print_json({**summary, **{key: path and str(path) for key, path in names.items()}})
        return
    full = f"{summary['full']:,} of {summary['classes']:,} classes reached {per_class:,}"
    typer.echo(
        f"{count_of(summary['lines'], 'selection')} from {summary['images']:,} of "
        f"{count_of(summary['scanned'], 'image')}; {full}"
    )
    for path in (one for one in (output, webdataset) if one is not None):
        typer.echo(f"{plain(path)}: written")


def _check_usage(ctx: typer.Context, methods: list[str], per_class: int | None) -> None:
    """Refuses options that don't go together."""
    if len(methods) > 1:
        raise typer.BadParameter(f"give one of --{' and --'.join(methods)}")
    if not methods and per_class is None:
        raise typer.BadParameter(
            "give --per-class N, or one of --diverse, --representative, --unique and --balanced"
        )
    others = _ONLY_PER_CLASS if methods else _ONLY_SUBSET
    if ctx.params["ray"] is not None:
        others = others - {"workers"}
    for name in sorted(others):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name in {"COMMANDLINE", "ENVIRONMENT"}:
            flag = f"--{name.replace('_', '-')}"
            needed = "--representative or --unique" if name == "ray" else "--diverse or its like"
            why = f"doesn't go with --{methods[0]}" if methods else f"needs {needed}"
            raise typer.BadParameter(f"{flag} {why}")


def _select_subset(
    stores: list[Path],
    method: str,
    count: int,
    output: Path,
    *,
    overwrite: bool,
    json: bool,
    seed_from: Path | None,
    **settings: Any,
) -> None:
    from embedkit.analysis.selection.results_file import write_subset
    from embedkit.analysis.selection.subset import select_subset
    from embedkit.utils.id_lists import read_ids

    before = read_ids(seed_from) if seed_from is not None else ()
    subset = select_subset(stores, method, count, seed_from=before, **settings)  # type: ignore[arg-type]
    write_subset(subset, output, overwrite=overwrite)
    coverage = subset.coverage
    if json:
        print_json(
            {
                "method": method,
                "candidates": subset.candidates,
                "already_chosen": subset.already_chosen,
                "lines": len(subset.rows),
                "coverage": asdict(coverage),
                "output": str(output),
            }
        )
        return
    chosen = f", besides {subset.already_chosen:,} chosen before" if subset.already_chosen else ""
    of = "" if coverage.images == subset.candidates else f", of {coverage.images:,} measured"
    typer.echo(
        f"{count_of(len(subset.rows), f'{method} image')} of {subset.candidates:,}{chosen}; "
        f"distance to the nearest selected one: {coverage.mean_distance:.3f} on average, "
        f"{coverage.radius:.3f} at most{of}"
    )
    typer.echo(f"{plain(output)}: written")


def _expand(classes: list[str]) -> list[str]:
    """The classes that are named, those in files too."""
    out: list[str] = []
    for word in classes:
        if not word.startswith("@"):
            out.append(word)
            continue
        try:
            text = Path(word[1:]).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            raise typer.BadParameter(f"--classes {word}: can't be read: {exc}") from exc
        out += [line.strip() for line in text.splitlines() if line.strip()]
    return out


def _as_json(selection: Selection, per_class: int) -> dict[str, Any]:
    counts = selection.counts.tolist()
    return {
        "scanned": selection.scanned,
        "images": selection.images,
        "lines": len(selection.rows),
        "classes": len(selection.asked),
        "full": sum(count == per_class for count in counts),
        "counts": [
            {"class": number, "class_name": selection.head.class_names[number], "images": count}
            for number, count in zip(selection.asked, counts, strict=True)
        ],
    }
