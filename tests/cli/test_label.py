from embedkit.store import EmbeddingStore


def test_labels_are_put_in(embedkit, store, tmp_path):
    assert "embedkit label" in embedkit("probe", "knn", store, "-o", tmp_path / "p").err
    ended = embedkit("label", store, "--labels", "folder")
    assert ended.code == 0
    assert "8 of 8 images labeled, 1 different label" in ended.out
    with EmbeddingStore.open(store) as opened:
        table = tmp_path / "t.csv"
        table.write_text(f"where,kind\n{opened.ids[3]},owl\n")
    options = ("--label-column", "kind", "--label-id-column", "where", "--json")
    told = embedkit("label", store, "--labels", table, *options).json
    assert (told["images"], told["labeled"], told["classes"]) == (8, 1, 1)
    assert embedkit("label", store, "--labels", "auto").code == 1
