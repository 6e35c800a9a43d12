"""Download a weights file so that it is either there whole and checked, or not there."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from embedkit.errors import WeightsError
from embedkit.utils.file_cache import file_sha256
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["download_from_hub", "download_from_url"]

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_SHA256_DIGITS = 64


def download_from_hub(
    repo: str,
    filename: str,
    *,
    cache: Path,
    endpoint: str | None = None,
    timeout: float = 10.0,
) -> Path:
    """Fetch a file of a Hugging Face repository into the Hugging Face cache.

    Args:
        repo: ``OWNER/NAME``.
        filename: The file's name in the repository.
        cache: The Hugging Face cache.
        endpoint: URL of the hub, if not the public one.
        timeout: Longest wait for the file's metadata, seconds. For the file itself,
            ``HF_HUB_DOWNLOAD_TIMEOUT`` sets it.

    Returns:
        The file in the cache.

    Raises:
        WeightsError: The file can't be downloaded, or has not the SHA-256 that the hub states.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(repo, filename, endpoint=endpoint)
    try:
        sha256 = get_hf_file_metadata(url, timeout=timeout).etag or ""
        path = Path(
            hf_hub_download(
                repo,
                filename,
                cache_dir=cache,
                endpoint=endpoint,
                etag_timeout=timeout,
                tqdm_class=_progress_class(filename),
            )
        )
    except Exception as exc:  # the hub client's errors and those of its HTTP library share no base
        raise WeightsError(f"{url}: {_reason(exc)}") from exc
    # A file that isn't in large file storage has another kind of mark than a SHA-256.
    if len(sha256) == _SHA256_DIGITS and file_sha256(path) != sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(f"{url}: the file's SHA-256 should be {sha256}; the download is deleted")
    return path


def download_from_url(
    url: str,
    target: Path,
    *,
    sha8: str | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a file over HTTP, once, however many processes ask for it.

    `torch.hub.download_url_to_file` would do the same without a timeout and a progress callback.

    Args:
        url: Where the file is.
        target: The file to make; one that exists is returned as it is.
        sha8: First hex digits that the file's SHA-256 must have; None where none are published,
            and then what came is logged.
        timeout: Longest silence of the server, seconds.

    Returns:
        ``target``.

    Raises:
        WeightsError: The file can't be downloaded, or has the wrong hash.
    """
    part = target.with_name(f"{target.name}.part")
    with _download_errors(url):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists():  # another process may have brought it while this one waited
                return target
            try:
                sha256 = _receive(url, part, timeout)
                if not sha256.startswith(sha8 or ""):
                    raise WeightsError(
                        f"{url}: the file's SHA-256 is {sha256}, but it should begin with {sha8}; "
                        "the download is deleted"
                    )
                if sha8 is None:
                    _log.warning(
                        "%s: its publisher states no SHA-256 to check it by; the file has %s",
                        url,
                        sha256,
                    )
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
    return target


def _receive(url: str, part: Path, timeout: float) -> str:
    """Write what the URL gives; return its SHA-256."""
    sha256, done, total = hashlib.sha256(), 0, None
    with (
        Stage(f"downloading {part.stem}", unit="bytes") as stage,
        urllib.request.urlopen(url, timeout=timeout) as response,
        part.open("wb") as file,
    ):
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length)
        while chunk := response.read1(_CHUNK_BYTES):
            file.write(chunk)
            sha256.update(chunk)
            done += len(chunk)
            stage.update(done, total=total)
    if total is not None and done != total:
        raise WeightsError(f"{url}: the connection was cut after {done} of {total} bytes")
    return sha256.hexdigest()


def _progress_class(name: str) -> type:
    """Make the progress bar of the hub client: one that draws nothing but counts in a stage."""
    from huggingface_hub.utils import tqdm

    stage = Stage(f"downloading {name}", unit="bytes")

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            stage.update(self.n, total=None if self.total is None else int(self.total))

    return Reporting


def _reason(exc: Exception) -> str:
    """Say in one line what the hub client complains of in several."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(exc, LocalEntryNotFoundError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    if isinstance(exc, HfHubHTTPError):
        return f"HTTP {exc.response.status_code}"
    return next(iter(str(exc).splitlines()), "") or type(exc).__name__


@contextmanager
def _download_errors(url: str) -> Iterator[None]:
    """Map what urllib and the file system raise."""
    try:
        yield
    except urllib.error.HTTPError as exc:
        exc.close()
        raise WeightsError(f"{url}: HTTP {exc.code} {exc.reason}") from exc
    except urllib.error.URLError as exc:
        raise WeightsError(f"{url}: {exc.reason}") from exc
    except http.client.HTTPException as exc:
        raise WeightsError(f"{url}: {type(exc).__name__}: {exc}") from exc
    except OSError as exc:
        place = f" ({exc.filename})" if exc.filename else ""
        raise WeightsError(f"{url}: {exc.strerror or exc}{place}") from exc
