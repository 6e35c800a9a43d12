import csv
import json
import shutil

import pytest
from images import draw_photo, encode

from embedkit.store import EmbeddingStore


@pytest.fixture
def copies(embedkit, photos, tmp_path):
    """A store of eight photos, two exact copies of one and a smaller edition of another."""
    folder = tmp_path / "images"
    shutil.copytree(photos, folder)
    for name in ("x.jpg", "y.jpg"):
        shutil.copy(folder / "photo_0000.jpg", folder / name)
    (folder / "small.png").write_bytes(encode(draw_photo(1).resize((160, 120)), "PNG"))
    store = tmp_path / "copies.h5"
    assert embedkit("extract", folder, "-o", store, "-b", "tiny").code == 0
    return store


@pytest.fixture
def dups(embedkit, copies, tmp_path):
    folder = tmp_path / "dups"
    assert embedkit("dedup", "find", copies, "-o", folder, "--threshold", "0.93").code == 0
    return folder


def test_from_find_to_undo(embedkit, copies, dups, tmp_path):
    images = tmp_path / "images"
    names = sorted(path.name for path in images.iterdir())
    plan = tmp_path / "plan.csv"
    ended = embedkit("dedup", "plan", dups, "-o", plan, "--keep", "path-priority",
                     "--prefer", "*/x.jpg")  # fmt: skip
    assert ended.code == 0, ended.err
    rows = {
        row["path"].rpartition("/")[2]: row["action"]
        for row in csv.DictReader(plan.read_text().splitlines())
    }
    assert rows["x.jpg"] == "keep"
    assert rows["photo_0000.jpg"] == rows["y.jpg"] == "remove"
    gone = {name for name, action in rows.items() if action == "remove"}
    dry = embedkit("dedup", "apply", plan, "--action", "delete")
    assert (dry.code, "dry run" in dry.out) == (0, True)
    assert sorted(path.name for path in images.iterdir()) == names
    done = embedkit("dedup", "apply", plan, "--action", "delete", "--execute", "--json")
    assert {file["path"].rpartition("/")[2] for file in done.json["files"]} == gone
    assert {path.name for path in images.iterdir()} == set(names) - gone
    journal = done.json["journal"]
    assert "dry run" in embedkit("dedup", "purge", journal).out
    assert embedkit("dedup", "undo", journal).code == 0
    assert sorted(path.name for path in images.iterdir()) == names
    with EmbeddingStore.open(copies) as store:
        assert len(store) == len(names)
    listed = embedkit("dedup", "apply", plan, "--action", "list")
    assert {line.rpartition("/")[2] for line in listed.out.splitlines()} == gone


def test_refused_files_are_told(embedkit, dups, tmp_path):
    plan = tmp_path / "plan.csv"
    assert embedkit("dedup", "plan", dups, "-o", plan, "--keep", "first").code == 0
    (tmp_path / "images" / "y.jpg").write_bytes(b"edited")
    ended = embedkit("dedup", "apply", plan, "--action", "symlink", "--execute")
    assert ended.code == 3
    assert "y.jpg: changed since it was embedded" in ended.err
    assert (tmp_path / "images" / "y.jpg").read_bytes() == b"edited"
    assert embedkit("dedup", "undo", f"{plan}.journal").code == 0
    journal = embedkit("dedup", "undo", tmp_path / "none")
    assert (journal.code, len(journal.err.splitlines())) == (1, 1)


def test_an_interrupted_apply_says_how_to_go_on(embedkit, dups, tmp_path, monkeypatch):
    from embedkit.dedup.cleanup import apply as applying

    plan = tmp_path / "a plan.csv"
    assert embedkit("dedup", "plan", dups, "-o", plan).code == 0
    really, times = applying.carry_out, iter([False, True])

    def interrupted(*args):
        if next(times):
            raise KeyboardInterrupt
        really(*args)

    before = {path.name for path in (tmp_path / "images").iterdir()}
    command = ("dedup", "apply", plan, "--action", "delete", "--execute")
    with monkeypatch.context() as patched:
        patched.setattr(applying, "carry_out", interrupted)
        ended = embedkit(*command)
    assert (ended.code, "run the same command to resume" in ended.err) == (130, True)
    assert f"embedkit dedup undo '{plan}.journal'" in ended.err
    assert {path.name for path in (tmp_path / "images").iterdir()} < before
    assert embedkit(*command).code == 0
    assert embedkit("dedup", "undo", f"{plan}.journal").code == 0
    assert {path.name for path in (tmp_path / "images").iterdir()} == before


