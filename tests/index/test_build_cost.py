"""The model of what a build on Ray takes."""

import pytest

from embedkit.index import IndexSpec
from embedkit.index.build_cost import build_cost

ROWS = 1_000_000_000


def test_a_billion_rows():
    steps = {step.step: step for step in build_cost(IndexSpec(), ROWS, 2048)}
    assert [*steps] == ["train", "add", "compare", "join", "write ids"]
    add = steps["add"]
    assert 500 <= add.tasks <= 512  # a process may have 1,024 files open
    assert add.tasks * add.rows >= ROWS > (add.tasks - 1) * add.rows
    assert add.nbytes < 3e9  # a worker holds the centroids and its own codes
    assert steps["join"].nbytes > 1e9 * 256  # the driver holds all codes
    on_disk = {s.step: s for s in build_cost(IndexSpec(on_disk=True), ROWS, 2048)}
    assert on_disk["join"].nbytes < 1e9 * 32


def test_time_follows_the_lists():
    def seconds(factory):
        return build_cost(IndexSpec(factory=factory), 10**8, 512)[1].seconds

    assert seconds("IVF16384,SQ8") / seconds("IVF4096,SQ8") == pytest.approx(4, rel=0.2)
    assert seconds("IVF4096,SQ8") == seconds("IVF4096,PQ128x4fs")


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF4096,PQ128x4fs,RFlat"])
def test_what_is_not_built_in_parts_has_no_steps(factory):
    assert build_cost(IndexSpec(factory=factory), 10**6, 512) == ()
