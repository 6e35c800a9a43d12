"""Text for terminals and spreadsheets."""

import csv
import io

import pytest

from embedkit.utils.table_writers import Column, CsvTable
from embedkit.utils.text import begins_formula, cell_text, printable


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("photos/a.jpg", "photos/a.jpg"),
        ("=HYPERLINK(1).jpg", "\\x3dHYPERLINK(1).jpg"),
        ("+cmd", "\\x2bcmd"),
        ("-a.jpg", "\\x2da.jpg"),
        ("@SUM(A1)", "\\x40SUM(A1)"),
        ("\uff1d1+1", "\\uff1d1+1"),
        ("-5", "-5"),
        ("+1.25", "+1.25"),
        ("-5+cmd", "\\x2d5+cmd"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\t=1", "\\t=1"),
        ("two\nlines\r", "two\nlines\\r"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_cells(text, cell):
    assert cell_text(text) == cell
    assert not begins_formula(cell)
    assert all(printable(line) == line for line in cell.split("\n"))


def test_a_csv_table_has_no_formula_and_no_controls():
    file = io.BytesIO()
    with CsvTable(file, [Column("id", "string"), Column("rank", "int32")]) as table:
        table.write([["=1+1", "\x1b]0;x\x07", 'a,"b'], [-1, 2, 3]])
    rows = list(csv.reader(io.StringIO(file.getvalue().decode())))
    assert rows == [["id", "rank"], ["\\x3d1+1", "-1"], ["\\x1b]0;x\\x07", "2"], ['a,"b', "3"]]