def test_find_prints_what_it_found(embedkit, copies, tmp_path):
    ended = embedkit("dedup", "find", copies, "-o", tmp_path / "d", "--no-report", "--json")
    assert ended.json["exact_pairs"] == 2
    assert ended.json["leaks"] is None
    assert not (tmp_path / "d" / "report.html").exists()
    again = embedkit("dedup", "find", copies, "-o", tmp_path / "d")
    assert (again.code, "--overwrite" in again.err) == (1, True)
    assert embedkit("dedup", "find", copies, "-o", tmp_path / "d", "--overwrite").code == 0
    assert embedkit("dedup", "find", copies, "-o", tmp_path / "e", "--threshold", "2").code == 1


def test_without_pixels_find_says_that_look_alikes_may_be_listed(embedkit, copies, tmp_path):
    find = "dedup", "find", copies, "--no-report", "-o"
    assert "look-alikes" in embedkit(*find, tmp_path / "e", "--no-verify").out
    assert "look-alikes" not in embedkit(*find, tmp_path / "d").out


def test_rethreshold(embedkit, dups, tmp_path):
    ended = embedkit("dedup", "rethreshold", dups, "-o", tmp_path / "d", "--threshold", "1",
                     "--linkage", "complete", "--json")  # fmt: skip
    assert ended.json["groups"] >= 1
    summary = json.loads((tmp_path / "d" / "summary.json").read_text())
    assert (summary["linkage"], summary["search"]["threshold"]) == ("complete", 1)
    lower = embedkit("dedup", "rethreshold", dups, "-o", tmp_path / "e", "--threshold", "0.5")
    assert (lower.code, "search again" in lower.err) == (1, True)


def test_leaks_by_class(embedkit, copies, store, tmp_path):
    ended = embedkit("dedup", "find", copies, "--against", store, "-o", tmp_path / "d")
    assert ended.code == 0
    assert "of 8 images are in both" in ended.out
    plan = embedkit("dedup", "plan", tmp_path / "d", "-o", tmp_path / "p.csv", "--keep", "largest")
    assert (plan.code, "split-priority" in plan.err) == (1, True)


def test_config_of_a_command_in_a_group(embedkit, dups, tmp_path):
    config = tmp_path / "c.toml"

    def planned(text):
        config.write_text(text)
        return embedkit("--config", config, "dedup", "plan", dups, "-o", tmp_path / "p.csv",
                        "--overwrite")  # fmt: skip

    assert planned('[dedup.plan]\nkeep = "oldest"\n').code == 0
    assert "oldest: " in (tmp_path / "p.csv").read_text()
    for text, told in (
        ('[dedup.plan]\nkep = "oldest"\n', "[dedup.plan] unknown option kep"),
        ("[dedup.plann]\n", "[dedup.plann] is not an embedkit command"),
        ("[dedup]\nplan = 1\n", "[dedup.plan] is not an embedkit command"),
        ("dedup = 1\n", "[dedup] is not an embedkit command"),
    ):
        ended = planned(text)
        assert (ended.code, told in ended.err) == (2, True), ended.err


def test_an_update_searches_only_what_is_new(embedkit, copies, dups, tmp_path):
    (tmp_path / "images" / "new.jpg").write_bytes((tmp_path / "images" / "x.jpg").read_bytes())
    assert embedkit("extract", tmp_path / "images", "-o", copies, "--update").code == 0
    ended = embedkit("dedup", "find", "--update", dups, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["exact_pairs"] == 3
    assert (dups / "report.html").exists()
    refused = embedkit("dedup", "find", "--update", dups, "--threshold", "0.5")
    assert refused.code == 2
    assert "--threshold isn't for --update" in refused.err
    assert "--output, or --update" in embedkit("dedup", "find", copies).err


def test_find_says_that_there_is_no_cluster(embedkit, store, tmp_path):
    pytest.importorskip("ray")
    find = "dedup", "find", store, "-o", tmp_path / "found", "--no-report", "--no-verify"
    ended = embedkit(*find, "--ray", "127.0.0.1:1")
    assert ended.code == 1
    assert "no Ray cluster at '127.0.0.1:1'" in ended.err
    ended = embedkit(*find, "--workers", 2)
    assert ended.code == 1
    assert "workers goes with ray only, such as --ray auto" in ended.err
