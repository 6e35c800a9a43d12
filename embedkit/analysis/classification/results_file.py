"""Writes predicted classes to a file: one line per image and class, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.classification.classify import classify
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting
from embedkit.utils.table_writers import Column, table_file

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from embedkit.analysis.classification.classify import ClassifiedBatch
    from embedkit.utils.progress import ProgressCallback

__all__ = ["COLUMNS", "classify_to_file"]

COLUMNS = (
    Column("id", "string"),
    Column("rank", "int32"),
    Column("class", "int32"),
    Column("class_id", "string"),
    Column("class_name", "string"),
    Column("probability", "float32"),
)


@plain_numbers
def classify_to_file(
    stores: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    k: int = 5,
    *,
    overwrite: bool = False,
    progress: bool | ProgressCallback = False,
) -> int:
    """Classifies the images of stores into a CSV, JSON lines or Parquet file.

    The columns are ``id``, ``rank`` (from 1), ``class`` (its number), ``class_id`` (the ImageNet
    synset, empty where there is none), ``class_name`` and ``probability``. The file appears when
    it is complete.

    Args:
        stores: Stores with a head.
        output: ``.csv``, ``.jsonl`` or ``.parquet``.
        k: Classes per image.
        overwrite: Replace a file that exists.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        Number of classified images.

    Raises:
        StoreError: ``output`` exists or can't be written, or a store can't be read or has no head
            that applies.
        ValueError: ``output`` has another suffix, or ``k < 1``.
    """
    images = 0
    with (
        reporting(progress),
        table_file(output, COLUMNS, "classes", overwrite=overwrite) as table,
    ):
        for store in stores:
            for batch in classify(store, k):
                table.write(_columns(batch))
                images += len(batch.ids)
    return images


def _columns(batch: ClassifiedBatch) -> list[Any]:
    k = batch.classes.shape[1]
    return [
        [name for name in batch.ids for _ in range(k)],
        np.tile(np.arange(1, k + 1, dtype=np.int32), len(batch.ids)),
        batch.classes.reshape(-1).astype(np.int32),
        [one for row in batch.class_ids for one in row],
        [one for row in batch.class_names for one in row],
        batch.probabilities.reshape(-1),
    ]
