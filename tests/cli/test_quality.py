"""``embedkit quality``."""


def test_table_folder_and_json(embedkit, store, photos, tmp_path):
    output = tmp_path / "quality"
    ended = embedkit("quality", store, "-o", output, "--blurry", 1e9, "--images", photos)
    assert ended.code == 0
    assert ended.out.startswith("8 of 8 images have an issue\nissue ")
    assert {path.name for path in output.iterdir()} == {
        "issues.csv", "images.parquet", "summary.json", "report.html",
    }  # fmt: skip
    told = embedkit("quality", store, "--dark", 300, "--json").json
    assert (told["issues"]["dark"], told["thresholds"]["dark"], told["output"]) == (8, 300, None)
    ended = embedkit("quality", store, "-o", output)
    assert (ended.code, "--overwrite" in ended.err) == (1, True)
    assert embedkit("quality", store, "-o", output, "--overwrite").code == 0


def test_filters_of_other_commands_take_the_measures(embedkit, store, tmp_path):
    list_ = ("select", store, "--diverse", 3, "-o", tmp_path / "a.csv", "--overwrite")
    assert embedkit(*list_, "--filter", "sharpness>0", "--filter", "aspect<5").code == 0
    assert embedkit(*list_, "--filter", "luminance>255").code == 1
    found = embedkit("search", store, f"id:{photo_of(store)}", "--filter", "luminance>255")
    assert found.code == 0


def photo_of(store):
    from embedkit.store import EmbeddingStore

    with EmbeddingStore.open(store) as opened:
        return opened.ids[0]
