"""Commands on stores and indexes at URLs, which are named as they were given."""

import pytest
from object_stores import clear_memory, copy_in, files, write

from embedkit_cli._messages import with_urls

URL = "memory://bucket"


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    clear_memory()


def test_from_images_to_neighbours(embedkit, photos, tmp_path):
    options = ("--sharded", "--shard-rows", "3", "-b", "tiny", "--work-dir", tmp_path / "work")
    ended = embedkit("extract", photos, "-o", f"{URL}/emb/", *options)
    assert (ended.code, ended.out[: len(URL) + 6]) == (0, f"{URL}/emb: ")
    assert (tmp_path / "work/memory/bucket").is_dir()
    again = embedkit("extract", photos, "-o", f"{URL}/emb", *options, "--json")
    assert again.json["path"] == f"{URL}/emb"
    assert again.json["resumed"] == again.json["found"]
    assert embedkit("info", f"{URL}/emb", "--json").json["path"] == f"{URL}/emb"
    assert f"{URL}/emb (" in embedkit("info", f"{URL}/emb").out
    ended = embedkit("verify", f"{URL}/emb")
    assert (ended.code, ended.out) == (0, f"{URL}/emb: no problems found\n")
    assert embedkit("index", "build", f"{URL}/emb", "-o", "emb.index").code == 0
    copy_in(tmp_path / "emb.index", f"{URL}/emb.index")
    ended = embedkit("search", f"{URL}/emb.index", f"{URL}/emb", "-k", "1", "--json")
    assert ended.code == 0, ended.err
    for command in (
        ("merge", f"{URL}/emb", "-o", "merged.h5"),
        ("export", f"{URL}/emb", "-o", "emb.parquet", "--to", "parquet"),
        ("dedup", "find", f"{URL}/emb", "-o", "emb.duplicates", "--calibration", "cosine"),
        ("info", f"{URL}/emb.index"),
        ("verify", f"{URL}/emb.index"),
    ):
        ended = embedkit(*command)
        assert ended.code == 0, ended.err


def test_written_to_urls(embedkit, photos, tmp_path):
    options = ("--sharded", "--shard-rows", "3", "-b", "tiny")
    embedkit("extract", photos, "-o", f"{URL}/emb", *options)
    work = ("--work-dir", tmp_path / "work")
    ended = embedkit("index", "build", f"{URL}/emb", "-o", f"{URL}/a.index/", *work)
    assert (ended.code, ended.out[: len(URL) + 10]) == (0, f"{URL}/a.index: ")
    assert embedkit("index", "build", f"{URL}/emb", "-o", f"{URL}/b.index", "--json").json[
        "index"
    ] == (f"{URL}/b.index")
    found = embedkit("search", f"{URL}/a.index", photos, "-k", "1", "--json")
    assert found.json["index"] == f"{URL}/a.index"
    assert embedkit("index", "eval", f"{URL}/a.index").out.startswith(f"{URL}/a.index: ")
    shown = embedkit("index", "eval", f"{URL}/a.index", "--json")
    assert shown.json["index"] == f"{URL}/a.index"
    ended = embedkit("merge", f"{URL}/emb", "-o", f"{URL}/all.h5", *work)
    assert (ended.code, ended.out) == (0, f"{URL}/all.h5: 8 embeddings of 1 store\n")
    assert embedkit("merge", f"{URL}/emb", "-o", "all.h5").code == 0
    assert files(f"{URL}/all.h5") == {"": (tmp_path / "all.h5").read_bytes()}
    assert (tmp_path / "work/memory/bucket").is_dir()
    for command in (
        ("index", "build", f"{URL}/emb", "-o", f"{URL}/a.index"),
        ("merge", f"{URL}/emb", "-o", f"{URL}/all.h5"),
    ):
        ended = embedkit(*command)
        assert (ended.code, ended.err) == (
            1,
            f"embedkit: error: {command[-1]}: exists already; --overwrite replaces it\n",
        )
        assert embedkit(*command, "--overwrite").code == 0
    before = files(f"{URL}/emb")
    ended = embedkit("extract", photos, "-o", f"{URL}/emb", "--update")
    assert ended.out.startswith(f"{URL}/emb: up to date"), ended.err
    shown = embedkit("extract", photos, "-o", f"{URL}/emb", "--update", "--dry-run", "--json").json
    assert (shown["output"], shown["added"]) == (f"{URL}/emb", 0)
    assert files(f"{URL}/emb") == before
    assert not (tmp_path / "memory:").exists()


def test_errors_name_the_url(embedkit, photos, tmp_path):
    options = ("--sharded", "--shard-rows", "3", "-b", "tiny")
    embedkit("extract", photos, "-o", f"{URL}/emb", *options)
    ended = embedkit("label", f"{URL}/emb", "--labels", "folder")
    assert (ended.code, ended.err) == (
        1,
        f"embedkit: error: {URL}/emb: can only be read; copy the store to a local path to change "
        "it\n",
    )
    before = files(URL)
    for command in (
        ("export", f"{URL}/emb", "-o", f"{URL}/a.parquet", "--to", "parquet"),
        ("dedup", "find", f"{URL}/emb", "-o", f"{URL}/a.duplicates", "--calibration", "cosine"),
    ):
        ended = embedkit(*command)
        assert ended.code == 1, command
        output = command[command.index("-o") + 1]
        assert f"{output}: only stores and indexes are written to a URL" in ended.err
    assert files(URL) == before
    assert not (tmp_path / "memory:").exists()
    name = f"{URL}/emb/shard-000001.h5"
    data = bytearray(files(name)[""])
    data[-9] ^= 4
    write(name, bytes(data))
    ended = embedkit("verify", f"{URL}/emb")
    assert ended.code == 1
    assert ended.out.startswith(f"{name}: isn't the file that manifest.json names (SHA-256)")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("s3:/bucket/a: no such file", "s3://bucket/a: no such file"),
        ("s3://bucket/a: no such file", "s3://bucket/a: no such file"),
        ("/home/s3:/a: no such file", "/home/s3:/a: no such file"),
        ("a ratio of gs: 3", "a ratio of gs: 3"),
    ],
)
def test_urls_in_messages(message, shown):
    assert with_urls(message) == shown
