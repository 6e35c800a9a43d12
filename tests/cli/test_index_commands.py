"""``embedkit index``: build, add, remove, compact, eval."""

import re

import numpy as np
import pytest
from stores import write_store
from vectors import clustered

from embedkit.index import Index

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def vectors(tmp_path):
    """A store of 2000 rows in clusters."""
    return write_store(tmp_path / "vectors.h5", clustered(2000, 32).astype(np.float16))


def test_build_tells_what_it_built(embedkit, store, tmp_path):
    output = tmp_path / "photos.index"
    ended = embedkit("index", "build", store, "-o", output)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{output}: 8 embeddings, Flat, ")
    again = embedkit("index", "build", store, "-o", output)
    assert again.code == 1
    assert "--overwrite" in again.err
    assert embedkit("index", "build", store, "-o", output, "--overwrite").code == 0


def test_build_takes_every_option(embedkit, vectors, tmp_path):
    told = embedkit(
        "index", "build", vectors, "-o", tmp_path / "v.index", "--factory", "IVF16,SQ8",
        "--metric", "l2", "--whiten", 16, "--recall", 0.9, "--train-rows", 1500, "--seed", 3,
        "--no-rerank", "--on-disk", "--json",
    ).json  # fmt: skip
    assert (told["factory"], told["metric"], told["embeddings"]) == ("IVF16,SQ8", "l2", 2000)
    assert (told["rerank"], told["on_disk"]) == (False, True)
    assert told["held_out_queries"] == 250
    assert {"recall_at_1", "recall_at_10", "ms", "batch_ms", "params"} == set(told["frontier"][0])
    spec = Index.open(tmp_path / "v.index").manifest.spec
    assert (spec.whiten, spec.recall, spec.train_rows, spec.seed) == (16, 0.9, 1500, 3)


def test_dry_run_builds_nothing(embedkit, vectors, tmp_path):
    before = sorted(tmp_path.iterdir())
    ended = embedkit("index", "build", vectors, "-o", tmp_path / "v.index", "--dry-run")
    assert ended.code == 0
    assert re.search(r"factory: +Flat", ended.out)
    assert re.search(r"to build: +\d+ MB", ended.out)
    told = embedkit(
        "index", "build", vectors, "-o", tmp_path / "v.index", "--dry-run", "--json",
        "--memory", "60kB",
    ).json  # fmt: skip
    assert told["nbytes"] <= 60_000
    assert told["rerank"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--memory", "much"], 2, "--memory"),
        (["--memory", "1kB"], 1, "the smallest index takes"),
        (["--factory", "Nonsense"], 1, "faiss makes no"),
        (["--recall", "7"], 1, "recall must be"),
        (["--metric", "cos"], 2, "metric"),
        (["--whiten", "99"], 1, "can't whiten"),
    ],
)
def test_what_cannot_be_built(embedkit, vectors, tmp_path, arguments, code, told):
    ended = embedkit("index", "build", vectors, "-o", tmp_path / "v.index", *arguments)
    assert (ended.code, told in ended.err) == (code, True)
    assert not (tmp_path / "v.index").exists()


def test_dry_run_on_ray_says_what_each_step_takes(embedkit, vectors, tmp_path):
    build = "index", "build", vectors, "-o", tmp_path / "v.index", "--dry-run", "--ray", "auto"
    ended = embedkit(*build, "--factory", "IVF4,SQ8")
    assert "core-seconds each" in ended.out
    assert "write ids" in ended.out
    steps = embedkit(*build, "--factory", "IVF4,SQ8", "--json").json["steps"]
    assert [step["step"] for step in steps] == ["train", "add", "compare", "join", "write ids"]
    flat = embedkit(*build, "--factory", "Flat")
    assert "Flat can't be built in parts: this process does it" in flat.err
    assert not (tmp_path / "v.index").exists()


def test_add_remove_compact(embedkit, vectors, tmp_path):
    index = tmp_path / "v.index"
    embedkit("index", "build", vectors, "-o", index, "--factory", "IVF16,SQ8")
    more = write_store(
        tmp_path / "more.h5", clustered(40, 32, seed=7).astype(np.float16),
        ids=[f"new{row}" for row in range(40)],
    )  # fmt: skip
    assert embedkit("index", "add", index, more).out == f"{index}: 40 added, 2,040 embeddings now\n"
    names = tmp_path / "names.txt"
    names.write_text("new1\nnew2\n")
    told = embedkit("index", "remove", index, "3.jpg", "--from", names, "--json").json
    assert told == {"index": str(index), "removed": 3, "embeddings": 2037}
    ended = embedkit("index", "remove", index, "3.jpg")
    assert (ended.code, "no image '3.jpg'" in ended.err) == (1, True)
    assert embedkit("index", "remove", index).code == 2
    told = embedkit("index", "compact", index)
    assert told.out == f"{index}: 3 removed for good, 2,037 embeddings now\n"
    found = embedkit("search", index, "id:new5", "-k", 1, "--json").json
    assert found["queries"][0]["neighbors"][0]["id"] == "new5"


def test_eval_shows_and_plots(embedkit, vectors, tmp_path):
    index = tmp_path / "v.index"
    embedkit("index", "build", vectors, "-o", index, "--factory", "IVF16,SQ8")
    ended = embedkit("index", "eval", index, "--plot", tmp_path / "f.png")
    assert ended.code == 0
    assert "recall@10" in ended.out
    assert ended.out.count("chosen") == 1
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    fresh = write_store(tmp_path / "fresh.h5", clustered(700, 32, seed=9).astype(np.float16))
    told = embedkit("index", "eval", index, "--queries", fresh, "--limit", 400, "--json").json
    claimed = next(p for p in told["frontier"] if p["params"] == told["params"])
    assert told["fresh"]["queries"] == 400
    assert told["fresh"]["recall_at_10"] == pytest.approx(claimed["recall_at_10"], abs=0.03)
    other = write_store(tmp_path / "o.h5", clustered(9, 32).astype(np.float16), backbone="other")
    assert "backbone" in embedkit("index", "eval", index, "--queries", other).err


def test_options_come_from_a_table_of_the_config(embedkit, vectors, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[index.build]\nfactory = "IVF16,SQ8"\n')
    ended = embedkit("--config", config, "index", "build", vectors, "-o", tmp_path / "v.index")
    assert "IVF16,SQ8" in ended.out
    config.write_text("[index.build]\nfactor = 3\n")
    assert (
        "[index.build] unknown option factor" in embedkit("--config", config, "index", "eval").err
    )
