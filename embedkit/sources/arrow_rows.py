"""Makes image records of the rows of a table, whether it holds bytes, paths or lists of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from embedkit.sources.image_suffixes import is_repeated_image
from embedkit.sources.label_text import label_text
from embedkit.sources.naming import UniqueNames
from embedkit.types import ImageRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedkit.sources.arrow_columns import ImageColumn
    from embedkit.sources.image_paths import ImagePaths

__all__ = ["Row", "RowRecords", "item_at", "unwrap", "values_at"]


class Row(NamedTuple):
    """What a listing reads of a row; lists where the row holds several images.

    Attributes:
        key: The key of the row's bytes for the reader.
        path: The image's path, or None.
        has_bytes: Whether its bytes aren't null; True where that isn't known.
        label: The row's label.
    """

    key: str
    path: Any
    has_bytes: Any
    label: object


@dataclass(frozen=True, slots=True)
class RowRecords:
    """Makes records of the rows of one table.

    Attributes:
        table: The table's path or name, which begins the ids of images with bytes.
        kind: How the bytes are read.
        image: The column of images.
        paths: Finds the files of images without bytes.
        classes: The names of the label's numbers, if it has some.
    """

    table: str
    kind: Literal["parquet", "dataset"]
    image: ImageColumn
    paths: ImagePaths
    classes: Sequence[str]
    _names: UniqueNames = field(default_factory=UniqueNames)
    _files: UniqueNames = field(default_factory=UniqueNames)

    def records(self, number: int, row: Row) -> Iterator[ImageRecord]:
        """Yield the images of a row.

        Args:
            number: The row's number in the table.
            row: What was read of it.
        """
        label = label_text(row.label, self.classes)
        if not self.image.is_list:
            yield self._record(str(number), row.key, row.path, row.has_bytes, label)
            return
        paths, has_bytes = row.path, row.has_bytes
        length = len(paths if isinstance(paths, list) else has_bytes or ())
        paths = paths if isinstance(paths, list) else [None] * length
        has_bytes = has_bytes if isinstance(has_bytes, list) else [has_bytes] * length
        for place, (path, present) in enumerate(zip(paths, has_bytes, strict=True)):
            yield self._record(f"{number}.{place}", f"{row.key}:{place}", path, present, label)

    def _record(
        self, number: str, key: str, path: Any, has_bytes: bool, label: str | None
    ) -> ImageRecord:
        text = str(path) if path else None
        problem = None
        if self.image.data is None or (text is not None and not has_bytes):
            found = None if text is None else self.paths.resolve(text)
            if found is not None:
                image_id = self._files.add(found)
                named = is_repeated_image(found, image_id)
                return ImageRecord(id=image_id, path=found, label=label, named=named)
            problem = "no image: the path is null" if text is None else self.paths.problem(text)
        image_id = f"{self.table}#{self._names.add(text or number)}"
        return ImageRecord(
            id=image_id,
            path=self.table,
            kind=self.kind,
            key=key,
            label=label,
            problem=problem,
            named=text is not None and is_repeated_image(text, image_id),
        )


def unwrap(value: Any) -> Any:
    """Take a projected value out of its structs: ``{"image": {"path": p}}`` becomes ``p``."""
    while isinstance(value, dict):
        value = next(iter(value.values()), None)
    return [unwrap(one) for one in value] if isinstance(value, list) else value


def item_at(array: Any, row: int, place: int | None, names: Sequence[str] = ()) -> Any:
    """Return the bytes of one image as a ``pyarrow.Buffer``; None where they are null.

    Args:
        array: A column, with the bytes in structs and lists as they come.
        row: Which row.
        place: Which image of the row's list.
        names: The fields of the structs from the outside in; without, each has only one.
    """
    import pyarrow as pa

    fields = iter(names)
    scalar = array[row]
    while scalar.is_valid:
        if pa.types.is_struct(scalar.type):
            scalar = scalar[next(fields, 0)]
        elif isinstance(scalar, pa.ListScalar):
            scalar = scalar.values[place or 0]
        elif pa.types.is_dictionary(scalar.type):
            scalar = scalar.value
        else:
            return scalar.as_buffer()
    return None


def values_at(table: Any, row: int, name: str, *, is_bytes: bool) -> Any:
    """Return the value of one leaf in one row, a list where it is in a list.

    Args:
        table: A ``pyarrow.Table``.
        row: Which row.
        name: The leaf's dotted name.
        is_bytes: Return whether the value is there, without copying it.
    """
    top, *names = name.split(".")
    return _value(table.column(top)[row], names, is_bytes=is_bytes)


def _value(scalar: Any, names: Sequence[str], *, is_bytes: bool) -> Any:
    import pyarrow as pa

    if isinstance(scalar, pa.ListScalar):
        items = scalar.values if scalar.is_valid else ()
        return [_value(one, names, is_bytes=is_bytes) for one in items]
    if pa.types.is_struct(scalar.type) and scalar.is_valid and names:
        return _value(scalar[names[0]], names[1:], is_bytes=is_bytes)
    return scalar.is_valid if is_bytes else scalar.as_py() if not names else None
