from embedkit.store import EmbeddingStore


def test_merge_keeps_order(embedkit, photos, store, tmp_path):
    other, output = tmp_path / "other.h5", tmp_path / "all.h5"
    one = min(photos.iterdir())
    assert embedkit("extract", one, "-o", other, "-b", "tiny").code == 0
    ended = embedkit("merge", other, store, "-o", output)
    assert ended.code == 1
    assert "1 id occur" in ended.err
    assert "--duplicates first" in ended.err
    assert embedkit("merge", other, store, "-o", output, "--duplicates", "first").code == 0
    with EmbeddingStore.open(output) as merged:
        assert len(merged) == 8
    output.unlink()
    assert (
        embedkit("extract", one, "-o", other, "-b", "tiny", "--overwrite", "--prefix", "p").code
        == 0
    )
    ended = embedkit("merge", other, store, "-o", output)
    assert ended.code == 0
    assert "9 embeddings of 2 stores" in ended.out
    with EmbeddingStore.open(output) as merged:
        assert len(merged) == 9
        assert merged.ids[0] == f"p/{one}"
    assert embedkit("verify", output).code == 0


def test_mismatch_is_refused_by_name(embedkit, photos, store, tmp_path):
    other = tmp_path / "other.h5"
    assert embedkit("extract", photos, "-o", other, "-b", "tiny", "--seed", "7").code == 0
    ended = embedkit("merge", store, other, "-o", tmp_path / "all.h5")
    assert ended.code == 1
    assert "weights_fingerprint" in ended.err
    assert not (tmp_path / "all.h5").exists()


def test_parts_are_extracted_and_merged(embedkit, photos, store, tmp_path):
    """``store`` is of one run; each part has a shard or more."""
    one = tmp_path / "one.h5"
    settings = ("-b", "tiny", "--shard-rows", "3")
    assert embedkit("extract", photos, "-o", one, *settings).code in {0, 3}
    parts = [tmp_path / f"part-{number}.h5" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        command = ("extract", photos, "-o", part, *settings, "--part", f"{number}/2")
        assert embedkit(*command).code in {0, 3}
    ended = embedkit("merge", parts[1], "-o", tmp_path / "all.h5")
    assert ended.code == 1
    assert "of the parts 1/2" in ended.err
    assert embedkit("merge", parts[1], parts[0], "-o", tmp_path / "all.h5").code == 0
    assert (tmp_path / "all.h5").read_bytes() == one.read_bytes()


def test_a_part_says_what_it_waits_for_and_folders_are_joined(embedkit, photos, tmp_path):
    folder, settings = tmp_path / "all", ("-b", "tiny", "--sharded", "--shard-rows", "3")
    ended = embedkit("extract", photos, "-o", folder, *settings, "--part", "2/2")
    assert f"{folder} is complete when these parts are done too: 1/2" in ended.err
    other = embedkit("extract", photos, "-o", tmp_path / "b", *settings, "--part", "1/2")
    assert other.code in {0, 3}
    joined = tmp_path / "joined"
    ended = embedkit("merge", f"{folder}.partial", tmp_path / "b", "-o", joined)
    assert ended.code == 0
    assert embedkit("verify", joined).code == 0


def test_a_part_that_is_none(embedkit, photos, tmp_path):
    ended = embedkit("extract", photos, "-o", tmp_path / "a.h5", "-b", "tiny", "--part", "3/2")
    assert ended.code == 1
    assert "from 1/2 to 2/2" in ended.err
