"""``embedkit index``: build, add, remove, update, compact, eval."""

from __future__ import annotations

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import Command, Group, JsonOption, examples
from ._completion import completing
from ._output import count_of, plain, print_json, print_message, print_table
from ._panels import OUTPUT, PERFORMANCE, SEARCH
from ._ray import RayOption, RayWorkersOption
from ._work_dir import WorkDirOption

if TYPE_CHECKING:
    from embedkit.index import Index, IndexSpec
    from embedkit.index.manifest import IndexManifest

__all__ = ["Metric", "add", "build", "compact", "evaluate", "group", "remove", "update"]

group = typer.Typer(
    help="Build, measure and update an index for search.",
    epilog=examples(
        "embedkit index build photos.h5 -o photos.index",
        "embedkit index add photos.index more.h5",
    ),
    rich_markup_mode=None,
    cls=Group,
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Metric(StrEnum):
    """Similarity metric."""

    COSINE = "cosine"
    IP = "ip"
    L2 = "l2"


_Index = Annotated[Path, typer.Argument(help="Index: a folder.")]


@group.command(
    "build",
    cls=Command,
    epilog=examples(
        "embedkit index build photos.h5 -o photos.index",
        "embedkit index build photos.h5 -o photos.index --memory 2GB --recall 0.98",
        "embedkit index build photos.h5 -o photos.index --dry-run",
        "embedkit index build a.h5 b.h5 -o all.index --ray auto",
    ),
)
def build(
    stores: Annotated[
        list[Path], typer.Argument(help="Stores of one backbone: files or folders of shards.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Index to write: a folder; may be a URL.")
    ],
    memory: Annotated[
        str,
        typer.Option(
            help="Memory for searching, at most, such as 2GB or 500MB; or any.", metavar="SIZE"
        ),
    ] = "any",
    recall: Annotated[
        float, typer.Option(help="Target recall@10: share of the ten nearest images found.")
    ] = 0.95,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the index and discard an interrupted build."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the chosen index and its cost, then stop.")
    ] = False,
    factory: Annotated[
        str,
        typer.Option(
            help="Index type: auto, or a FAISS factory string such as IVF1024,PQ64x4fs.",
            autocompletion=completing("auto", "Flat", "HNSW32", "IVF1024,Flat", "IVF1024,PQ64x4fs"),
            rich_help_panel=SEARCH,
        ),
    ] = "auto",
    metric: Annotated[
        Metric,
        typer.Option(
            help="Similarity; ip is the inner product. Higher scores are closer.",
            rich_help_panel=SEARCH,
        ),
    ] = Metric.COSINE,
    latency: Annotated[
        float | None,
        typer.Option(help="Time per query, at most (milliseconds).", rich_help_panel=SEARCH),
    ] = None,
    whiten: Annotated[
        int | None,
        typer.Option(
            help="Dimensions of PCA whitening, learned from a sample [default: no whitening].",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Rerank candidates with the stores' embeddings [default: if the index keeps "
            "only codes].",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    on_disk: Annotated[
        bool,
        typer.Option(
            "--on-disk",
            help="Keep the inverted lists on disk, memory-mapped.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = False,
    train_rows: Annotated[
        int | None,
        typer.Option(
            help="Embeddings to train on [default: chosen by index type].",
            rich_help_panel=PERFORMANCE,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=PERFORMANCE)] = 0,
    ray: RayOption = None,
    workers: RayWorkersOption = None,
    work_dir: WorkDirOption = None,
    json: JsonOption = False,
) -> None:
    """Build an index of stores, tuned and measured; resumes an interrupted build."""
    from embedkit.index import Index, IndexSpec
    from embedkit.index.manifest import IndexManifest

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
        _show_choice(stores, spec, with_ray=ray is not None, json=json)
        return
    built = Index.build(
        stores, output, spec, overwrite=overwrite, ray=ray, workers=workers, work_dir=work_dir
    )
    _show_index(built, IndexManifest.of(built), json=json)


@group.command(
    "add",
    cls=Command,
    epilog=examples(
        "embedkit index add photos.index more.h5",
    ),
)
def add(
    index: _Index,
    stores: Annotated[
        list[Path], typer.Argument(help="Stores with the embedding settings of the index.")
    ],
    json: JsonOption = False,
) -> None:
    """Add all embeddings of stores to an index, atomically."""
    from embedkit.index import Index

    added = Index.add(index, stores)
    _show_change(index, "added", added, json=json)


@group.command(
    "remove",
    cls=Command,
    epilog=examples(
        "embedkit index remove photos.index photos/cat.jpg",
        "embedkit index remove photos.index --from ids.txt",
    ),
)
def remove(
    index: _Index,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of images, as printed by searches.")
    ] = None,
    ids_from: Annotated[
        Path | None,
        typer.Option("--from", help="File of ids, one per line (or separated by NUL bytes)."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Remove images from an index by id; 'compact' frees the memory."""
    from embedkit.index import Index

    requested = [*(ids or []), *(_read_ids(ids_from) if ids_from else [])]
    if not requested:
        raise typer.BadParameter("no ids: pass ids, or a file with --from")
    _show_change(index, "removed", Index.remove(index, requested), json=json)


@group.command(
    "update",
    cls=Command,
    epilog=examples(
        "embedkit index update photos.index",
    ),
)
def update(
    index: _Index,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="Measure how well new images are found, to say when training again is worth it; "
            "reads all embeddings once.",
        ),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Add, replace and remove what changed in an index's stores, atomically."""
    from embedkit.index import Index

    found = Index.update(index, measure_recall=measure)
    with Index.open(index, check="fast") as opened:
        left = len(opened)
    if json:
        print_json(
            {
                "index": str(index),
                **asdict(found),
                "needs_training": found.needs_training,
                "embeddings": left,
            }
        )
        return
    typer.echo(
        f"{plain(index)}: +{found.added:,} ~{found.changed:,} -{found.removed:,}, "
        f"{count_of(left, 'embedding')} now"
    )
    if found.needs_training:
        print_message(
            f"recall@10 of the new images is {found.recall:.3f}, {found.recall_built:.3f} when the "
            "index was built: build it again to train it on them"
        )


@group.command(
    "compact",
    cls=Command,
    epilog=examples(
        "embedkit index compact photos.index",
    ),
)
def compact(index: _Index, json: JsonOption = False) -> None:
    """Rebuild an index without its removed images, from its stores."""
    from embedkit.index import Index

    left_out = Index.compact(index)
    _show_change(index, "removed for good", left_out, json=json)


@group.command(
    "eval",
    cls=Command,
    epilog=examples(
        "embedkit index eval photos.index --plot recall.png",
        "embedkit index eval photos.index --queries other.h5 --limit 1000",
    ),
)
def evaluate(
    index: _Index,
    queries: Annotated[
        Path | None,
        typer.Option(help="Store of other images to measure the current setting with."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Embeddings of --queries to use, at most; a random sample.")
    ] = 500,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Plot of recall against time to write: .png, .svg or .pdf.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show recall and time of each setting of an index, as measured when it was built."""
    from embedkit.index import Index
    from embedkit.utils.urls import display_name

    if plot is not None:
        from embedkit.utils.extras import require_extra

        require_extra("matplotlib", "plots", "a plot")
    with Index.open(index, check="fast" if queries is None else "full") as opened:
        fresh = None if queries is None else _measured(opened, queries, limit)
        if plot is not None:
            _plot(opened, plot)
        if json:
            info = _as_dict(display_name(index), opened.manifest)
            print_json(info if fresh is None else {**info, "fresh": fresh})
            return
        _print_frontier(display_name(index), opened)
        if fresh is not None:
            typer.echo(
                f"{fresh['queries']:,} rows of {plain(queries)}: recall@1 "
                f"{fresh['recall_at_1']:.3f}, recall@10 {fresh['recall_at_10']:.3f}, "
                f"{fresh['ms']:.3f} ms per query"
            )


def _size(text: str) -> int | None:
    if text == "any":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(
            f"--memory: expected a size such as 2GB or 500MiB, or any, got {text!r}"
        )
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])


def _read_ids(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{path}: can't be read: {exc.strerror}") from exc
    names = data.removesuffix(b"\0").split(b"\0") if b"\0" in data else data.splitlines()
    return [name.decode("utf-8", "surrogateescape") for name in names if name]


def _show_choice(stores: list[Path], spec: IndexSpec, *, with_ray: bool, json: bool) -> None:
    from embedkit.index import Index

    choice = Index.choose(stores, spec)
    steps = Index.ray_cost(stores, spec) if with_ray else ()
    if json:
        ray = {"steps": [asdict(step) for step in steps]} if with_ray else {}
        print_json({**asdict(choice), **ray})
        return
    for name, value in (
        ("factory", choice.factory),
        ("why", choice.reason),
        ("reranked", "with the stores' embeddings" if choice.rerank else "no"),
        ("lists", "on disk" if choice.on_disk else "in memory"),
        ("to search", f"{choice.nbytes / 1e6:,.0f} MB"),
        ("to build", f"{choice.build_bytes / 1e6:,.0f} MB"),
    ):
        typer.echo(f"{name + ':':12}{plain(value)}")
    if steps:
        print_table(
            ("step", "tasks", "rows each", "MB each", "core-seconds each"),
            [
                (
                    step.step,
                    f"{step.tasks:,}" if step.tasks else "here",
                    f"{step.rows:,}",
                    f"{step.nbytes / 1e6:,.0f}",
                    f"{step.seconds:,.1f}",
                )
                for step in steps
            ],
        )
    elif with_ray:
        print_message(f"{choice.factory} can't be built in parts: this process does it")


def _show_index(path: Path | str, manifest: IndexManifest, *, json: bool) -> None:
    if json:
        print_json(_as_dict(path, manifest))
        return
    point = manifest.chosen
    measured = ""
    if point is not None:
        setting = f" ({point.params})" if str(point.params) != "k_factor=1" else ""
        measured = f", recall@10 {point.recall_at_10:.3f} in {point.ms:.2f} ms per query{setting}"
    typer.echo(
        f"{plain(path)}: {count_of(manifest.count, 'embedding')}, {manifest.factory}, "
        f"{manifest.bytes_per_vector:,.0f} bytes per vector{measured}"
    )
    if point is not None and point.recall_at_10 < manifest.spec.recall:
        print_message(f"the target recall of {manifest.spec.recall} is not reached")


def _show_change(index: Path, done: str, count: int, *, json: bool) -> None:
    from embedkit.index import Index

    with Index.open(index, check="fast") as opened:
        left = len(opened)
    if json:
        print_json({"index": str(index), done.split()[0]: count, "embeddings": left})
    else:
        typer.echo(f"{plain(index)}: {count:,} {done}, {count_of(left, 'embedding')} now")


def _as_dict(path: Path | str, manifest: IndexManifest) -> dict[str, Any]:
    return {
        "index": str(path),
        "factory": manifest.factory,
        "metric": manifest.metric,
        "dim": manifest.dim,
        "embeddings": manifest.count - manifest.removed,
        "removed": manifest.removed,
        "rerank": manifest.rerank,
        "on_disk": manifest.on_disk,
        "bytes_per_vector": manifest.bytes_per_vector,
        "held_out_queries": manifest.queries,
        "params": manifest.params.to_config(),
        "frontier": [point.to_config() for point in manifest.frontier],
    }


def _print_frontier(name: str, index: Index) -> None:
    manifest = index.manifest
    typer.echo(
        f"{plain(name)}: {count_of(len(index), 'embedding')}, {index.factory}, "
        f"{index.metric}, {manifest.bytes_per_vector:,.0f} bytes per vector"
    )
    if not manifest.frontier:
        typer.echo("not measured: too few embeddings to hold some out, or format 1")
        return
    rows = [
        (
            point.params,
            f"{point.recall_at_1:.3f}",
            f"{point.recall_at_10:.3f}",
            f"{point.ms:.3f}",
            "" if point.batch_ms is None else f"{point.batch_ms:.3f}",
            "chosen" if point == index.chosen else "",
        )
        for point in manifest.frontier
    ]
    print_table(
        ("setting", "recall@1", "recall@10", "ms, single query", "ms, in a batch", ""), rows
    )


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
