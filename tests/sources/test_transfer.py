"""Whole objects: what storages answer becomes one line with the URL and the way out."""

import io

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from object_stores import clear_memory, files, write

from embedkit.errors import StoreError
from embedkit.sources.io import transfer

URL = "memory://bucket/a"


@pytest.fixture(autouse=True)
def _own_store():
    yield
    clear_memory()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            PermissionError("Access Denied"),
            f"{URL}: permission denied (Access Denied); check the storage's credentials, such as "
            "AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ),
        (
            FileNotFoundError("The specified bucket does not exist"),
            f"{URL}: The specified bucket does not exist",
        ),
        (FileNotFoundError("bucket/a"), f"{URL}: no such file or folder"),
        (
            ValueError("Unable to locate\ncredentials"),
            f"{URL}: Unable to locate credentials; check the storage's credentials, such as "
            "AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ),
        (TypeError("no\n such thing"), f"{URL}: no such thing"),
    ],
)
def test_errors_are_one_line(monkeypatch, answer, message):
    def refuse(*args, **kwargs):
        raise answer

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(StoreError) as raised:
        transfer.put(URL, b"x")
    assert str(raised.value) == message


def test_a_broken_connection_is_tried_again(monkeypatch):
    really, answers = MemoryFileSystem.pipe_file, iter([OSError("reset"), OSError("reset")])

    def unsteady(*args, **kwargs):
        for answer in answers:
            raise answer
        return really(*args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", unsteady)
    monkeypatch.setattr("embedkit.sources.io.remote._DELAYS", (0, 0))
    transfer.put(URL, b"x")
    assert transfer.read(URL) == b"x"


def test_only_one_creates():
    assert transfer.create(URL, b"first")
    assert not transfer.create(URL, b"second")
    assert transfer.read(URL) == b"first"
    assert transfer.read(URL, 2) == b"fi"


def test_a_file_is_uploaded_over_what_is_there_or_not(tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    assert transfer.upload(tmp_path / "a", URL, replace=False)
    assert not transfer.upload(tmp_path / "b", URL, replace=False)
    assert transfer.read(URL) == b"first"
    assert transfer.upload(tmp_path / "b", URL)
    assert transfer.read(URL) == b"second"


def test_an_object_is_downloaded_in_ranges(monkeypatch):
    monkeypatch.setattr(transfer, "_CHUNK", 7)
    data = bytes(range(100))
    write(URL, data)
    state = transfer.state_of(URL)
    assert state.nbytes == 100
    file = io.BytesIO()
    transfer.download(URL, 100, file)
    assert file.getvalue() == data
    with pytest.raises(StoreError, match=f"{URL}: ends before its last byte"):
        transfer.download(URL, 101, io.BytesIO())
    write(URL, data)
    assert transfer.state_of(URL) != state


def test_what_is_not_there():
    assert transfer.state_of(URL) is transfer.read(URL) is None
    assert transfer.list_names("memory://bucket") == []
    transfer.delete(URL)
    transfer.delete_folder("memory://bucket")
    write(URL, b"x")
    write(f"{URL}.partial/b/c", b"x")
    assert transfer.state_of("memory://bucket") is None
    assert transfer.list_names("memory://bucket") == ["a", "a.partial"]
    transfer.delete_folder(f"{URL}.partial")
    assert files("memory://bucket") == {"a": b"x"}
