"""Running the command line inside the test's process."""

import json
import sys
from dataclasses import dataclass

import pytest


@dataclass
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def embedkit(monkeypatch, capsys):
    """Calls ``embedkit ARGS…`` as the console script does."""
    from embedkit_cli.main import run

    monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
    monkeypatch.setattr("sys.stderr.reconfigure", lambda **_: None, raising=False)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["embedkit", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        printed = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of eight drawn photos."""
    from images import write_photos

    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 8)
    return folder


@pytest.fixture
def store(embedkit, photos, tmp_path):
    """A store of the eight photos."""
    path = tmp_path / "photos.h5"
    assert embedkit("extract", photos, "-o", path, "-b", "tiny").code == 0
    return path
