"""``embedkit watch``."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._command import JsonOption, examples
from ._extraction import Stopping, changes
from ._output import plain, print_json, print_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.extraction.update_outcome import UpdateResult
    from embedkit.index import IndexUpdate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = examples(
    "embedkit watch photos/ photos.h5",
    "embedkit watch photos/ photos.h5 --index photos.index --every 300",
)


def command(
    sources: Annotated[
        list[str], typer.Argument(help="All sources of the store.", metavar="SOURCE...")
    ],
    store: Annotated[
        Path, typer.Argument(help="Store to keep up to date, made by extract; may be a URL.")
    ],
    index: Annotated[
        list[Path] | None,
        typer.Option(help="Index of the store to keep up to date too; repeatable."),
    ] = None,
    every: Annotated[
        float, typer.Option(help="Seconds between the end of one update and the next.", min=0.1)
    ] = 60.0,
    weights: Annotated[
        str, typer.Option(help="The weights file that the store was made with, if one was.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Update a store and its indexes at intervals, until interrupted.

    Lists the sources again each time, as `extract --update` does: nothing is missed on network
    folders and buckets. Images that fail are tried again each time, so one that was still being
    copied is embedded once it is whole.
    """
    from embedkit.decode.time_limit import IMAGE_SECONDS
    from embedkit.errors import EmbedkitError
    from embedkit.extraction.output import isolate_mark
    from embedkit.store.object_cache import exists
    from embedkit.utils.urls import display_name
    from embedkit.utils.watchdog import ended_when_stuck

    if not exists(store):
        name = display_name(store)
        raise typer.BadParameter(
            f"{name}: there is no store; make it with 'embedkit extract {sources[0]} -o {name}'"
        )
    mark = isolate_mark(store, part=None, sharded=False, work_dir=None)
    with ended_when_stuck(IMAGE_SECONDS, mark), suppress(KeyboardInterrupt):
        for number in count():
            with Stopping() as stopping:
                try:
                    for path, result, text in _update(
                        sources, store, index or [], weights, stopping
                    ):
                        if number == 0 or _changed(result):
                            _show(path, result, text, json=json)
                except (EmbedkitError, OSError, ValueError) as exc:
                    if number == 0:  # most likely a mistake in the command
                        raise
                    print_message(f"{_now()} {exc}; tried again in {every:g} s")
            if stopping.event.is_set():
                break
            time.sleep(every)
    print_message("stopped")


def _update(
    sources: list[str],
    store: Path,
    indexes: list[Path],
    weights: str,
    stopping: Stopping,
) -> Iterator[tuple[Path | str, UpdateResult | IndexUpdate, str]]:
    """Updates the store and then its indexes; gives the path, result and text of each update."""
    from embedkit.extraction.extract import extract
    from embedkit.extraction.update_outcome import UpdateResult
    from embedkit.index import Index

    result = extract(
        sources, store, update=True, weights=weights, stop=stopping.event,
        progress=stopping.on_progress,
    )  # fmt: skip
    assert isinstance(result, UpdateResult)
    if not result.complete:
        return
    text = f"{changes(result)}{result.embedded:,} embedded"
    yield result.path, result, text
    for index in indexes:
        done = Index.update(index, measure_recall=False)
        text = f"+{done.added:,} ~{done.changed:,} -{done.removed:,}"
        yield index, done, text


def _changed(result: UpdateResult | IndexUpdate) -> bool:
    return bool(
        result.added or result.changed or result.removed or getattr(result, "recovered", ())
    )


def _show(path: Path | str, result: UpdateResult | IndexUpdate, text: str, *, json: bool) -> None:
    if json:
        print_json({**asdict(result), "path": str(path)}, indent=None)
    else:
        typer.echo(f"{_now()} {plain(path)}: {text}")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
