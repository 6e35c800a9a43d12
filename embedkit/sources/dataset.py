"""Lists the images of a Hugging Face ``datasets.Dataset`` that is open in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable
from weakref import WeakValueDictionary

from embedkit.errors import SourceError
from embedkit.sources.arrow_columns import class_names, find_images, find_label
from embedkit.sources.arrow_rows import Row, RowRecords, values_at
from embedkit.sources.base import Source
from embedkit.sources.image_paths import ImagePaths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedkit.sources.parquet import TableColumns
    from embedkit.types import ImageRecord

__all__ = ["Dataset", "DatasetSource", "dataset_name", "is_dataset", "open_dataset"]

_ROWS = 256


@runtime_checkable
class Dataset(Protocol):
    """What is used of a ``datasets.Dataset``."""

    features: Any
    info: Any
    split: Any
    num_rows: int

    def select_columns(self, column_names: list[str]) -> Any:
        """Keep some columns."""

    def with_format(self, kind: str) -> Any:
        """Give rows as another type, such as ``pyarrow.Table``."""


# The readers, which have only records, find the datasets here by their names.
_OPEN: WeakValueDictionary[str, Dataset] = WeakValueDictionary()


def is_dataset(spec: object) -> TypeGuard[Dataset]:
    """Tell whether an object is a dataset of the package ``datasets``.

    Raises:
        SourceError: It is one, but streamed or of several splits.
    """
    if not hasattr(spec, "with_format") or isinstance(spec, type):
        return False
    if isinstance(spec, dict):
        raise SourceError(
            f"a dataset of several splits: pass one of them, such as dataset[{next(iter(spec))!r}]"
        )
    if not isinstance(spec, Dataset):
        raise SourceError("a streamed dataset has no rows to go back to: load it without streaming")
    return True


def open_dataset(name: str) -> Dataset:
    """Return the dataset that a record names.

    Raises:
        ValueError: It isn't open in this process.
    """
    try:
        return _OPEN[name]
    except KeyError:
        raise ValueError(f"{name} isn't open in this process: pass processes=False") from None


def dataset_name(dataset: Dataset) -> str:
    """Return the name with which a dataset's ids begin: ``dataset:cifar10/train``.

    Another open dataset of an equal name gets ``@2`` after it.
    """
    parts = (getattr(dataset.info, "dataset_name", None), dataset.split)
    base = name = "dataset:" + ("/".join(str(part) for part in parts if part) or "unnamed")
    number = 1
    while _OPEN.setdefault(name, dataset) is not dataset:
        number += 1
        name = f"{base}@{number}"
    return name


class DatasetSource(Source):
    """The rows of a dataset; its images must stay encoded, as ``Image`` features are.

    Args:
        dataset: The dataset.
        columns: Its columns.
    """

    def __init__(self, dataset: Dataset, columns: TableColumns) -> None:
        self.dataset = dataset
        self.name = dataset_name(dataset)
        self.columns = columns

    def scan(self) -> Iterator[ImageRecord]:
        """List the rows in order."""
        schema = self.dataset.features.arrow_schema
        columns = self.columns
        image = find_images(schema, columns.image, self.name)
        label = find_label(schema, columns.label, image, self.name) if columns.with_labels else None
        paths = ImagePaths(None, columns.image_root)
        records = RowRecords(self.name, "dataset", image, paths, class_names(schema, label))
        names = [name for name in (image.data, image.path, label) if name]
        number = 0
        for table in self._tables(names):
            for row in range(table.num_rows):
                data, path, text = (
                    None
                    if name is None
                    else values_at(table, row, name, is_bytes=name == image.data)
                    for name in (image.data, image.path, label)
                )
                key = f"{image.data or image.path}/{number}"
                yield from records.records(number, Row(key, path, data, text))
                number += 1

    def _tables(self, names: list[str]) -> Iterator[Any]:
        tops = list(dict.fromkeys(name.partition(".")[0] for name in names))
        view = self.dataset.select_columns(tops).with_format("arrow")
        yield from view.iter(_ROWS)
