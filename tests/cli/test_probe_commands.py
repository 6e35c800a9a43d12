"""``embedkit probe``, from photos to predictions."""

import shutil

import pandas as pd
import pytest
from images import write_photos


@pytest.fixture
def labelled(embedkit, tmp_path):
    """A store of two folders of five photos each."""
    for number, name in enumerate(("cats", "dogs")):
        write_photos(tmp_path / "photos" / name, 5, seed=10 * number)
    path = tmp_path / "labelled.h5"
    done = embedkit("extract", tmp_path / "photos", "-o", path, "-b", "tiny", "--labels", "folder")
    assert done.code == 0
    return path


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_probe_is_trained_and_asked(embedkit, labelled, tmp_path, kind):
    folder = tmp_path / "probe"
    done = embedkit("probe", kind, labelled, "--split", "0.4", "-o", folder, "--json")
    assert done.code == 0, done.err
    (run,) = done.json["runs"]
    assert (run["training_images"], run["test_images"]) == (6, 4)
    assert 0 <= run["measures"]["top1"]["low"] <= run["measures"]["top1"]["value"] <= 1
    assert "data:image/jpeg" in (folder / "report.html").read_text() or run["measures"]["top1"][
        "value"
    ] == pytest.approx(1)
    new = embedkit("probe", "predict", folder, tmp_path / "photos", labelled, "-k", 2, "--json")
    assert new.code == 0, new.err
    told = new.json["predictions"]
    assert len(told) == 20
    for image, row in zip(told[:10], told[10:], strict=True):
        assert image["id"] == row["id"]
        assert {one["name"] for one in image["predictions"]} == {"cats", "dogs"}
        pairs = zip(image["predictions"], row["predictions"], strict=True)
        assert all(a["score"] == pytest.approx(b["score"], abs=2e-3) for a, b in pairs)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predictions_go_into_a_file(embedkit, labelled, tmp_path, suffix):
    folder, path = tmp_path / "probe", tmp_path / f"predictions.{suffix}"
    assert embedkit("probe", "knn", labelled, "-o", folder).code == 0
    predict = ("probe", "predict", folder, labelled, "-k", 2)
    expected = [
        (image["id"], rank, one["name"], one["score"])
        for image in embedkit(*predict, "--json").json["predictions"]
        for rank, one in enumerate(image["predictions"], 1)
    ]
    done = embedkit(*predict, "-o", path)
    assert (done.code, "predictions of 10 images" in done.out) == (0, True), done.err
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    table = (
        read[suffix](path) if suffix in read else pd.read_json(path, lines=True, precise_float=True)
    )
    assert [*table.itertuples(index=False, name=None)] == expected
    assert (embedkit(*predict, "-o", path).code, path.stat().st_size > 0) == (1, True)
    told = embedkit(*predict, "-o", path, "--overwrite", "--json").json
    assert (told["output"], told["images"], told["failures"]) == (str(path), 10, [])
    assert embedkit(*predict, "-o", tmp_path / "x.txt").code == 1


def test_shots_and_tables(embedkit, labelled):
    done = embedkit("probe", "knn", labelled, "--shots", "1,2", "--trials", 2, "--no-leaks")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split() == ["shots", "metric", "mean", "std", "trials"]
    assert embedkit("probe", "knn", labelled).out.startswith("8 train, 2 test; k = ")
    wrong = embedkit("probe", "knn", labelled, "--shots", "1;2")
    assert (wrong.code, "--shots 1;2" in wrong.err) == (2, True)


def test_memory_is_finite(embedkit, labelled):
    for wrong in ("inf", "nan", "1e300"):
        done = embedkit("probe", "linear", labelled, "--memory", wrong)
        assert (done.code, "--memory" in done.err) == (2, True)


def test_a_given_c_is_taken(embedkit, labelled):
    done = embedkit("probe", "linear", labelled, "--c", "0.3", "--json")
    assert done.code == 0, done.err
    (run,) = done.json["runs"]
    assert run["chosen"] == {"c": 0.3}
    assert not run["tried"]
    for wrong in ("0", "-1", "nan", "inf"):
        done = embedkit("probe", "linear", labelled, "--c", wrong)
        assert (done.code, "positive, finite" in done.err) == (1, True)


def test_what_stands_in_the_way_is_told(embedkit, labelled, tmp_path, store):
    assert "has no labels" in embedkit("probe", "knn", store).err
    (tmp_path / "there").write_text("")
    assert "is no probe" in embedkit("probe", "knn", labelled, "-o", tmp_path / "there").err
    folder = tmp_path / "probe"
    assert embedkit("probe", "knn", labelled, "-o", folder).code == 0
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff")
    done = embedkit("probe", "predict", folder, damaged)
    assert (done.code, "damaged.jpg" in done.err) == (3, True)
    shutil.rmtree(folder)
    assert "no such file or folder" in embedkit("probe", "predict", folder, damaged).err
