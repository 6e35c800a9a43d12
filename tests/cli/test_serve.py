"""``embedkit serve`` refuses what it can't serve before it listens."""

import pytest
from images import write_photos

import embedkit as library


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    write_photos(folder / "photos", 3)
    library.extract(folder / "photos", folder / "photos.h5", backbone="tiny", device="cpu")
    return folder


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.index"], "none.index"), (["photos"], "photos"),
        (["photos.h5", "--dups", "photos"], "photos"),
        (["photos.h5", "--token-file", "none.txt"], "none.txt"),
        (["photos.h5", "--token", "short"], "16 characters"),
    ],
)  # fmt: skip
def test_what_cant_be_served_is_an_error_of_one_line(
    embedkit, folder, monkeypatch, arguments, reason
):
    monkeypatch.chdir(folder)
    outcome = embedkit("serve", *arguments, "--port", 0)
    assert outcome.code in {1, 2}
    assert reason in outcome.err
    assert "Traceback" not in outcome.err
    if outcome.code == 1:
        assert outcome.err.startswith("embedkit: error: ")
        assert outcome.err.count("\n") == 1
