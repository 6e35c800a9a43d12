"""The package lists what is there, and its metadata says what the files say."""

import os
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.version import Version

import embedkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_package_is_listed():
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "embedkit").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {*found, "embedkit_cli"}


def test_every_data_file_is_listed():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = {
        path.relative_to(ROOT)
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace("embedkit_cli", "cli").replace(".", "/")).glob(pattern)
    }
    found = {
        path.relative_to(ROOT)
        for folder in ("embedkit", "cli")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and ".mypy_cache" not in path.parts
    }
    assert listed == found


def test_the_version_is_that_of_the_installed_package():
    assert metadata.version("embedkit") == embedkit.__version__


def test_the_changelog_has_the_version_of_a_build_without_git():
    fallback = PROJECT["tool"]["setuptools_scm"]["fallback_version"]
    assert f"## {Version(fallback).base_version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_it_runs_without_being_installed(tmp_path):
    (tmp_path / "embedkit").symlink_to(ROOT / "embedkit")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import embedkit; print(embedkit.__version__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0+unknown\n"


def test_archives_do_not_depend_on_when_and_by_whom_they_are_built(tmp_path, monkeypatch):
    pytest.importorskip("setuptools")
    file = ROOT / "scripts" / "build_backend.py"
    spec = spec_from_file_location("build_backend", file)
    backend = module_from_spec(spec)
    spec.loader.exec_module(backend)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    hashes = set()
    for number, order in enumerate((["a", "b"], ["b", "a"])):
        folder, path = tmp_path / f"x{number}", tmp_path / f"{number}.tar.gz"
        folder.mkdir(mode=0o700 + number)
        with tarfile.open(path, "w:gz") as archive:
            for name in order:
                (folder / name).write_text(name)
                os.utime(folder / name, (number, number))
                archive.add(folder / name, f"embedkit/{name}")
        backend._repack(path, backend._time())
        hashes.add(path.read_bytes())
        with tarfile.open(path) as archive:
            assert [(one.name, one.mtime, one.uname) for one in archive] == [
                ("embedkit/a", 1700000000, ""),
                ("embedkit/b", 1700000000, ""),
            ]
    assert len(hashes) == 1


def test_both_packages_are_installed():
    files = metadata.files("embedkit") or []
    entry = next(e for e in metadata.entry_points(group="console_scripts") if e.name == "embedkit")
    assert callable(entry.load())
    assert files


def test_faiss_is_chosen_by_platform_and_never_twice():
    markers = [d.split(";")[1] for d in PROJECT["project"]["dependencies"] if "faiss" in d]
    assert len(markers) == 2
    assert sum(Marker(marker.strip()).evaluate() for marker in markers) == 1


def test_licence_names_the_weights_licence():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "CC-BY-NC 4.0" in text
