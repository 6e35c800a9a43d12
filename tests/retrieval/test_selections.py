"""Named selections, and filters by them."""

import numpy as np
import pytest
from stores import write_store

import embedkit
from embedkit.errors import StoreError
from embedkit.retrieval.metadata import matching_rows
from embedkit.retrieval.selections import list_selections, read_selection, selections_folder

IDS = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "line\nfeed.jpg", "bytes\udcff.jpg", "=sum.jpg"]


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(0).normal(size=(len(IDS), 4)).astype(np.float32)
    write_store(tmp_path / "photos.h5", rows, ids=IDS)
    return tmp_path / "photos.h5"


def matching(store, *filters):
    with embedkit.EmbeddingStore.open(store) as opened:
        return [IDS[row] for row in np.flatnonzero(matching_rows([opened], filters))]


def test_a_filter_takes_the_images_of_a_selection(store):
    for ids in ([IDS[1]], IDS[2:], IDS):
        read_selection(store, "mine").write(ids)
        assert matching(store, "selection:mine") == ids
    assert matching(store, "selection:mine", "path=a/*") == IDS[:2]
    assert [one.name for one in list_selections(store)] == ["mine"]


def test_ids_of_other_stores_say_nothing(store):
    read_selection(store, "mine").write(["other.jpg", IDS[0]])
    assert matching(store, "selection:mine") == [IDS[0]]


def test_a_selection_that_isnt_there_is_refused_with_those_that_are(store):
    with pytest.raises(StoreError, match="no selection 'mine'; `embedkit serve` makes"):
        matching(store, "selection:mine")
    read_selection(store, "other one").write([IDS[0]])
    with pytest.raises(StoreError, match="there are other one"):
        matching(store, "selection:mine")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../mine",
        "a/b",
        "a\\b",
        ".hidden",
        "end.",
        "end ",
        "x" * 65,
        "a\nb",
        "ü" * 64 + "ü",
    ],
)
def test_names_that_are_no_plain_file_are_refused(store, name):
    with pytest.raises(ValueError, match="can't name a selection"):
        matching(store, f"selection:{name}")


def test_names_with_letters_of_any_language(store):
    for name in ("Käfer 2", "猫", "a.b-c_d"):
        read_selection(store, name).write([IDS[0]])
        assert matching(store, f"selection:{name}") == [IDS[0]]


def test_a_damaged_selection_is_refused(store):
    selections_folder(store).mkdir()
    read_selection(store, "mine").path.write_text("nonsense\n")
    with pytest.raises(StoreError, match=r"mine\.jsonl"):
        matching(store, "selection:mine")


def test_a_store_of_several_files_has_a_part_each(store, tmp_path):
    rows = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    write_store(tmp_path / "more.h5", rows, ids=["c/1.jpg", "c/2.jpg"])
    read_selection(tmp_path / "more.h5", "mine").write(["c/2.jpg"])
    with (
        embedkit.EmbeddingStore.open(store) as first,
        embedkit.EmbeddingStore.open(tmp_path / "more.h5") as second,
    ):
        found = matching_rows([first, second], ["selection:mine"])
    assert np.flatnonzero(found).tolist() == [len(IDS) + 1]


def test_every_function_with_filters_takes_selections(store):
    read_selection(store, "mine").write(IDS[:4])
    found = embedkit.search(store, f"id:{IDS[0]}", 10, filters=["selection:mine"])
    assert {*found.neighbors.ids[0]} == {*IDS[:4]}
    assert len(embedkit.cluster(store, 2, filters=["selection:mine"]).rows) == 4
    chosen = embedkit.select_subset(store, "diverse", 3, filters=["selection:mine"])
    assert (chosen.candidates, len(chosen.rows)) == (4, 3)
    kept = embedkit.semantic_dedup(store, keep_fraction=0.5, k=1, filters=["selection:mine"])
    assert (len(kept.rows), kept.kept.sum()) == (4, 2)
