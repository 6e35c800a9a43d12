"""Object stores to test on: fsspec's in memory, and an S3 server of its own process."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

SERVER = "EMBEDKIT_TEST_S3_SERVER"  # the path of moto_server, in an environment of its own


def files(url):
    """What lies at a URL, at any depth: path below it to bytes."""
    filesystem, path = fsspec.url_to_fs(url)
    filesystem.invalidate_cache()
    found = filesystem.find(path)
    return {one.removeprefix(path).lstrip("/"): filesystem.cat_file(one) for one in found}


def local(folder):
    """What lies in a folder: name to bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(folder):
    """The files of a folder, at any depth."""
    return [path for path in folder.rglob("*") if path.is_file()]


def write(url, content):
    filesystem, path = fsspec.url_to_fs(url)
    filesystem.pipe_file(path, content)


def copy_in(folder, url):
    """Copies a folder to a URL."""
    for path in folder.rglob("*"):
        if path.is_file():
            write(f"{url}/{path.relative_to(folder)}", path.read_bytes())


def clear_memory():
    """Empties fsspec's object store in memory, of folders too."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@contextmanager
def s3_server():
    """An S3 server; while it runs, the environment names it. Skips the test if there is none."""
    program = os.environ.get(SERVER) or shutil.which("moto_server")
    if program is None or importlib.util.find_spec("s3fs") is None:
        pytest.skip(f"needs s3fs, and moto_server on PATH or in {SERVER}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            fsspec.get_filesystem_class("s3").clear_instance_cache()
            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3://bucket"
    finally:
        process.terminate()
        process.wait()
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def _wait_for(port):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the S3 server doesn't start")


class Crashed(BaseException):
    """As if the process had been killed."""


class Crashing:
    """Ends a run before or after its n-th change of the object store."""

    CHANGES = ("put_file", "pipe_file", "rm_file", "rm")

    def __init__(self, monkeypatch, at, *, after):
        self.left, self.after = at, after
        for name in self.CHANGES:
            monkeypatch.setattr(MemoryFileSystem, name, self.counting(name))

    def counting(self, name):
        really = getattr(MemoryFileSystem, name)

        def change(filesystem, *args, **kwargs):
            self.left -= 1
            if not self.left and not self.after:
                raise Crashed
            result = really(filesystem, *args, **kwargs)
            if not self.left:
                raise Crashed
            return result

        return change
