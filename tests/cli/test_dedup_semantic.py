"""``embedkit dedup semantic``."""

import csv


def test_list_and_summary(embedkit, store, tmp_path):
    output = tmp_path / "kept.csv"
    before = store.read_bytes()
    ended = embedkit("dedup", "semantic", store, "--keep-fraction", 0.5, "-o", output)
    assert ended.code == 0
    assert ended.out.startswith("4 of 8 images kept, 4 alike to others; epsilon ")
    assert "nothing was deleted" in ended.out
    with output.open(newline="") as file:
        assert [line["decision"] for line in csv.DictReader(file)].count("kept") == 4
    assert store.read_bytes() == before
    arguments = ("dedup", "semantic", store, "--eps", 0.001, "-k", 2, "--keep", "nearest")
    told = embedkit(*arguments, "-o", output, "--overwrite", "--json").json
    assert (told["kept"] + told["removed"], told["eps"], told["keep"]) == (8, 0.001, "nearest")


def test_usage(embedkit, store, tmp_path):
    output = ("-o", tmp_path / "a.csv")
    ended = embedkit("dedup", "semantic", store, *output)
    assert (ended.code, "--keep-fraction" in ended.err) == (1, True)
    assert embedkit("dedup", "semantic", store, "--eps", 0.1).code == 2
    assert embedkit("dedup", "semantic", store, "--eps", 3, *output).code == 1
