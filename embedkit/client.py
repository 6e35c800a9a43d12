"""Asks a running search service (``embedkit serve``) from Python; needs no other library."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from embedkit.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Client", "RemoteCopy", "RemoteImage", "RemoteNeighbor"]

_BUSY = (429, 503)
_ATTEMPTS = 4
_LONGEST_WAIT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of a service.

    Attributes:
        id: Its opaque id there.
        name: Its file's name, or its whole id if the service shows paths.
        width: Pixels.
        height: Pixels.
        label: Its label; None if it has none.
    """

    id: str
    name: str
    width: int
    height: int
    label: str | None


@dataclass(frozen=True, slots=True)
class RemoteNeighbor:
    """An image that a search found.

    Attributes:
        image: The image.
        score: Higher is closer.
    """

    image: RemoteImage
    score: float


@dataclass(frozen=True, slots=True)
class RemoteCopy:
    """A known image that a new one is a copy of.

    Attributes:
        image: The known image.
        score: The calibrated probability that the two are copies, 0 to 1.
        cosine: Of the embeddings.
        edit: How the one was made from the other, where that is known.
        is_copy: Whether the bytes are equal or the comparison of pixels confirms it.
    """

    image: RemoteImage
    score: float
    cosine: float
    edit: str | None
    is_copy: bool


class Client:
    """Searches a running service.

    A service that is busy is asked again, up to four times.

    Args:
        url: Its address, such as ``http://127.0.0.1:8000``.
        token: Its token, if it needs one.
        index: The index to ask; None is its first one.
        timeout: Seconds to wait for an answer.

    Raises:
        ValueError: ``url`` isn't the address of a web server.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        index: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ValueError(f"{url!r}: write an address such as http://127.0.0.1:8000")
        self._url, self._index, self._timeout = url.rstrip("/"), index, timeout
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def search(
        self,
        query: str | os.PathLike[str] | bytes | NDArray[np.floating] | RemoteImage,
        k: int = 10,
        *,
        threshold: float | None = None,
        exclude_self: bool = False,
        filters: Sequence[str] = (),
        offset: int = 0,
    ) -> tuple[RemoteNeighbor, ...]:
        """Finds the nearest images of a query.

        Args:
            query: An image (a path or encoded bytes), an embedding ``(D,)``, or an image of the
                service.
            k: Neighbours.
            threshold: Minimum score; None keeps all.
            exclude_self: Leave out the query's own image and images of the same bytes.
            filters: Conditions on the neighbours, such as ``label=cat``.
            offset: Neighbours to leave out at the beginning.

        Raises:
            ServiceError: The service can't be reached, or refuses.
            OSError: The image can't be read.
        """
        options = {
            "k": k,
            "offset": offset,
            "min_score": threshold,
            "exclude_self": str(exclude_self).lower(),
            "filter": list(filters),
        }
        if isinstance(query, RemoteImage):
            found = self._json("/v1/search", options, {"id": query.id})
        elif isinstance(query, np.ndarray):
            vector = np.asarray(query, np.float64).ravel().tolist()
            found = self._json("/v1/search", options, {"vectors": [vector]})
        else:
            found = self._upload("/v1/search", options, query)
        return tuple(RemoteNeighbor(_image(one["item"]), one["score"]) for one in found["results"])

    def embed(self, images: Iterable[str | os.PathLike[str] | bytes]) -> NDArray[np.float32]:
        """Embeds images as those of the index, ``(N, D)`` float32.

        Args:
            images: Paths or encoded bytes, one request each.

        Raises:
            ServiceError: The service can't be reached, or refuses.
            OSError: An image can't be read.
        """
        given = [images] if isinstance(images, str | bytes | os.PathLike) else images
        rows = [self._upload("/v1/embed", {}, one)["embeddings"][0] for one in given]
        return np.array(rows, np.float32) if rows else np.empty((0, 0), np.float32)

    def check_duplicates(self, image: str | os.PathLike[str] | bytes) -> tuple[RemoteCopy, ...]:
        """Finds the known images that an image is a copy of, the best first.

        Args:
            image: A path or encoded bytes.

        Raises:
            ServiceError: The service can't be reached, or refuses.
            OSError: The image can't be read.
        """
        found = self._upload("/v1/duplicates/check", {}, image)["matches"]
        return tuple(
            RemoteCopy(_image(one["item"]), one["score"], one["cosine"], one["edit"], one["copy"])
            for one in found
        )

    def items(
        self,
        filters: Sequence[str] = (),
        *,
        sort: str = "",
        descending: bool = False,
        offset: int = 0,
        limit: int = 100,
    ) -> tuple[RemoteImage, ...]:
        """Lists images.

        Args:
            filters: Conditions, such as ``label=cat``.
            sort: The column to sort by; empty is the index's order.
            descending: Whether the greatest come first.
            offset: Images to leave out at the beginning.
            limit: Images, at most.

        Raises:
            ServiceError: The service can't be reached, or refuses.
        """
        options = {
            "filter": list(filters),
            "sort": sort,
            "order": "desc" if descending else "asc",
            "offset": offset,
            "limit": limit,
        }
        found = self._ask("/v1/items", options, None, {})
        return tuple(map(_image, found["items"]))

    def _json(self, path: str, options: Mapping[str, Any], body: Any) -> Any:
        return self._ask(
            path, options, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )

    def _upload(
        self, path: str, options: Mapping[str, Any], image: str | os.PathLike[str] | bytes
    ) -> Any:
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        return self._ask(path, options, data, {"Content-Type": "application/octet-stream"})

    def _ask(
        self, path: str, options: Mapping[str, Any], data: bytes | None, headers: dict[str, str]
    ) -> Any:
        given = {"index": self._index, **options}
        query = urlencode(
            {name: value for name, value in given.items() if value is not None}, doseq=True
        )
        request = urllib.request.Request(  # the scheme was checked
            f"{self._url}{path}?{query}", data, {**self._headers, **headers}
        )
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as response:
                    return json.load(response)
            except urllib.error.HTTPError as exc:
                with exc:
                    if exc.code not in _BUSY or attempt == _ATTEMPTS:
                        raise ServiceError(f"{self._url}: {_reason(exc)}", exc.code) from exc
                    wait = _seconds(exc.headers.get("Retry-After", ""))
            except (OSError, ValueError) as exc:
                reason = getattr(exc, "reason", exc)
                raise ServiceError(f"{self._url}: can't be asked: {reason}") from exc
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def _image(item: Mapping[str, Any]) -> RemoteImage:
    names = ("id", "name", "width", "height", "label")
    return RemoteImage(**{name: item[name] for name in names})


def _reason(exc: urllib.error.HTTPError) -> str:
    """What the service says, or the status if it isn't ours that answers."""
    try:
        return str(json.load(exc)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"status {exc.code}"


def _seconds(text: str) -> float:
    return min(float(text), _LONGEST_WAIT) if text.isdigit() else 1.0
