"""Writes a probe's predictions to a file: one line per image and class, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from embedkit.probe.predict import PredictedBatch
    from embedkit.types import ImageFailure

__all__ = ["write_predictions"]

_COLUMNS = (
    Column("id", "string"),
    Column("rank", "int32"),
    Column("name", "string"),
    Column("score", "float64"),
)


def write_predictions(
    batches: Iterable[PredictedBatch],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> tuple[int, list[ImageFailure]]:
    """Writes predictions as they come; the file appears when it is complete.

    The columns are ``id``, ``rank`` (from 1), ``name`` (of the class, label or target) and
    ``score``.

    Args:
        batches: What ``predict`` gives.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        overwrite: Replace a file that exists.

    Returns:
        The number of images, and those that couldn't be embedded.

    Raises:
        StoreError: ``output`` exists or can't be written.
        ValueError: ``output`` has another suffix.
    """
    images = 0
    failures: list[ImageFailure] = []
    with table_file(output, _COLUMNS, "predictions", overwrite=overwrite) as table:
        for batch in batches:
            table.write(_columns(batch))
            images += len(batch.ids)
            failures += batch.failures
    return images, failures


def _columns(batch: PredictedBatch) -> list[Any]:
    count, k = batch.scores.shape
    return [
        [name for name in batch.ids for _ in range(k)],
        [*range(1, k + 1)] * count,
        [name for names in batch.names for name in names],
        [float(str(score)) for score in batch.scores.reshape(-1)],  # 0.7, not 0.699999988
    ]
