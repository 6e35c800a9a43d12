import csv
import json

import pytest

from embedkit.analysis.selection.select import select
from embedkit.analysis.selection.subset import select_subset


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


@pytest.mark.parametrize("method", ["diverse", "representative", "unique", "balanced"])
def test_subsets(embedkit, store, tmp_path, method):
    output = tmp_path / "out.csv"
    ended = embedkit("select", store, f"--{method}", 5, "-o", output)
    assert ended.code == 0
    assert ended.out.startswith(f"5 {method} images of 8; distance to the nearest selected one: ")
    found = select_subset(store, method, 5)
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(int(one["row"]) for one in lines) == sorted(found.rows.tolist())
    more = tmp_path / "more.csv"
    told = embedkit("select", store, f"--{method}", 5, "--seed-from", output, "-o", more, "--json")
    assert (told.json["lines"], told.json["already_chosen"]) == (3, 5)


def test_usage_of_subsets(embedkit, store, tmp_path):
    output = ("-o", tmp_path / "a.csv")
    for wrong in (
        ("--diverse", 2, "--unique", 2),
        ("--diverse", 2, "--min-score", 0.5),
        ("--unique", 2, "--workers", 2),
        ("--per-class", 2, "--ray", "local"),
        ("--per-class", 2, "--filter", "width>3"),
        ("--per-class", 2, "--seed", 3),
        ("--balanced", 2, "--clusters", "few"),
        (),
    ):
        assert embedkit("select", store, *output, *wrong).code == 2
    assert embedkit("select", store, *output, "--diverse", 2, "--seed-from", "none").code == 1
    assert embedkit("select", store, *output, "--diverse", 2, "--filter", "width>999999").code == 1
    assert embedkit("select", store, *output, "--diverse", 2, "--filter", "width>1").code == 0
