"""Files kept under a key: believed only whole."""

import logging
from pathlib import Path

import pytest

from embedkit.utils.file_cache import CachedFiles, file_sha256, hash_code


def write(stem: Path) -> None:
    stem.with_suffix(".a").write_bytes(b"first")
    stem.with_suffix(".b").write_bytes(b"second")


@pytest.fixture
def kept(tmp_path):
    files = CachedFiles.of(tmp_path / "folder", {"x": 1}, "a", "b")
    assert files.find() is None
    assert files.keep(write)
    return files


def test_what_was_kept_is_found(kept):
    stem = kept.find()
    assert stem is not None
    assert [stem.with_suffix(s).read_bytes() for s in (".a", ".b")] == [b"first", b"second"]
    assert sorted(path.suffix for path in kept.folder.iterdir()) == [".a", ".b", ".json"]


def test_the_settings_are_the_key_whatever_their_order(kept):
    folder = kept.folder
    assert CachedFiles.of(folder, {"x": 1}, "a", "b").find() is not None
    assert CachedFiles.of(folder, {"x": 2}, "a", "b").find() is None
    assert CachedFiles.of(folder, {"y": 2, "x": 1}) == CachedFiles.of(folder, {"x": 1, "y": 2})


@pytest.mark.parametrize("suffix", ["a", "b", "json"])
def test_damage_is_told(kept, caplog, suffix):
    path = (kept.folder / kept.key).with_suffix(f".{suffix}")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with caplog.at_level(logging.WARNING, "embedkit"):
        assert kept.find() is None
    assert path.name in caplog.text
    assert kept.keep(write)
    assert kept.find() is not None


@pytest.mark.parametrize("hashes", ["[]", "{}", "null", '{"a": 1, "b": 2}'])
def test_hashes_of_another_form_are_damage(kept, hashes):
    (kept.folder / f"{kept.key}.json").write_text(hashes)
    assert kept.find() is None


def test_a_missing_file_is_no_find(kept):
    (kept.folder / f"{kept.key}.b").unlink()
    assert kept.find() is None


def test_a_write_that_fails_leaves_nothing(tmp_path):
    files = CachedFiles.of(tmp_path, {}, "a")

    def broken(stem):
        stem.with_suffix(".a").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    assert not files.keep(broken)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert not CachedFiles.of(tmp_path / "file" / "folder", {}, "a").keep(write)


def test_hashes_are_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path).startswith("ba7816bf 8f01cfea".replace(" ", ""))


def test_code_is_told_apart_by_names_and_content(tmp_path):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("12")
    second.write_text("3")
    told = hash_code([first, second])
    assert told == hash_code([second, first])
    first.write_text("1")
    second.write_text("23")
    assert told != hash_code([first, second])
