"""Lists of ids: texts and tables."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.errors import StoreError
from embedkit.utils.id_lists import read_ids


def test_every_kind_of_list(tmp_path):
    names = ["a b.jpg", "ü,1.jpg", "c.jpg"]
    text, table = tmp_path / "ids.txt", tmp_path / "ids.csv"
    text.write_bytes("\ufeffa b.jpg\r\n\nü,1.jpg\nc.jpg\na b.jpg".encode())
    table.write_text('rank,id\n1,a b.jpg\n2,"ü,1.jpg"\n3,c.jpg\n')
    lines = tmp_path / "ids.jsonl"
    lines.write_text('{"id": "a b.jpg"}\n{"id": "\\u00fc,1.jpg"}\n{"id": "c.jpg"}\n')
    parquet = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3], "id": names}), parquet)
    for path in (text, table, lines, parquet):
        assert read_ids(path) == names


def test_names_that_are_not_utf8_stay(tmp_path):
    (tmp_path / "ids.txt").write_bytes(b"caf\xe9.jpg\n")
    assert read_ids(tmp_path / "ids.txt") == ["caf\udce9.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "name\nb\n", "no column 'id'"),
        ("a.jsonl", '{"name": 1}\n', "no column 'id'"),
        ("a.jsonl", "no json\n", "can't be read"),
        ("a.parquet", "no parquet", "can't be read"),
        ("none.txt", None, "can't be read"),
    ],
)
def test_errors_name_the_file(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StoreError, match=words) as raised:
        read_ids(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
