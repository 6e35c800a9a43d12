"""``embedkit search``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import JsonOption, examples
from ._embedding import StoreBatchOption, WeightsFileOption, WorkersOption
from ._filters import COLUMNS
from ._images import ImagesOption
from ._output import ExitCode, count_of, plain, print_json, print_message, print_table
from ._panels import OUTPUT, PERFORMANCE, SEARCH
from .extract import EngineName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedkit.index import Index
    from embedkit.retrieval import SearchPage, SearchSummary
    from embedkit.types import ImageFailure, SearchResult

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit search photos.index query.jpg -k 5",
    "embedkit search photos.h5 query.jpg",
    "embedkit search photos.index queries.h5 -o neighbors.parquet",
    "embedkit search photos.index --vectors queries.npy",
    "embedkit search photos.index id:photos/cat.jpg --exclude-self --html neighbors.html",
)

_SHOWN = 20  # failures


def command(
    index: Annotated[Path, typer.Argument(help="Index (a folder), or a store.")],
    query: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image, folder, list, glob, archive or URL; a store (.h5), each row a query; "
            "id:ID, an image of the index; or - for paths on stdin. Several are allowed."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbors per query.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a .csv, .jsonl or .parquet file, not a table."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with thumbnails, not a table.")
    ] = None,
    vectors: Annotated[
        list[Path] | None,
        typer.Option(help="NumPy file (.npy) of embeddings, each row a query; repeatable."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score to return; higher is closer.")
    ] = None,
    exclude_self: Annotated[
        bool,
        typer.Option(
            "--exclude-self",
            help="Exclude the query's own id and, if the store is available, identical files.",
        ),
    ] = False,
    filter: Annotated[  # noqa: A002
        list[str] | None,
        typer.Option(
            "--filter",
            help=f"Return only neighbors with {COLUMNS}",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="Store that the index was built from, for filters and ids; repeatable "
            "[default: photos.h5 beside photos.index].",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    weights: WeightsFileOption = "auto",
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Inference engine; auto: OpenVINO on a CPU, PyTorch on CUDA.",
            rich_help_panel=PERFORMANCE,
        ),
    ] = EngineName.AUTO,
    device: Annotated[
        str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=PERFORMANCE)
    ] = "auto",
    batch_size: StoreBatchOption = None,
    workers: WorkersOption = None,
    images: ImagesOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing --output and --html.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Find the nearest images of an index for each query.

    Queries are embedded with the settings of the index. A store is searched without an index: every
    row is compared, which is fast enough below some 100,000 images. Exit codes: 0 done, 1 error,
    2 usage, 3 done but some queries failed, 130 interrupted.
    """
    options: dict[str, Any] = {
        "threshold": threshold,
        "exclude_self": exclude_self,
        "filters": filter or [],
        "stores": store,
        "weights": weights,
        "engine": engine.value,
        "device": device,
        "batch_size": batch_size,
        "workers": workers,
    }
    from embedkit.index import Index
    from embedkit.retrieval.vector_file import load_vectors
    from embedkit.utils.urls import display_name

    queries: list[Any] = [*(query or []), *map(load_vectors, vectors or [])]
    if not queries:
        raise typer.BadParameter("nothing to search with: give a query, or --vectors FILE")
    opened = Index.open(index)
    page = None if html is None else _begin_page(opened, html, images or (), overwrite=overwrite)
    shown = _Shown(display_name(index), k, json=json, table=output is None and page is None)
    sinks = [shown.add] if page is None else [shown.add, page.add]
    if output is None:
        _search(opened, queries, k, options, sinks)
    else:
        summary = _write(opened, queries, output, k, options, page, overwrite=overwrite)
        shown.summarize(summary)
    if page is not None and html is not None:
        page.write(html, _facts(k, options))
        shown.page = str(html)
    shown.end()
    if shown.failures:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _begin_page(index: Index, html: Path, images: Sequence[Path], *, overwrite: bool) -> SearchPage:
    from embedkit.errors import EmbedkitError
    from embedkit.retrieval import SearchPage

    if html.exists() and not overwrite:
        raise EmbedkitError(f"{html}: exists already; overwrite=True replaces it")
    if not html.absolute().parent.is_dir():
        raise EmbedkitError(f"{html}: there is no folder {html.parent}")
    return SearchPage(index, images)


