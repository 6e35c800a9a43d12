"""Training targets of a probe: a class, several labels or a number per image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedkit.errors import EmbedkitError
from embedkit.sources.labels import LABEL_SEPARATOR, LabelColumns, read_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.store import EmbeddingStore

__all__ = ["Targets", "Task", "match_targets", "read_targets"]

Task = Literal["classes", "multilabel", "regression"]
_LARGEST = 1e100  # of a number: the squares of a store's images can be added up


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of n rows of a store.

    Attributes:
        task: ``classes`` (one per row), ``multilabel`` (any number) or ``regression``.
        names: The C classes, sorted; the name of the number for a regression.
        rows: ``(n,)`` int64 rows of the store, ascending; rows without a label are left out.
        ids: n ids.
        values: ``(n,)`` int64 class numbers, ``(n, C)`` float32 of 0 and 1, or ``(n, 1)`` float64.
        unlabelled: Rows of the store that are left out.
    """

    task: Task
    names: tuple[str, ...]
    rows: NDArray[np.int64]
    ids: tuple[str, ...]
    values: NDArray[Any]
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def strata(self) -> NDArray[np.int64]:
        """``(n,)`` strata of a split: the classes, if there are any."""
        if self.task == "classes":
            return np.asarray(self.values, np.int64)
        return np.zeros(len(self), np.int64)

    def take(self, which: NDArray[np.int64]) -> Targets:
        """Some of the rows."""
        ids = tuple(self.ids[i] for i in which.tolist())
        return Targets(self.task, self.names, self.rows[which], ids, self.values[which])


def read_targets(
    store: EmbeddingStore,
    *,
    task: Task = "classes",
    labels: str | None = None,
    label_column: str | None = None,
    trains: bool = True,
) -> Targets:
    """Reads the targets of a store.

    Args:
        store: The store.
        task: What its labels are. Several labels of an image have ``|`` between them.
        labels: A CSV or Parquet file of labels, by id, by path below the store's source, or by
            name in an archive; None takes those in the store.
        label_column: Its column; None takes ``label``.
        trains: Whether a probe trains on them; then they must not all be equal.

    Raises:
        EmbedkitError: There are no labels, or they aren't what the task needs.
        SourceError: The file can't be read.
        ValueError: There is no such task.
    """
    if task not in get_args(Task):
        raise ValueError(f"task {task!r} is none of {', '.join(get_args(Task))}")
    ids = list(store.ids)
    texts = store.labels if labels is None else _from_table(store, ids, labels, label_column)
    where = labels or str(store.path)
    rows = np.array([row for row, text in enumerate(texts or ()) if text], np.int64)
    if texts is None or not len(rows):
        raise EmbedkitError(
            f"{where}: has no labels of the images of {store.path}: put them in with "
            f"`embedkit label {store.path} --labels folder` (or a table), or pass labels=FILE"
        )
    known = [texts[row] for row in rows.tolist()]
    names, values = _parse(known, task, where, label_column or "label")
    if trains:
        _check_names(names, task, where)
    kept = tuple(ids[row] for row in rows.tolist())
    return Targets(task, names, rows, kept, values, len(ids) - len(rows))


def match_targets(test: Targets, names: tuple[str, ...]) -> Targets:
    """Numbers a test store's classes as the training store does.

    Args:
        test: Targets with names of their own.
        names: The training store's classes.

    Raises:
        EmbedkitError: A class isn't among them.
    """
    if test.task == "regression" or test.names == names:
        return test
    number = {name: place for place, name in enumerate(names)}
    unknown = [name for name in test.names if name not in number]
    if unknown:
        examples = ", ".join(unknown[:3]) + (" …" if len(unknown) > 3 else "")
        raise EmbedkitError(
            f"labels of test images that aren't among the {len(names)} of the training images: "
            f"{examples} ({len(unknown)} in all)"
        )
    places = np.array([number[name] for name in test.names], np.int64)
    if test.task == "classes":
        values: NDArray[Any] = places[np.asarray(test.values, np.int64)]
    else:
        values = np.zeros((len(test), len(names)), np.float32)
        values[:, places] = test.values
    return Targets(test.task, names, test.rows, test.ids, values, test.unlabelled)


def _check_names(names: tuple[str, ...], task: Task, where: str) -> None:
    if task == "classes" and len(names) < 2:
        raise EmbedkitError(f"{where}: all images have the label {names[0]!r}: nothing to learn")
    if not names:
        raise EmbedkitError(f"{where}: no image has a label: nothing to learn")


def _parse(
    texts: Sequence[str], task: Task, where: str, name: str
) -> tuple[tuple[str, ...], NDArray[Any]]:
    if task == "regression":
        return (name,), _numbers(texts, where)
    sets = [_split(text) if task == "multilabel" else [text] for text in texts]
    names = tuple(sorted({one for several in sets for one in several if one}))
    number = {one: place for place, one in enumerate(names)}
    if task == "classes":
        return names, np.array([number[one] for (one,) in sets], np.int64)
    marks = np.zeros((len(sets), len(names)), np.float32)
    for row, several in enumerate(sets):
        marks[row, [number[one] for one in several if one]] = 1
    return names, marks


def _split(text: str) -> list[str]:
    """The labels of an image; blanks around them don't count."""
    return [one.strip() for one in text.split(LABEL_SEPARATOR)]


def _numbers(texts: Sequence[str], where: str) -> NDArray[np.float64]:
    values = np.empty((len(texts), 1))
    for row, text in enumerate(texts):
        try:
            values[row] = float(text)
        except ValueError:
            raise EmbedkitError(f"{where}: the label {text!r} is no number") from None
    if not np.isfinite(values).all():
        raise EmbedkitError(f"{where}: a label isn't finite")
    largest = float(np.abs(values).max())
    if largest > _LARGEST:
        raise EmbedkitError(
            f"{where}: a label of {largest:g}: errors beyond {_LARGEST:g} can't be squared; give "
            "the labels in a larger unit"
        )
    return values


def _from_table(
    store: EmbeddingStore, ids: Sequence[str], path: str, column: str | None
) -> list[str]:
    labels = read_labels(path, LabelColumns(labels=column))
    roots = [source.rstrip("/") + "/" for source in store.meta.source]
    return [
        next((labels[name] for name in _names(one, roots) if name in labels), "") for one in ids
    ]


def _names(image_id: str, roots: Sequence[str]) -> Iterator[str]:
    """The names that a table may have for an image."""
    yield image_id
    yield from (image_id[len(root) :] for root in roots if image_id.startswith(root))
    if "#" in image_id:
        yield image_id.partition("#")[2]
