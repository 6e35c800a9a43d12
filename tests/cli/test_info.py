def test_info_tells_how_it_was_made(embedkit, store):
    ended = embedkit("info", store)
    assert ended.code == 0
    for text in ("8 x 16 float16", "tiny", "random:0", "crop 32", "8 found = 8 embedded"):
        assert text in ended.out


def test_json(embedkit, store):
    told = embedkit("info", store, "--json").json
    assert (told["rows"], told["feature_dim"], told["backbone"]) == (8, 16, "tiny")
    assert told["preprocessing"]["crop"] == 32
    assert told["failures"] == []


def test_not_a_store(embedkit, tmp_path):
    (tmp_path / "x.h5").write_text("nothing of the kind")
    ended = embedkit("info", tmp_path / "x.h5")
    assert ended.code == 1
    assert "not an embedkit store" in ended.err
    assert embedkit("info", tmp_path / "none.h5").code == 1
