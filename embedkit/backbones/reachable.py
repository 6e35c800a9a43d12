"""Tells within a second whether a host on the network can be reached."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

__all__ = ["why_unreachable"]

_log = logging.getLogger(__name__)
_SECONDS = 0.8


def why_unreachable(url: str, seconds: float = _SECONDS) -> str | None:
    """Tries to connect to the host of a URL.

    Args:
        url: An ``http`` or ``https`` URL. Behind a proxy, nothing is tried.
        seconds: Longest wait. A host that is silent so long may still answer: that is logged.

    Returns:
        Why the host can't be reached; None where it can, or where that isn't known yet.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.scheme in urllib.request.getproxies():
        return None
    reasons: list[str | None] = []
    address = (parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme])
    # In a thread of its own: looking up a name has no time-out.
    attempt = threading.Thread(target=_connect, args=(address, seconds, reasons), daemon=True)
    attempt.start()
    attempt.join(seconds)
    if not reasons:
        _log.warning(
            "%s doesn't answer yet; without a network, set EMBEDKIT_OFFLINE=1 and use "
            "efficientnet_lite0 or a weights file",
            parts.hostname,
        )
        return None
    return reasons[0]


def _connect(address: tuple[str, int], seconds: float, reasons: list[str | None]) -> None:
    """Puts the reason into the list, or None where there is a connection."""
    try:
        socket.create_connection(address, timeout=2 * seconds).close()
    except OSError as exc:
        reasons.append(f"{address[0]}: {exc.strerror or exc}")
    else:
        reasons.append(None)
