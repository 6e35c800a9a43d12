"""``embedkit index``: build, add, remove, compact, eval."""

from __future__ import annotations

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._output import ProgressLine, count_of, plain, print_json, print_table, tell
from ._quick import QuickCommand, QuickGroup

if TYPE_CHECKING:
    from embedkit.index import Index, IndexSpec

__all__ = ["Metric", "add", "build", "compact", "evaluate", "group", "remove"]

group = typer.Typer(
    help="Build indexes for search, change them, and show what they find and cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=QuickGroup,
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Metric(StrEnum):
    """How closeness is measured."""

    COSINE = "cosine"
    IP = "ip"
    L2 = "l2"


_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Index = Annotated[Path, typer.Argument(help="The index: a folder.")]


@group.command("build", cls=QuickCommand)
def build(
    context: typer.Context,
    stores: Annotated[
        list[Path], typer.Argument(help="Stores of one backbone: files or folders of shards.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The index: a folder to make.")],
    factory: Annotated[
        str, typer.Option(help="auto, or any faiss factory string, as IVF1024,PQ64x4fs.")
    ] = "auto",
    metric: Annotated[
        Metric, typer.Option(help="cosine, ip (inner product) or l2; higher scores are closer.")
    ] = Metric.COSINE,
    memory: Annotated[
        str, typer.Option(help="Most memory that searching may take, as 2GB or 500MB; or any.")
    ] = "any",
    recall: Annotated[
        float, typer.Option(help="Wanted share of the ten nearest images that are found.")
    ] = 0.95,
    latency: Annotated[
        float | None, typer.Option(help="Milliseconds that one query may take.")
    ] = None,
    whiten: Annotated[
        int | None, typer.Option(help="PCA-whitening to so many dimensions, learned from a sample.")
    ] = None,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Compare the best candidates anew with the stores' rows, or never need the "
            "stores; the default does so where the index keeps only codes.",
        ),
    ] = None,
    on_disk: Annotated[
        bool, typer.Option("--on-disk", help="Keep the inverted lists on disk, memory-mapped.")
    ] = False,
    train_rows: Annotated[
        int | None, typer.Option(help="Rows to train on; the default goes by the index.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn at random.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an index; forget an interrupted build.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built and what it takes, stop.")
    ] = False,
    json: _Json = False,
) -> None:
    """Build an index of all rows of stores, tuned and measured; go on where a run was killed."""
    from embedkit.index import Index, IndexSpec

    spec = IndexSpec(
        factory=factory,
        metric=metric.value,
        whiten=whiten,
        recall=recall,
        memory=_size(memory),
        latency=latency,
        rerank=rerank,
        on_disk=on_disk,
        train_rows=train_rows,
        seed=seed,
    )
    if dry_run:
        _show_choice(stores, spec, json=json)
        return
    with ProgressLine(quiet=context.obj["quiet"]) as line:
        Index.build(stores, output, spec, overwrite=overwrite, on_progress=line.stage)
    with Index.open(output, check="fast") as index:
        _show_index(index, json=json)


@group.command("add", cls=QuickCommand)
def add(
    context: typer.Context,
    index: _Index,
    stores: Annotated[list[Path], typer.Argument(help="Stores, embedded as the index was.")],
    json: _Json = False,
) -> None:
    """Add all rows of stores to an index; searches see all of them or none."""
    from embedkit.index import Index

    with ProgressLine(quiet=context.obj["quiet"]) as line:
        added = Index.add(index, stores, on_progress=line.stage)
    _show_change(index, "added", added, json=json)


@group.command("remove", cls=QuickCommand)
def remove(
    index: _Index,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of images, as searches print them.")
    ] = None,
    ids_from: Annotated[
        Path | None,
        typer.Option("--from", help="A file of ids, one a line (or each ended by a NUL byte)."),
    ] = None,
    json: _Json = False,
) -> None:
    """Remove images from an index by their ids; 'compact' then frees their memory."""
    from embedkit.index import Index

    wanted = [*(ids or []), *(_read_ids(ids_from) if ids_from else [])]
    if not wanted:
        raise typer.BadParameter("no ids: give some, or --from a file")
    _show_change(index, "removed", Index.remove(index, wanted), json=json)


@group.command("compact", cls=QuickCommand)
def compact(context: typer.Context, index: _Index, json: _Json = False) -> None:
    """Make an index anew without what was removed, from its stores and with its training."""
    from embedkit.index import Index

    with ProgressLine(quiet=context.obj["quiet"]) as line:
        left_out = Index.compact(index, on_progress=line.stage)
    _show_change(index, "left out for good", left_out, json=json)


