"""Parts of an index, joined: the bytes of an index that all rows were added to."""

import faiss
import numpy as np
import pytest
from vectors import clustered

from embedkit.index import parts
from embedkit.index.faiss_types import make_index
from embedkit.index.parts import join_parts, missing_spans, part_of, write_part
from embedkit.index.train import train_index

DIM, ROWS = 28, 2000


def trained(factory, metric="cosine"):
    index = make_index(factory, DIM, metric)
    train_index(index, clustered(ROWS, DIM), seed=0)
    return index


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    "factory",
    ["IVF16,PQ14x4fs", "IVF16,PQ14x4fsr", "IVF16,PQ7x4fs_64", "PCA24,OPQ4,IVF16,PQ4x4fs",
     "IVF16,SQ8", "OPQ4,IVF16,PQ4"],
)  # fmt: skip
def test_parts_joined_are_the_index_of_all_rows(tmp_path, monkeypatch, factory, metric):
    monkeypatch.setattr(parts, "_PACKED_BYTES", 2000)  # so that lists are packed in several groups
    rows = clustered(ROWS, DIM)
    whole, index = trained(factory, metric), trained(factory, metric)
    whole.add(rows)
    part = part_of(index)
    files = []
    for start, stop in ((0, 1000), (1000, 1001), (1001, ROWS)):
        part.add_with_ids(rows[start:stop], np.arange(start, stop))
        files.append(tmp_path / f"{start}.faiss")
        with files[-1].open("wb") as file:
            write_part(part, file.write)
        part.reset()
    join_parts(index, files)
    assert faiss.serialize_index(index).tobytes() == faiss.serialize_index(whole).tobytes()


def test_a_part_holds_no_centroids(tmp_path):
    index = trained("IVF64,SQ8")
    with (tmp_path / "part").open("wb") as file:
        write_part(part_of(index), file.write)
    assert (tmp_path / "part").stat().st_size < 64 * DIM * 4
    assert index.quantizer.ntotal == 64


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "PQ7x4fs", "IVF16,PQ7x4fs,RFlat"])
def test_what_has_no_parts(factory):
    assert part_of(make_index(factory, DIM, "cosine")) is None


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], [(0, 4), (4, 8), (8, 10)]),
        ([(0, 4)], [(4, 8), (8, 10)]),
        ([(4, 8)], [(0, 4), (8, 10)]),
        ([(2, 3), (3, 9)], [(0, 2), (9, 10)]),
        ([(0, 10)], []),
        ([(0, 5), (2, 4)], [(5, 9), (9, 10)]),
    ],
)
def test_only_what_is_missing_is_added(done, expected):
    assert list(missing_spans([(*span, None) for span in done], 10, 4)) == expected
