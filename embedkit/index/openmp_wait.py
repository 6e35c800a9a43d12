"""Loads faiss so that its idle threads sleep.

At the end of every parallel region OpenMP's threads spin until the last has come. Training a
product quantizer is thousands of regions of some microseconds; where another process has one of the
cores, each lasts a time slice, and training takes five times as long. How threads wait is read from
the environment once, when the library is loaded; then it is set back, for what is loaded later.
"""

from __future__ import annotations

import os

__all__ = ["load_faiss"]

_KEY = "OMP_WAIT_POLICY"


def load_faiss() -> None:
    """Loads faiss, if it isn't loaded; its threads sleep unless the environment says otherwise."""
    given = os.environ.get(_KEY)
    os.environ[_KEY] = given or "PASSIVE"
    try:
        import faiss  # noqa: F401
    finally:
        if given is None:
            del os.environ[_KEY]


load_faiss()
