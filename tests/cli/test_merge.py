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
