"""Completes a store when its last shard is there, by one run or by the last of several parts."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.extraction.outcome import nothing_embedded
from embedkit.extraction.runner import ExtractResult
from embedkit.sources.part import Part
from embedkit.store.format import StoreCounts
from embedkit.store.object_store import ObjectFolder
from embedkit.store.shared_dir import SharedStore
from embedkit.utils.timing import timed

if TYPE_CHECKING:
    from embedkit.extraction.run_plan import Extraction

__all__ = ["finish", "nothing_to_do"]

_log = logging.getLogger("embedkit")


def finish(extraction: Extraction, result: ExtractResult) -> ExtractResult:
    """Makes the store, or says which parts it waits for.

    Args:
        extraction: A run whose shards are all finished.
        result: Its result.

    Raises:
        NothingEmbeddedError: Not one image of the source could be embedded.
    """
    if isinstance(extraction.partial, SharedStore | ObjectFolder):
        return _finish_shared(extraction, extraction.partial, result)
    if extraction.part is None and not result.embedded:
        _discard(extraction, result)
    shards = extraction.shards
    with timed("wrote the store"):
        extraction.partial.finish(
            len(shards), sharded=extraction.settings.sharded, first=shards.start
        )
    return result


def nothing_to_do(extraction: Extraction) -> ExtractResult:
    """The result of a part without shards; logs why it has none."""
    plan = extraction.plan
    _log.warning(
        "part %s has nothing to do: the source has %d images in %d shards of %d, which "
        "shard_rows sets", extraction.part, plan.count, plan.num_shards, plan.shard_rows,
    )  # fmt: skip
    return ExtractResult.of(extraction.job.output, StoreCounts(0, 0, 0), complete=True, resumed=0)


def _finish_shared(
    extraction: Extraction, partial: SharedStore | ObjectFolder, result: ExtractResult
) -> ExtractResult:
    """Makes the store if all parts are done; otherwise the last of them does."""
    num_shards = extraction.plan.num_shards
    with partial.last() as is_last:
        missing = partial.missing(num_shards)
        if partial.exists():  # another part did
            return result
        if not missing and is_last:
            if not partial.num_embedded(num_shards):
                _discard(extraction, result)
            with timed("wrote the store"):
                partial.finish(num_shards, sharded=True)
            return result
        of = 1 if extraction.part is None else extraction.part.of
        waits_for = [str(part) for part in Part.of_shards(missing, num_shards, of)]
        return replace(result, waits_for=tuple(waits_for or partial.parts_at_work()))


def _discard(extraction: Extraction, result: ExtractResult) -> None:
    partial = extraction.partial
    error = nothing_embedded(extraction.job.meta.source, result, partial, extraction.plan)
    partial.forget()
    partial.discard()
    raise error
