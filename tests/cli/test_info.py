import shutil

from PIL import Image


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


def test_failures_that_differ_in_numbers_are_one_group(embedkit, photos, tmp_path):
    folder, store = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "x.h5"
    Image.new("RGB", (8, 8)).save(folder / "small.gif")  # without one row there is no store
    (folder / "zero.jpg").write_bytes(b"")
    sizes = [path.stat().st_size for path in photos.iterdir()]
    limit = min(sizes) - 1
    assert len(set(sizes)) > 1
    assert embedkit("extract", folder, "-o", store, "-b", "tiny", "--max-bytes", limit).code == 3
    group = "N bytes, over the limit of N (max_bytes)"
    told = embedkit("info", store, "--json").json
    assert told["failures_by_reason"] == {group: 8, "empty file (0 bytes)": 1}
    assert {failure["nbytes"] for failure in told["failures"]} == {0, *sizes}
    shown = embedkit("info", store).out
    assert "9 images failed" in shown
    assert f"     8  {group}\n     1  empty file (0 bytes)\n" in shown
    every = embedkit("info", store, "--failures").out
    for size in sizes:
        assert f"{size} bytes, over the limit of {limit}" in every


def test_one_is_no_plural(embedkit, photos, tmp_path):
    folder, store = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "x.h5"
    Image.new("RGB", (8, 8)).save(folder / "small.gif")  # without one row there is no store
    (folder / "zero.jpg").write_bytes(b"")
    embedkit("extract", folder, "-o", store, "-b", "tiny")
    shown = embedkit("info", store).out
    assert "\n1 image failed\n" in shown
    assert "(1 file," in shown


def test_other_results_are_described_and_verified(embedkit, store, tmp_path):
    embedkit("label", store, "--labels", "folder")
    index, duplicates = tmp_path / "a.index", tmp_path / "dup"
    assert embedkit("index", "build", store, "-o", index).code == 0
    found = ("--calibration", "cosine", "--no-report")
    assert embedkit("dedup", "find", store, "-o", duplicates, *found).code == 0
    for path, kind, fact in ((index, "index", "embeddings"), (duplicates, "duplicates", "pairs")):
        told = embedkit("info", path, "--json").json
        assert told["kind"] == kind
        assert fact in told
        assert f"{fact}:" in embedkit("info", path).out
        assert embedkit("verify", path).code == 0
    data = bytearray((index / "ids.bin").read_bytes())
    data[0] ^= 1
    (index / "ids.bin").write_bytes(data)
    assert embedkit("verify", index).code == 1


def test_images_without_a_label_are_counted(embedkit, photos, tmp_path):
    store, table = tmp_path / "x.h5", tmp_path / "labels.csv"
    table.write_text("file,label\nphoto_0000.jpg,cat\nphoto_0001.jpg,dog\n")
    assert embedkit("extract", photos, "-o", store, "-b", "tiny", "--labels", table).code == 0
    assert "2 different; 6 of 8 images have none" in embedkit("info", store).out
    told = embedkit("info", store, "--json").json
    assert (told["labels"], told["unlabelled"]) == (2, 6)
