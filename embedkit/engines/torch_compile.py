"""Compiles the forward pass with torch.compile (inductor)."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from embedkit.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.engines.module import BackboneModule

__all__ = ["compile_step", "compiling"]

_log = logging.getLogger("embedkit")


def compile_step(
    step: BackboneModule, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Have a step compiled when it is first called, in `compiling`.

    Kernels are not chosen by timing them, so that two runs compute the same bits.
    """
    # Freezing lets oneDNN choose the fastest memory layout for the weights.
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "freezing": device.type == "cpu"
    }
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(
        step, fullgraph=True, dynamic=False, options=options
    )
    return compiled


@contextmanager
def compiling(name: str) -> Iterator[None]:
    """Around the first call.

    Args:
        name: The backbone's.

    Raises:
        BackboneError: There is no compiler here, or it can't compile this network.
    """
    began = time.monotonic()
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as exc:  # Dynamo's, inductor's, Triton's and the compiler's have no one base
        reason = " ".join(str(exc).split())[:200]
        raise BackboneError(f'{name}: can\'t be compiled ({reason}); use engine="torch"') from exc
    _log.info("compiled %s in %.0f s", name, time.monotonic() - began)
