"""A collection for the tests of the service, and a client."""

import shutil

import pytest
from services import make_collection, serving


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where a collection was made, and a copy of it; see ``make_collection``."""
    folder = tmp_path_factory.mktemp("served") / "collection"
    folder.mkdir()
    make_collection(folder)
    return folder, shutil.copytree(folder, folder.with_name("copy"))


@pytest.fixture
def folder(made, monkeypatch):
    """The collection as it was made, where it was made, as the working folder."""
    place, copy = made
    monkeypatch.chdir(place.parent)
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def client(folder):
    """A client of a service over ``photos.index`` and ``photos.h5`` that shows paths."""
    with serving(
        folder / "photos.index", folder / "photos.h5", dups=folder / "dups", show_paths=True
    ) as opened:
        yield opened
