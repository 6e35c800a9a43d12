"""A store of many small shards needs few open files."""

import subprocess
import sys

import pytest
from store_contents import make_content, make_rows, write_folder

resource = pytest.importorskip("resource")

# Works on a store of 1,000 shards of one row with at most 64 open files.
FEW = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from embedkit.dedup.api import find_duplicates
from embedkit.exporters.export import export
from embedkit.index import Index
from embedkit.store import EmbeddingStore, merge, verify
folder = Path(sys.argv[1])
store = folder / "s"
assert verify(store) == []
with EmbeddingStore.open(store) as opened:
    assert len(list(opened.iter_batches())) == 1000
    blocks = list(opened.blocks())  # all held at once
    assert len(opened.embeddings[:]) == 1000
merge([store, folder / "t"], folder / "m.h5")
Index.build([store, folder / "t"], folder / "a.index")
export(store, folder / "a.parquet", to="parquet")
find_duplicates(store, against=folder / "t", calibration="cosine")
"""


@pytest.mark.long
def test_a_thousand_shards_with_64_open_files(tmp_path):
    for name, first in (("s", 0), ("t", 5000)):
        contents = [make_content(make_rows(1, seed=n, ids=[f"{first + n}"])) for n in range(1000)]
        write_folder(tmp_path / name, contents)
    done = subprocess.run(
        [sys.executable, "-c", FEW, tmp_path], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr[-1500:]
