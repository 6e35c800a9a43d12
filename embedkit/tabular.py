"""Results as tables: pandas, polars, and the small HTML table that a notebook shows."""

from __future__ import annotations

from abc import abstractmethod
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from embedkit.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    import polars as pl

__all__ = ["Tabular", "html_table", "to_pandas", "to_polars", "valid_text"]

_SHOWN = 10  # rows in a notebook
_STYLE = "max-width:64px;max-height:64px"


class Tabular:
    """A result that is a table; ``repr`` is one line that says what it is."""

    __slots__ = ()

    @abstractmethod
    def _summary(self) -> str:
        """What it holds, in one line."""

    @abstractmethod
    def _columns(self) -> dict[str, Any]:
        """Its columns, all of one length, in order."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._summary()}>"

    def to_pandas(self) -> pd.DataFrame:
        """The table as a ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pandas isn't installed.
        """
        return to_pandas(self._columns())

    def to_polars(self) -> pl.DataFrame:
        """The table as a ``polars.DataFrame``.

        Raises:
            MissingExtraError: polars isn't installed.
        """
        return to_polars(self._columns())

    def _repr_html_(self) -> str:
        columns = self._columns()
        rows = islice(zip(*columns.values(), strict=True), _SHOWN)
        total = len(next(iter(columns.values()), ()))
        return html_table(repr(self), list(columns), rows, left_out=max(total - _SHOWN, 0))


def to_pandas(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns of one length as a ``pandas.DataFrame``; a 2-D column becomes one of rows.

    Raises:
        MissingExtraError: pandas isn't installed.
    """
    try:
        import pandas as pd
    except ImportError as exc:
        raise MissingExtraError("pandas", "pandas", "to_pandas()") from exc
    return pd.DataFrame(
        {name: list(v) if getattr(v, "ndim", 1) == 2 else _plain(v) for name, v in columns.items()}
    )


def to_polars(columns: Mapping[str, Any]) -> pl.DataFrame:
    """Columns of one length as a ``polars.DataFrame``; a 2-D column becomes one of float32 arrays.

    Raises:
        MissingExtraError: polars isn't installed.
    """
    try:
        import polars as pl
    except ImportError as exc:
        raise MissingExtraError("polars", "polars", "to_polars()") from exc
    return pl.DataFrame(
        {
            name: v.astype("float32") if getattr(v, "ndim", 1) == 2 else _plain(v)
            for name, v in columns.items()
        }
    )


def valid_text(text: str) -> str:
    """Text as UTF-8: bytes of a name that aren't are shown as backslash escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _plain(values: Any) -> Any:
    """A column without text that isn't UTF-8, which Arrow can't hold."""
    if isinstance(values, list):
        return [valid_text(value) if isinstance(value, str) else value for value in values]
    return values


def html_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    thumbnails: Mapping[str, str] | None = None,
    *,
    left_out: int = 0,
) -> str:
    """A small HTML table for a notebook; all text is escaped.

    Args:
        title: Shown above.
        header: Column names.
        rows: The rows; a cell is a value, or an id with a score.
        thumbnails: Id to ``data:`` URI; the cell of such an id gets its picture above it.
        left_out: How many rows aren't shown; said below.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value, thumbnails or {})}</td>" for value in row) + "</tr>"
        for row in rows
    )
    more = f"<p>and {left_out:,} more</p>" if left_out else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div><p><b>{escape(title)}</b></p>{table}{more}</div>"


def _cell(value: Any, thumbnails: Mapping[str, str]) -> str:
    if isinstance(value, tuple):
        name, score = value
        return f"{_cell(name, thumbnails)}<br>{score:.4g}"
    text = escape(f"{value:.4g}" if isinstance(value, float) else valid_text(str(value)))
    picture = thumbnails.get(value) if isinstance(value, str) else None
    return f'<img src="{escape(picture)}" alt="" style="{_STYLE}"><br>{text}' if picture else text
