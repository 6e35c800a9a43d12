"""Results as tables and in notebooks."""

import sys

import numpy as np
import pytest

from embedkit.errors import MissingExtraError
from embedkit.tabular import html_table, to_pandas, to_polars
from embedkit.types import Neighbors, SearchResult

SCORES = np.array([[0.9, 0.8], [0.7, np.nan], [np.nan, np.nan]], np.float32)
RESULT = SearchResult(("q0", "<q1>", "q2"), Neighbors((("a", "b"), ("<i>",), ()), SCORES))


def test_one_row_per_neighbour():
    frame = RESULT.to_pandas()
    assert frame["query_id"].tolist() == ["q0", "q0", "<q1>"]
    assert frame["rank"].tolist() == [1, 2, 1]
    assert frame["neighbor_id"].tolist() == ["a", "b", "<i>"]
    np.testing.assert_array_equal(frame["score"], np.float32([0.9, 0.8, 0.7]))
    assert RESULT.to_polars().to_dict(as_series=False) == frame.to_dict("list")
    assert RESULT.neighbors.to_pandas()["query"].tolist() == [0, 0, 1]


def test_repr_is_one_line():
    assert repr(RESULT) == "<SearchResult: 3 neighbours of 3 queries>"


@pytest.mark.parametrize(("make", "library"), [(to_pandas, "pandas"), (to_polars, "polars")])
def test_a_missing_library_is_named(make, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'embedkit\[{library}\]'"):
        make({"a": [1]})


def test_text_is_escaped_and_pictures_are_few():
    asked = []

    def thumbnails(ids):
        asked.extend(ids)
        return {name: "data:image/jpeg;base64,AAAA" for name in ids if name != "b"}

    many = 50
    found = Neighbors(tuple((f"n{query}", "b", "<i>") for query in range(many)), np.ones((many, 3)))
    page = SearchResult(tuple(f"q{n}" for n in range(many)), found, (), thumbnails)._repr_html_()
    assert len(asked) == 5 * 2 + 2  # five queries, their neighbours, "b" and "<i>" once
    assert page.count("<img") == 5 * 3
    assert "<i>" not in page
    assert "&lt;i&gt;" in page
    assert "and 45 more" in page


def test_a_hostile_title_and_name_stay_text():
    page = html_table("<b>", ["<h>"], [['"><script>'], ["odd\udcff"]])
    assert "<script>" not in page
    assert "<h>" not in page
    assert "odd\\xff" in page
    page.encode("utf-8")
