"""Starts the viewer embedding-atlas on a file of ``export(to="atlas")``, for this machine alone."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from typing import IO, TYPE_CHECKING, Self
from urllib.error import URLError

from embedkit.errors import EmbedkitError
from embedkit.exporters.atlas import ATLAS_COLUMNS
from embedkit.utils.extras import require_extra
from embedkit.utils.module_command import module_command, module_environment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AtlasServer", "check_atlas"]

_HOST = "127.0.0.1"
_PORT = 5055  # embedding-atlas's own
_POLL_SECONDS = 0.2
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip


def check_atlas() -> None:
    """Raises ``MissingExtraError`` if embedding-atlas isn't installed."""
    require_extra("embedding_atlas", "atlas", "the viewer embedding-atlas")


class AtlasServer:
    """A running embedding-atlas; a context manager that ends it.

    It answers on the loopback interface only, and the libraries that it loads neither download
    models nor report their use.

    Attributes:
        url: The address of its page.
    """

    def __init__(self, file: Path) -> None:
        """Starts the viewer, and waits until its page can be opened.

        Args:
            file: A file of ``export(to="atlas")``.

        Raises:
            MissingExtraError: embedding-atlas isn't installed.
            EmbedkitError: It ended with an error; the message has its last line.
        """
        check_atlas()
        self._port = _free_port()
        self.url = f"http://{_HOST}:{self._port}"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the end)
        settings = ATLAS_COLUMNS | {"host": _HOST, "port": str(self._port)}
        self._process = subprocess.Popen(
            [
                *(*module_command("embedding_atlas.cli"), os.fspath(file)),
                *(f"--{name}={value}" for name, value in settings.items()),
                *(f"--{name}" for name in ("no-auto-port", "no-mcp")),
            ],
            env=module_environment() | _OFFLINE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )  # fmt: skip
        try:
            while not self._answers():
                self._refuse_end()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def wait(self) -> None:
        """Waits as long as the viewer runs.

        Raises:
            EmbedkitError: It ended with an error.
        """
        self._process.wait()
        self._refuse_end()

    def close(self) -> None:
        """Ends the viewer."""
        self._process.terminate()
        self._process.wait()
        self._errors.close()

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/data/metadata.json", timeout=10):
                return True
        except (URLError, OSError):
            return False

    def _refuse_end(self) -> None:
        code = self._process.poll()
        if code is not None:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit status {code}"
            raise EmbedkitError(f"embedding-atlas ended: {reason}")


def _free_port() -> int:
    """The usual port, or if another program has it, a free one."""
    for port in (_PORT, 0):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((_HOST, port))
            except OSError:
                continue
            return int(one.getsockname()[1])
    raise EmbedkitError(f"no free port on {_HOST}")
