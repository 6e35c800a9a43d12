"""Every result says what it is, and is a table: one run through the whole pipeline."""

import html
from pathlib import Path

import pytest
from images import draw_photo, write_photos

import embedkit


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Each public function's result, by the function's name."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, name in enumerate(("cats", "dogs")):
            write_photos(folder / "photos" / name, 8, seed=10 * number)
        same = draw_photo(3).resize((200, 150))
        same.save("photos/cats/copy of 3.png")
        made = {"extract": embedkit.extract("photos", "p.h5", backbone="tiny", labels="folder")}
        made["search"] = embedkit.search("p.h5", "photos/cats", k=3)
        made["find_duplicates"] = embedkit.find_duplicates("p.h5")
        made["pairs"] = made["find_duplicates"].pairs
        made["check_duplicates"] = embedkit.check_duplicates("p.h5", "photos/cats/copy of 3.png")
        made["classify"] = next(embedkit.classify("p.h5", k=2))
        made["select"] = embedkit.select("p.h5", 2)
        made["find_outliers"] = embedkit.find_outliers("p.h5", k=2, min_deviations=0.0)
        made["run_probe"] = embedkit.run_probe("knn", "p.h5", shots=(2,))
        made["predict"] = next(embedkit.predict(made["run_probe"].probe, draw_photo(0), k=1))
        made["html"] = {name: one._repr_html_() for name, one in made.items()}
        yield made


NAMES = [
    "extract", "search", "find_duplicates", "pairs", "check_duplicates", "classify", "select",
    "find_outliers", "run_probe", "predict",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_a_table_and_says_what_it_is(results, name):
    result = results[name]
    said = repr(result)
    assert said.startswith(f"<{type(result).__name__}: ")
    assert len(said.splitlines()) == 1
    assert len(said) < 200
    frame = result.to_pandas()
    assert len(frame) >= 1
    other = result.to_polars()
    assert other.columns == [*frame.columns]
    assert other.shape == frame.shape
    page = results["html"][name]
    assert page.count("<tr>") >= 2
    assert html.escape(said) in page


def test_tables_name_the_images(results):
    copies = results["find_duplicates"].to_pandas()
    assert {"photos/cats/copy of 3.png", "photos/cats/photo_0003.jpg"} <= {*copies["id"]}
    chosen = results["select"].to_pandas()
    assert chosen["id"].str.startswith("photos/").all()
    assert results["classify"].to_pandas().groupby("id").size().unique().tolist() == [2]
    runs = results["run_probe"].to_pandas()
    assert {*runs["shots"]} == {2}
    assert runs["top1"].between(0, 1).all()
    known = results["check_duplicates"].to_pandas()
    assert known["id"].iloc[0] in {"photos/cats/copy of 3.png", "photos/cats/photo_0003.jpg"}


def test_pictures_are_shown_where_they_are(results):
    assert results["html"]["search"].count("<img") == 5 * (1 + 3)
    assert results["html"]["find_duplicates"].count("<img") >= 2


def test_objects_say_what_they_are(results):
    probe = results["run_probe"].probe
    assert repr(probe).startswith("<KnnProbe: classes, 2 targets, k=")
    assert "tiny" in repr(probe)


def test_evaluation(tmp_path):
    write_photos(tmp_path / "0", 3)
    store = tmp_path / "p.h5"
    embedkit.extract(tmp_path, store, backbone="tiny", labels="folder")
    found = embedkit.evaluate(store)
    assert repr(found).startswith("<Evaluation: top-1 ")
    assert found.to_pandas()["images"].tolist() == [3]
    assert Path(store).exists()