@group.command("eval", cls=QuickCommand)
def evaluate(
    index: _Index,
    queries: Annotated[
        Path | None,
        typer.Option(help="A store of other images: measure the index's setting with its rows."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of --queries, drawn at random.")] = 500,
    plot: Annotated[
        Path | None, typer.Option(help="Write a plot of recall against time: .png, .svg or .pdf.")
    ] = None,
    json: _Json = False,
) -> None:
    """Show what each setting of an index finds and costs, as measured when it was built."""
    from embedkit.index import Index

    with Index.open(index, check="fast" if queries is None else "full") as opened:
        fresh = None if queries is None else _measured(opened, queries, limit)
        if plot is not None:
            _plot(opened, plot)
        if json:
            told = _as_dict(opened)
            print_json(told if fresh is None else {**told, "fresh": fresh})
            return
        _print_frontier(opened)
        if fresh is not None:
            typer.echo(
                f"{fresh['queries']:,} rows of {plain(queries)}: recall@1 "
                f"{fresh['recall_at_1']:.3f}, recall@10 {fresh['recall_at_10']:.3f}, "
                f"{fresh['ms']:.3f} ms a query"
            )


def _size(text: str) -> int | None:
    if text == "any":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"--memory: a size as 2GB or 500MiB, or any, not {text!r}")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])


def _read_ids(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{path}: can't be read: {exc.strerror}") from exc
    names = data.removesuffix(b"\0").split(b"\0") if b"\0" in data else data.splitlines()
    return [name.decode("utf-8", "surrogateescape") for name in names if name]


def _show_choice(stores: list[Path], spec: IndexSpec, *, json: bool) -> None:
    from embedkit.index import Index

    choice = Index.choose(stores, spec)
    if json:
        print_json(asdict(choice))
        return
    for name, value in (
        ("factory", choice.factory),
        ("why", choice.reason),
        ("reranked", "with the stores' rows" if choice.rerank else "no"),
        ("lists", "on disk" if choice.on_disk else "in memory"),
        ("to search", f"{choice.nbytes / 1e6:,.0f} MB"),
        ("to build", f"{choice.build_bytes / 1e6:,.0f} MB"),
    ):
        typer.echo(f"{name + ':':12}{plain(value)}")


def _show_index(index: Index, *, json: bool) -> None:
    if json:
        print_json(_as_dict(index))
        return
    point = index.chosen
    measured = ""
    if point is not None:
        setting = f" ({point.params})" if str(point.params) != "k_factor=1" else ""
        measured = f", recall@10 {point.recall_at_10:.3f} in {point.ms:.2f} ms a query{setting}"
    typer.echo(
        f"{plain(index.path)}: {count_of(len(index), 'embedding')}, {index.factory}, "
        f"{index.manifest.bytes_per_vector:,.0f} bytes a vector{measured}"
    )
    if point is not None and point.recall_at_10 < index.manifest.spec.recall:
        tell(f"the wanted recall of {index.manifest.spec.recall} isn't reached")


def _show_change(index: Path, done: str, count: int, *, json: bool) -> None:
    from embedkit.index import Index

    with Index.open(index, check="fast") as opened:
        left = len(opened)
    if json:
        print_json({"index": str(index), done.split()[0]: count, "embeddings": left})
    else:
        typer.echo(f"{plain(index)}: {count:,} {done}, {count_of(left, 'embedding')} now")


def _as_dict(index: Index) -> dict[str, Any]:
    manifest = index.manifest
    return {
        "index": str(index.path),
        "factory": index.factory,
        "metric": index.metric,
        "dim": index.dim,
        "embeddings": len(index),
        "removed": manifest.removed,
        "rerank": manifest.rerank,
        "on_disk": manifest.on_disk,
        "bytes_per_vector": manifest.bytes_per_vector,
        "held_out_queries": manifest.queries,
        "params": manifest.params.to_config(),
        "frontier": [point.to_config() for point in manifest.frontier],
    }


def _print_frontier(index: Index) -> None:
    manifest = index.manifest
    typer.echo(
        f"{plain(index.path)}: {count_of(len(index), 'embedding')}, {index.factory}, "
        f"{index.metric}, {manifest.bytes_per_vector:,.0f} bytes a vector"
    )
    if not manifest.frontier:
        typer.echo("nothing was measured: too few rows to hold some out, or of format 1")
        return
    rows = [
        (
            point.params,
            f"{point.recall_at_1:.3f}",
            f"{point.recall_at_10:.3f}",
            f"{point.ms:.3f}",
            "" if point.batch_ms is None else f"{point.batch_ms:.3f}",
            "taken" if point == index.chosen else "",
        )
        for point in manifest.frontier
    ]
    print_table(("setting", "recall@1", "recall@10", "ms alone", "ms in a batch", ""), rows)


def _measured(index: Index, queries: Path, limit: int) -> dict[str, Any]:
    import numpy as np

    from embedkit.store import EmbeddingStore

    with EmbeddingStore.open(queries) as store:
        index.check_compatible(store.meta)
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(store), min(limit, len(store)), replace=False))
        point = index.evaluate(store.take(rows))
    return {"queries": len(rows), **point.to_config()}


def _plot(index: Index, path: Path) -> None:
    from embedkit.report import plot_frontier

    points = index.manifest.frontier
    frontier = [(point.recall_at_10, point.cost, str(point.params)) for point in points]
    taken = index.chosen
    title = f"{index.path.name}: {index.factory}, {len(index):,} embeddings"
    point = None if taken is None else (taken.recall_at_10, taken.cost)
    plot_frontier(path, title, frontier, point)
