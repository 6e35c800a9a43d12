"""Checks for a CUDA driver without importing PyTorch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

__all__ = ["may_have_gpu"]

_AMD_KERNEL_DRIVER = Path("/dev/kfd")
_CUDA_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def may_have_gpu() -> bool:
    """Whether there is a driver that PyTorch's CUDA could run on.

    Returns:
        False where PyTorch has none either: it loads the same library of NVIDIA's driver, or, built
        for ROCm, opens the same device. True says only that PyTorch is worth asking.
    """
    driver = _CUDA_DRIVERS.get(sys.platform)
    if driver is None:  # macOS
        return False
    if _AMD_KERNEL_DRIVER.exists():
        return True
    try:
        ctypes.CDLL(driver)
    except OSError:
        return False
    return True
