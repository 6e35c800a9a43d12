"""Manifests with their own hash."""

import json

import pytest

from embedkit.errors import StoreCorruptError, StoreError, StoreFormatError
from embedkit.utils.manifest import ManifestFormat

FORMAT = ManifestFormat(
    "a-format", 2, "a thing", "make it again",
    missing=StoreError, other=StoreFormatError, damaged=StoreCorruptError, older=(1,),
)  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(FORMAT.encode({"a": [1, "ü"], "b": None}))
    assert FORMAT.read(path) == {"a": [1, "ü"], "b": None, "format_version": 2}
    path.write_text('{"format": "a-format", "format_version": 1}')  # older ones have no hash
    assert FORMAT.read(path) == {"format_version": 1}


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (None, StoreError, "not a thing"), ("{", StoreCorruptError, "make it again"),
        ("[]", StoreFormatError, "not the manifest"), ("[" * 90000, StoreCorruptError, "damaged"),
        ('{"format": "other"}', StoreFormatError, "not the manifest"),
        ('{"format": "a-format", "format_version": 3}', StoreFormatError, "newer"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, text, error, match):
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=match):
        FORMAT.read(path)


def test_each_changed_value_is_found(tmp_path):
    path = tmp_path / "m.json"
    content = json.loads(FORMAT.encode({"a": 1, "b": "text"}))
    for name, value in (("a", 2), ("b", "other"), ("c", 0), ("sha256", "0" * 64)):
        path.write_text(json.dumps({**content, name: value}))
        with pytest.raises(StoreCorruptError, match="was changed"):
            FORMAT.read(path)
