"""Quantizes an OpenVINO network to int8 with NNCF post-training quantization."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from embedkit.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import openvino as ov
    from numpy.typing import NDArray

__all__ = ["quantize"]


def quantize(model: ov.Model, images: NDArray[np.uint8]) -> Any:
    """Quantizes weights and activations to int8, activations by the range that images need.

    Args:
        model: From ``(B, S, S, 3) uint8`` to features; with a fixed B.
        images: ``(n, S, S, 3) uint8`` to calibrate with, n >= 1. They decide the result.

    Returns:
        The quantized network, an ``ov.Model``.

    Raises:
        MissingExtraError: NNCF isn't installed.
    """
    nncf, size = _import_nncf(), model.input(0).shape[0]
    batches = [_filled(images[start : start + size], size) for start in range(0, len(images), size)]
    with redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


def _filled(batch: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A whole batch: the images over and over."""
    return batch[[number % len(batch) for number in range(size)]]


def _import_nncf() -> Any:
    """NNCF without its lines on stdout and its class of loggers."""
    loggers = logging.getLoggerClass()
    try:
        import nncf
    except ImportError as exc:
        raise MissingExtraError("nncf", "int8", 'precision="int8"') from exc
    finally:
        logging.setLoggerClass(loggers)
    nncf.set_log_level(logging.ERROR)
    return nncf