def _facts(k: int, options: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("Neighbors per query", f"{k:,}"), *(("Filter", one) for one in options["filters"])]
    if options["threshold"] is not None:
        facts.append(("Lowest score", f"{options['threshold']:g}"))
    return facts


def _search(
    index: Index,
    queries: list[Any],
    k: int,
    options: dict[str, Any],
    sinks: Sequence[Callable[[SearchResult], None]],
) -> None:
    from embedkit.retrieval import SearchConfig, open_search

    with open_search(index, queries, k, SearchConfig.of(**options)) as ready:
        for result in ready.results():
            for sink in sinks:
                sink(result)


def _write(
    index: Index,
    queries: list[Any],
    output: Path,
    k: int,
    options: dict[str, Any],
    page: SearchPage | None,
    *,
    overwrite: bool,
) -> SearchSummary:
    from embedkit.retrieval import search_to_file

    return search_to_file(
        index,
        queries,
        output,
        k,
        overwrite=overwrite,
        on_result=None if page is None else page.add,
        **options,
    )


class _Shown:
    """What the user is shown: a table as it comes, or JSON at the end; failures either way.

    Attributes:
        page: The page that was written, if any.
        failures: Queries that could not be searched with.
    """

    def __init__(self, index: str, k: int, *, json: bool, table: bool) -> None:
        self._result: dict[str, Any] = {"index": index, "k": k}
        self._json, self._table, self._first = json, table, True
        self._queries: list[dict[str, Any]] = []
        self.page: str | None = None
        self.failures: list[ImageFailure] = []

    def add(self, result: SearchResult) -> None:
        """Takes what was found for some queries."""
        self._take_failures(result.failures)
        if not (self._json or self._table):
            return
        found = result.neighbors
        for query, ids, scores in zip(result.queries, found.ids, found.scores, strict=True):
            near = [
                {"rank": rank, "id": name, "score": float(str(score))}
                for rank, (name, score) in enumerate(zip(ids, scores, strict=False), 1)
            ]
            if self._json:
                self._queries.append({"query": query, "neighbors": near})
            else:
                self._print(query, near)

    def summarize(self, summary: SearchSummary) -> None:
        """Takes what was written to a file."""
        self._take_failures(summary.failures)
        if self._json:
            fields = asdict(summary)
            del fields["failures"]
            self._result |= fields
            return
        before = f", {summary.resumed:,} of them before" if summary.resumed else ""
        typer.echo(
            f"{plain(summary.path)}: {count_of(summary.neighbors, 'neighbor')} of "
            f"{summary.queries:,} queries{before}"
        )

    def end(self) -> None:
        """Shows what is shown at the end."""
        if self._json:
            if "queries" not in self._result:
                self._result["queries"] = self._queries
            failures = [{"id": f.id, "reason": f.reason} for f in self.failures]
            print_json({**self._result, "html": self.page, "failures": failures})
        elif self.page is not None:
            typer.echo(f"{plain(self.page)}: written (open it in a browser)")
        if len(self.failures) > _SHOWN:
            print_message(f"{len(self.failures) - _SHOWN:,} more failed")

    def _take_failures(self, failures: Sequence[ImageFailure]) -> None:
        for failure in failures[: max(_SHOWN - len(self.failures), 0)]:
            print_message(f"{plain(failure.id)}: {failure.reason}")
        self.failures += failures

    def _print(self, query: str, near: list[dict[str, Any]]) -> None:
        typer.echo("" if self._first else "\n", nl=False)
        self._first = False
        typer.echo(plain(query))
        rows = [(one["rank"], f"{one['score']:.4f}", one["id"]) for one in near]
        if rows:
            print_table(("rank", "score", "id"), rows)
        else:
            typer.echo("no neighbors")
