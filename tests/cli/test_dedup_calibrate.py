import json
import shutil

import pytest
from images import draw_photo


@pytest.fixture
def calibration(embedkit, photos, store, tmp_path):
    ended = embedkit("dedup", "calibrate", store, "--images", photos, "--originals", "4",
                     "--plot", tmp_path / "plot.png", "--precision", "0.9")  # fmt: skip
    assert ended.code == 0, ended.err
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "at precision 0.9" in ended.out
    assert "recall, rotation" in ended.out
    path = tmp_path / "photos.calibration.json"
    assert json.loads(path.read_text())["backbone"] == "tiny"
    return path


def test_a_calibration_is_used(embedkit, photos, store, calibration, tmp_path):
    again = embedkit("dedup", "calibrate", store, "--images", photos)
    assert (again.code, "--overwrite" in again.err) == (1, True)
    ended = embedkit("dedup", "find", store, "-o", tmp_path / "d", "--calibration", calibration,
                     "--no-verify", "--images", photos, "--flip", "--json")  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.json["search"]["calibration"].startswith("tiny, 4 of 8")
    summary = json.loads((tmp_path / "d" / "summary.json").read_text())
    assert summary["settings"]["verify"] is False
    assert summary["settings"]["flip"] is True
    calibration.write_text("{}")
    ended = embedkit("dedup", "find", store, "-o", tmp_path / "e", "--calibration", calibration)
    assert (ended.code, "is no calibration" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "nodir/x.json"), "there is no folder nodir"),
        (("-o", "folder", "--overwrite"), "folder: is a folder"),
        (("--plot", "p.txt"), "p.txt: plots are written to .png, .svg, .pdf"),
        (("--plot", "nodir/p.png"), "there is no folder nodir"),
        (("--plot", "old.png"), "old.png: exists already; --overwrite"),
    ],
)
def test_outputs_are_checked_before_the_work(
    embedkit, photos, store, tmp_path, monkeypatch, options, message
):
    def work(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("embedkit.dedup.scoring.calibrate.calibrate", work)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "old.png").touch()
    ended = embedkit("dedup", "calibrate", store, "--images", photos, *options)
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert message in ended.err


def test_an_approximate_search_says_what_it_finds(embedkit, store, tmp_path):
    ended = embedkit(
        "dedup", "find", store, "-o", tmp_path / "d", "--mode", "approximate", "--no-verify"
    )
    assert ended.code == 0, ended.err
    assert "approximate: recall 100.0%" in ended.out


def test_check(embedkit, photos, store, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(photos / "photo_0003.jpg", new / "again.jpg")
    (new / "broken.jpg").write_bytes(b"no image")
    draw_photo(3).save(tmp_path / "same.png")
    ended = embedkit("dedup", "check", store, new)
    assert ended.code == 3
    assert "identical file" in ended.out
    assert "photo_0003.jpg" in ended.out
    assert "0 of 1 image new" in ended.out
    assert "broken.jpg" in ended.err
    ended = embedkit("dedup", "check", store, tmp_path / "same.png", "--verify", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["matches"][0]["id"].endswith("photo_0003.jpg")
    for known, message in (
        (tmp_path / "none.index", "no such index or store"),
        (photos, "neither an index nor a store"),
    ):
        refused = embedkit("dedup", "check", known, new)
        assert (refused.code, len(refused.err.splitlines())) == (1, 1)
        assert message in refused.err
