import csv
import json

from embedkit.analysis.selection import select


def test_list_and_summary(embedkit, store, tmp_path):
    output = tmp_path / "out.csv"
    ended = embedkit("select", store, "--per-class", 2, "-o", output)
    assert ended.code == 0
    found = select(store, 2)
    with output.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found.rows)
    assert ended.out.splitlines()[0].startswith(f"{len(found.rows)} selections from ")
    assert embedkit("select", store, "--per-class", 2, "-o", output).code == 1
    told = embedkit("select", store, "--per-class", 2, "-o", output, "--overwrite", "--json").json
    assert [one["images"] for one in told["counts"]] == found.counts.tolist()
    assert (told["scanned"], told["lines"], told["webdataset"]) == (8, len(found.rows), None)


def test_classes_by_file(embedkit, store, tmp_path):
    names, output = tmp_path / "classes.txt", tmp_path / "out.jsonl"
    names.write_text("1\n\n3\n", "utf-8-sig")
    arguments = ("select", store, "--per-class", 8, "-o", output, "--max-classes", 1000)
    assert embedkit(*arguments, "--classes", f"@{names}", "--classes", "2").code == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert {one["class"] for one in lines} == {1, 2, 3}
    assert embedkit(*arguments, "--overwrite", "--classes", "@none.txt").code == 2
    assert embedkit(*arguments, "--overwrite", "--classes", "ufo").code == 1


def test_usage(embedkit, store, tmp_path):
    assert embedkit("select", store, "--per-class", 2).code == 2
    assert embedkit("select", store, "-o", tmp_path / "a.csv").code == 2
    assert embedkit("select", store, "--per-class", 2, "-o", tmp_path / "a.xlsx").code == 1
    ended = embedkit("select", store, "--per-class", 2, "--webdataset", tmp_path / "a.jsonl")
    assert ended.code == 1
    assert "lies in no tar" in ended.err
