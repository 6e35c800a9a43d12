"""Every command that may take long shows its progress on stderr, except when quiet."""

import pytest
from images import write_photos

from embedkit.utils import progress_bar

# Command to the stages that it must show.
STAGES = {
    "extract": {"listing", "embedding"},
    "verify": {"verifying"},
    "merge": {"verifying", "merging"},
    "export": {"verifying", "writing"},
    "index build": {"adding", "writing ids"},
    "search": {"searching"},
    "dedup find": {"finding the nearest images", "verifying pairs", "making thumbnails"},
    "dedup plan": {"comparing pixels"},
    "probe knn": {"probing", "finding neighbours"},
    "probe linear": {"probing", "choosing C", "fitting", "predicting"},
    "plot": {"placing the images", "making thumbnails"},
    "outliers": {"finding neighbours"},
}
AFTER = {"search": "index build", "dedup plan": "dedup find"}


@pytest.fixture
def call(embedkit, tmp_path):
    """Calls a command by its name, after what it needs."""
    for label in ("cat", "dog"):
        write_photos(tmp_path / "photos" / label, 5, seed=ord(label[0]))
    store, index, found = (tmp_path / name for name in ("photos.h5", "photos.index", "found"))
    arguments = {
        "extract": [tmp_path / "photos", "-o", store, "-b", "tiny", "--labels", "folder"],
        "verify": [store],
        "merge": [store, "-o", tmp_path / "merged.h5"],
        "export": [store, "-o", tmp_path / "rows.parquet", "--to", "parquet"],
        "index build": [store, "-o", index],
        "search": [index, store],
        "dedup find": [store, "-o", found],
        "dedup plan": [found, "-o", tmp_path / "plan.csv"],
        "probe knn": [store],
        "probe linear": [store],
        "plot": [store, "-o", tmp_path / "map.html", "--method", "pca"],
        "outliers": [store],
    }

    def run(command, *options):
        ended = embedkit(*command.split(), *arguments[command], *options)
        assert ended.code == 0, ended.err
        return ended

    def call(command, *options):
        if command != "extract":
            run("extract", "-q")
        if command in AFTER:
            run(AFTER[command], "-q")
        return run(command, *options)

    return call


@pytest.mark.parametrize("command", STAGES)
def test_stages_are_shown_on_stderr_and_not_when_quiet(call, command, monkeypatch):
    monkeypatch.setattr(progress_bar, "_LINE_SECONDS", 0.0)
    shown = {line.split(":")[0] for line in call(command).err.splitlines()}
    assert shown >= STAGES[command]


@pytest.mark.parametrize("command", ["extract", "verify"])
def test_quiet_shows_nothing(call, command, monkeypatch):
    monkeypatch.setattr(progress_bar, "_LINE_SECONDS", 0.0)
    assert call(command, "-q").err == ""
