import json

import pandas
import pytest

from embedkit.analysis.classification import classify

TINY = ("-b", "tiny", "--weights", "random")


@pytest.mark.parametrize("given", ["store", "photos"])
def test_json_of_a_store_or_images(embedkit, store, photos, given):
    ended = embedkit("classify", store if given == "store" else photos, "-k", 2, "--json", *TINY)
    assert ended.code == 0
    (batch,) = classify(store, 2)
    assert [one["id"] for one in ended.json["images"]] == list(batch.ids)
    best = ended.json["images"][3]["classes"]
    assert [one["class"] for one in best] == batch.classes[3].tolist()
    assert [one["class_name"] for one in best] == list(batch.class_names[3])
    assert best[0]["probability"] == pytest.approx(float(batch.probabilities[3, 0]))


def test_table_and_file(embedkit, store, photos, tmp_path):
    ended = embedkit("classify", store, "-k", 2)
    first = ended.out.split("\n\n")[0].splitlines()
    assert (ended.code, first[0], len(first)) == (0, str(photos / "photo_0000.jpg"), 4)
    output = tmp_path / "out.parquet"
    assert embedkit("classify", store, "-o", output).out == f"{output}: classes of 8 images\n"
    assert len(pandas.read_parquet(output)) == 40
    assert embedkit("classify", store, "-o", output).code == 1
    told = embedkit("classify", store, "-o", output, "--overwrite", "--json").json
    assert told["classified"] == 8


def test_what_cannot_be_embedded_is_told(embedkit, photos, tmp_path):
    (tmp_path / "bad\x1b[3m.jpg").write_bytes(b"")
    ended = embedkit("classify", tmp_path, photos, "--json", *TINY)
    assert (ended.code, len(ended.json["images"])) == (3, 8)
    assert "empty file" in ended.json["failures"][0]["reason"]
    assert "\x1b" not in ended.err
    assert embedkit("classify").code == 2


def test_evaluate_images_keeps_their_store(embedkit, photos, tmp_path):
    labels, kept = tmp_path / "labels.csv", tmp_path / "kept.h5"
    names = sorted(photos.iterdir())
    labels.write_text("\n".join(["id,label", *(f"{name},{n}" for n, name in enumerate(names))]))
    embedkit("extract", photos, "-o", kept, "--labels", labels, "-b", "tiny")
    ended = embedkit("evaluate", kept, "--worst", 2, "--json")
    assert ended.code == 0
    (batch,) = classify(kept, 5)
    right = sum(row[0] == n for n, row in enumerate(batch.classes.tolist()))
    assert (ended.json["top1"]["right"], ended.json["top1"]["of"]) == (right, 8)
    assert "accuracy, %" in embedkit("evaluate", kept, "--worst", 2).out
    subset = tmp_path / "subset.txt"
    subset.write_text("0\n3\n4\n")
    told = embedkit("evaluate", kept, "--class-subset", subset, "--json").json
    assert (told["top5"]["right"], told["unlabelled"], len(told["classes"])) == (3, 5, 3)
    (tmp_path / "real.json").write_text("[]")
    wrong = embedkit("evaluate", kept, "--real", tmp_path / "real.json")
    assert (wrong.code, "ImageNet's 1000 classes" in wrong.err) == (1, True)
    unknown = embedkit("evaluate", photos, "--store", tmp_path / "b.h5", *TINY)
    assert unknown.code == 1
    assert "known class" in unknown.err
    assert json.loads(embedkit("info", tmp_path / "b.h5", "--json").out)["embedded"] == 8
    assert embedkit("evaluate", kept, "--store", tmp_path / "c.h5").code == 1
    assert "merge" in embedkit("evaluate", kept, kept).err
