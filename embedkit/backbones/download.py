"""Download one file so that it is either there whole and checked, or not there.

A transfer goes to ``NAME.part`` beside the target, continues after a cut connection or a killed
process, and is renamed into place only once its length and its SHA-256 are right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from filelock import FileLock

from embedkit.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["download"]

_CHUNK = 1 << 20
_MAX_BYTES = 4 << 30
_LONGEST_PAUSE = 10.0  # seconds
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class _CutError(Exception):
    """The transfer broke off in a way that another try may mend."""


class _RangeError(_CutError):
    """The server has no bytes after those that are already here."""


def download(
    url: str,
    target: Path,
    *,
    sha8: str | None = None,
    max_bytes: int = _MAX_BYTES,
    timeout: float = 30.0,
    retries: int = 4,
    backoff: float = 0.5,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Fetch a file over HTTP, once, however many processes ask for it.

    Args:
        url: ``http`` or ``https``.
        target: The file to make; one that exists is returned as it is.
        sha8: First hex digits that the file's SHA-256 must have.
        max_bytes: Refuse anything larger, bytes.
        timeout: Longest silence of the server, seconds.
        retries: How many tries in a row may bring no new byte before it gives up.
        backoff: First pause between two tries, seconds; it doubles up to ten.
        on_progress: Called with the target's name, the bytes that are there, and the bytes there
            will be (None where the server doesn't say).

    Returns:
        ``target``.

    Raises:
        WeightsError: The file can't be had, is too large, or has the wrong hash.
    """
    _check_scheme(url)
    with _local_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():  # another process may have brought it while this one waited
                part = _Part.open(target)
                report = on_progress or _no_report
                transfer = _Transfer(url, part, max_bytes, timeout, report)
                _persist(transfer, retries, backoff)
                _check_hashes(url, part, (sha8, transfer.linked_sha256))
                part.finish(target)
    return target


