"""Writes a probe's predictions to a file: one line per image and class, best first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError
from embedkit.utils.atomic_write import atomic_file
from embedkit.utils.table_writers import Column, check_suffix, open_table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from embedkit.probe.predict import PredictedBatch
    from embedkit.types import ImageFailure

__all__ = ["check_predictions_file", "write_predictions"]

_COLUMNS = (
    Column("id", "string"),
    Column("rank", "int32"),
    Column("name", "string"),
    Column("score", "float64"),
)


def check_predictions_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> str:
    """The format that the file's name asks for, as its suffix.

    Raises:
        StoreError: It exists.
        ValueError: It has another suffix than ``.csv``, ``.jsonl`` or ``.parquet``.
    """
    path = Path(output)
    suffix = check_suffix(path, "predictions")
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; overwrite=True replaces it")
    return suffix


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
    suffix = check_predictions_file(output, overwrite=overwrite)
    images = 0
    failures: list[ImageFailure] = []
    with atomic_file(Path(output)) as file, open_table(suffix, file, _COLUMNS) as table:
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
