"""The states of a loss of power hold what a disk may do; ``test_run.py`` runs jobs in them."""

import random
from pathlib import Path


def test_a_file_that_is_not_synced_is_lost(monkeypatch):
    """Without an fsync a renamed file may be empty."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from power_loss import FOLDER, Disk, Moment, _some_content

    made = {".": 0, "a.tmp": 1}
    moments = [
        Moment({".": 0}, {0: FOLDER}),
        Moment(made, {0: FOLDER, 1: "new"}),
        Moment({".": 0, "a": 1}, {0: FOLDER, 1: "new"}),
    ]
    disk = Disk.at(moments, 2)
    assert disk.contents == {0: FOLDER}  # nothing of the file is on the disk for certain
    seen = {tuple(sorted(disk.some_names(random.Random(seed)))) for seed in range(50)}
    assert (".",) in seen
    assert (".", "a") in seen
    contents = {_some_content(b"", b"x" * 9000, random.Random(seed)) for seed in range(50)}
    assert b"" in contents
    assert b"x" * 9000 in contents
    assert len(contents) > 4
    synced = [moments[0], Moment(made, {0: FOLDER, 1: "new"}, synced=1), *moments[2:]]
    assert Disk.at(synced, 2).contents[1] == "new"
