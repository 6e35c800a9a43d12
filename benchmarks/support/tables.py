"""Tables as Markdown, aligned, so that they read well in a terminal and in a document."""

from collections.abc import Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; the first column is flush left, the others flush right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    _print_row(header, widths)
    print(
        "|"
        + "|".join("-" * (width + 1) + (":" if k else "-") for k, width in enumerate(widths))
        + "|"
    )
    for row in rows:
        _print_row(row, widths)


def _print_row(row: Sequence[str], widths: Sequence[int]) -> None:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    print("| " + " | ".join(cells) + " |", flush=True)
