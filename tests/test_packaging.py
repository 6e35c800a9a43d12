"""The package lists what is there, and its metadata says what the files say."""

import tomllib
from importlib import metadata
from pathlib import Path

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


def test_version_is_one():
    assert metadata.version("embedkit") == embedkit.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## {embedkit.__version__}" in changelog


def test_both_packages_are_installed():
    files = metadata.files("embedkit") or []
    entry = next(e for e in metadata.entry_points(group="console_scripts") if e.name == "embedkit")
    assert callable(entry.load())
    assert files


def test_faiss_is_chosen_by_platform_and_never_twice():
    markers = [d.split(";")[1] for d in PROJECT["project"]["dependencies"] if "faiss" in d]
    assert len(markers) == 2
    from packaging.markers import Marker

    assert sum(Marker(marker.strip()).evaluate() for marker in markers) == 1


def test_licence_names_the_weights_licence():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "CC-BY-NC 4.0" in text