@dataclass(slots=True)
class _Part:
    """The unfinished file, the hash of what is in it, and the server's mark for its version."""

    path: Path
    name: str
    validator: str = ""
    size: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def open(cls, target: Path) -> _Part:
        """Take up what an earlier process left, where it is known which version that was of."""
        part = cls(target.with_name(f"{target.name}.part"), target.name)
        if part.path.is_file() and part.validator_path.is_file():
            part.validator = part.validator_path.read_text(encoding="ascii")
            with part.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    part.sha256.update(chunk)
                    part.size += len(chunk)
        return part

    @property
    def validator_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.etag")

    def restart(self, validator: str = "") -> None:
        """Forget the bytes; those to come are of the version that ``validator`` marks."""
        self.validator_path.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        self.size, self.sha256, self.validator = 0, hashlib.sha256(), validator
        if validator:
            self.validator_path.write_text(validator, encoding="ascii")

    def append(self, file: IO[bytes], chunk: bytes) -> None:
        file.write(chunk)
        self.sha256.update(chunk)
        self.size += len(chunk)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Move the file into place so that even a power cut leaves it whole or absent."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self.validator_path.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder can't be opened to be synced
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@dataclass(slots=True)
class _Transfer:
    """One URL on its way into one part file."""

    url: str
    part: _Part
    max_bytes: int
    timeout: float
    on_progress: Callable[[str, int, int | None], None]
    linked_sha256: str | None = None

    def attempt(self) -> None:
        """Ask once for what is still missing and append it."""
        redirects = _Redirects()
        with self._open(redirects) as response:
            # The hub answers with a redirect that names the SHA-256 of the file it leads to.
            self.linked_sha256 = redirects.linked_sha256
            self._receive(response, self._begin(response))

    def _open(self, redirects: _Redirects) -> http.client.HTTPResponse:
        opener = urllib.request.build_opener(redirects)
        try:
            with _network_errors(self.url):
                return cast(
                    http.client.HTTPResponse, opener.open(self._request(), timeout=self.timeout)
                )
        except _RangeError:
            self.part.restart()
            raise

    def _request(self) -> urllib.request.Request:
        headers = {"User-Agent": "embedkit", "Accept-Encoding": "identity"}
        if self.part.size and self.part.validator:
            headers["Range"] = f"bytes={self.part.size}-"
            headers["If-Range"] = self.part.validator
        return urllib.request.Request(self.url, headers=headers)

    def _begin(self, response: http.client.HTTPResponse) -> int | None:
        """Decide between going on and starting anew; return the whole file's size, bytes."""
        validator = _validator(response)
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            self.part.restart(validator)
            length = response.headers.get("Content-Length", "")
            return self._bounded(int(length) if length.isdecimal() else None)
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not place or int(place[1]) != self.part.size or validator != self.part.validator:
            self.part.restart()
            raise _CutError("the server continued another file than the one begun")
        return self._bounded(int(place[2]))

    def _bounded(self, total: int | None) -> int | None:
        if max(total or 0, self.part.size) > self.max_bytes:
            self.part.discard()
            raise WeightsError(f"{self.url}: larger than {self.max_bytes} bytes, not downloaded")
        return total

    def _receive(self, response: http.client.HTTPResponse, total: int | None) -> None:
        part = self.part
        with part.path.open("ab") as file:
            while chunk := self._next_chunk(response):
                part.append(file, chunk)
                self._bounded(total)
                self.on_progress(part.name, part.size, total)
        if total is not None and part.size != total:
            raise _CutError(f"the connection was cut after {part.size} of {total} bytes")

    def _next_chunk(self, response: http.client.HTTPResponse) -> bytes:
        with _network_errors(self.url):
            return response.read1(_CHUNK)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects within HTTP only, and note the hash that the hub gives on the way."""

    linked_sha256: str | None = None

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            _check_scheme(newurl, at_least=urlsplit(req.full_url).scheme)
        except WeightsError:
            fp.close()
            raise
        linked = headers.get("X-Linked-Etag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", linked):
            self.linked_sha256 = linked
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _persist(transfer: _Transfer, retries: int, backoff: float) -> None:
    """Attempt until the file is whole; give up after ``retries`` tries without a new byte."""
    failures, most = 0, transfer.part.size
    while True:
        try:
            return transfer.attempt()
        except _CutError as exc:
            failures = 0 if transfer.part.size > most else failures + 1
            most = max(most, transfer.part.size)
            if failures > retries:
                raise WeightsError(f"{transfer.url}: {exc} ({failures} tries)") from exc
        time.sleep(min(backoff * 2**failures, _LONGEST_PAUSE))


def _check_hashes(url: str, part: _Part, expected: tuple[str | None, ...]) -> None:
    actual = part.sha256.hexdigest()
    for digits in filter(None, expected):
        if not actual.startswith(digits):
            part.discard()
            raise WeightsError(
                f"{url}: the file's SHA-256 is {actual}, but it should begin with {digits}; "
                "what was downloaded is deleted"
            )


def _check_scheme(url: str, *, at_least: str = "http") -> None:
    """Refuse what isn't HTTP, and a redirect from https to http."""
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https") or (at_least, scheme) == ("https", "http"):
        raise WeightsError(f"{url}: only http and https are fetched, and https stays https")


def _validator(response: http.client.HTTPResponse) -> str:
    """Return what marks the file's version; a weak ETag does not promise the same bytes."""
    etag = response.headers.get("ETag", "")
    mark = response.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    return mark if mark.isascii() else ""


def _no_report(_name: str, _done: int, _total: int | None) -> None:
    """Take the place of a progress callback."""


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Map what urllib raises: worth another try, or final."""
    try:
        yield
    except urllib.error.HTTPError as exc:
        exc.close()
        raise _for_status(url, exc.code, exc.reason) from exc
    except urllib.error.URLError as exc:
        # A refused connection, an unknown host or a bad certificate won't mend within seconds.
        if isinstance(exc.reason, (TimeoutError, ConnectionResetError)):
            raise _CutError(f"{exc.reason}") from exc
        raise WeightsError(f"{url}: {exc.reason}") from exc
    except TimeoutError as exc:
        raise _CutError("the server fell silent") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise _CutError(f"{type(exc).__name__}: {exc}") from exc


def _for_status(url: str, status: int, reason: str) -> Exception:
    """Choose the error for an HTTP status that is no success."""
    if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _RangeError("the server has no such range")
    if status in _TRY_AGAIN:
        return _CutError(f"HTTP {status} {reason}")
    return WeightsError(f"{url}: HTTP {status} {reason}")


@contextmanager
def _local_errors(target: Path) -> Iterator[None]:
    """Map what the file system raises: no room, no right to write."""
    try:
        yield
    except OSError as exc:
        raise WeightsError(f"{target}: can't be written ({exc.strerror or exc})") from exc
