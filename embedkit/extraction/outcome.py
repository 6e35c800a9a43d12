"""What a finished extraction has to say: images without labels, or that none was embedded."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from embedkit.errors import NothingEmbeddedError
from embedkit.sources.archive_hint import archive_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.extraction.runner import ExtractResult
    from embedkit.sources.shard_plan import Plan
    from embedkit.store.working_dir import PartialStore

__all__ = ["nothing_embedded", "unlabelled"]

_NAMED = 3


def unlabelled(plan: Plan) -> int:
    """How many files of a plan have no label; 0 where none has one."""
    return plan.count - plan.labelled if plan.has_labels else 0


def nothing_embedded(
    source: Sequence[str], result: ExtractResult, partial: PartialStore, plan: Plan
) -> NothingEmbeddedError:
    """The error of a run that embedded no image.

    Args:
        source: The sources' names.
        result: Its counts.
        partial: Its finished shards.
        plan: What was listed.
    """
    failures = list(islice(partial.failures(plan.num_shards), _NAMED))
    parts = [
        f"{', '.join(source)}: no image was embedded, so no store is written: {result.found:,} "
        f"found, {result.failed:,} failed, {result.skipped:,} skipped as they are no images"
    ]
    parts += [f"{failure.id}: {failure.reason}" for failure in failures]
    hint = archive_hint(plan.records())
    return NothingEmbeddedError("; ".join(parts + ([hint] if hint else [])), failures)
