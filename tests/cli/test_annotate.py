import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.store import EmbeddingStore


def test_columns_are_put_in_shown_and_removed(embedkit, store, tmp_path):
    with EmbeddingStore.open(store) as opened:
        ids = list(opened.ids)
    table = tmp_path / "t.parquet"
    columns = {"id": ["gone", *ids[:6]], "year": range(2017, 2024), "who": ["Ann"] * 7}
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), table)
    ended = embedkit("annotate", store, "--from", table)
    assert ended.code == 0
    assert "6 of 8 images annotated with year (integer), who (text)" in ended.out
    assert "t.parquet: 1 row of no image in the store" in ended.out
    again = embedkit("annotate", store, "--from", table, "--columns", "year")
    assert (again.code, "--overwrite" in again.err) == (1, True)
    wrong = embedkit("annotate", store, "--from", table, "--columns", "month")
    assert "--columns" in wrong.err
    told = embedkit(
        "annotate", store, "--from", table, "--columns", "year", "--overwrite", "--json"
    ).json
    assert (told["matched"], told["unmatched"], told["added"]) == (6, 1, {"year": "integer"})
    assert "columns:       who (text), year (integer)" in embedkit("info", store).out
    assert embedkit("info", store, "--json").json["annotations"]["year"] == "integer"
    options = ("--filter", "year>=2020", "--filter", "who=A*", "-k", 2, "--json")
    assert embedkit("cluster", store, *options).json["images"] == 4
    ended = embedkit("annotate", store, "--remove", "who, year")
    assert "removed who, year" in ended.out
    assert "who" not in embedkit("info", store).out
    assert embedkit("annotate", store).code != 0
