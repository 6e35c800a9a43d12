import shutil

import pytest


@pytest.mark.slow
def test_demo_end_to_end(embedkit, tmp_path):
    output = tmp_path / "tour"
    told = embedkit("demo", "--output", output)
    assert told.code == 0, told.err
    for part in ("images/s", "Apache-2.0", "damaged on purpose", "espresso", "6 of 6"):
        assert part in told.out
    assert str(output / "report.html") in told.out
    assert "embedding 52 images" in told.err
    again = embedkit("--quiet", "demo", "--output", output, "--json")
    assert (again.code, again.err) == (0, "")
    found = again.json
    assert (found["failed"], found["embedded"]) == (1, 52)
    assert [failure["on_purpose"] for failure in found["failures"]] == [True]
    assert found["copies"]["half size"] == {"found": 6, "made": 6}


def test_failures_of_ones_own_images_are_told(embedkit, photos, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    (mine / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    told = embedkit("demo", "--images", mine, "--output", tmp_path / "tour")
    assert told.code == 3
    assert "Failed: broken.jpg" in told.out


def test_demo_refuses_a_folder_with_other_things(embedkit, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    told = embedkit("demo", "--output", tmp_path)
    assert told.code == 1
    assert told.err.count("\n") == 1
    assert "holds no demo" in told.err
