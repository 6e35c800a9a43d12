"""How a backbone runs: one engine a file, one base class."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from embedkit.engines.base import Engine, usable_cores
from embedkit.engines.driver import may_have_gpu
from embedkit.errors import MissingExtraError

if TYPE_CHECKING:
    from embedkit.backbones.network import Backbone

__all__ = ["Engine", "open_engine", "usable_cores"]

_CPU_BATCH, _CUDA_BATCH = 16, 256


def open_engine(
    backbone: Backbone,
    *,
    engine: Literal["auto", "openvino", "torch"] = "auto",
    device: str = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Makes a backbone ready to run.

    Args:
        backbone: What to run.
        engine: ``auto``: PyTorch on CUDA, OpenVINO on the CPU, PyTorch where there is none.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images a batch; None: 16 on the CPU, 256 on CUDA.

    Raises:
        ValueError: No such device, or OpenVINO was asked for another device than the CPU.
        MissingExtraError: OpenVINO was asked for and isn't installed.
    """
    if device == "auto":
        device = _best_device()
    if engine == "openvino" and device != "cpu":
        raise ValueError(f"the engine openvino runs on the cpu, not on {device}")
    if batch_size is None:
        batch_size = _CPU_BATCH if device == "cpu" else _CUDA_BATCH
    if device == "cpu" and engine != "torch":
        try:
            from embedkit.engines.openvino import OpenVinoEngine
        except ImportError as exc:
            if engine == "openvino":
                raise MissingExtraError("openvino", "openvino", "the engine openvino") from exc
        else:
            return OpenVinoEngine(backbone, batch_size=batch_size)
    from embedkit.engines.torch import TorchEngine

    return TorchEngine(backbone, device=device, batch_size=batch_size)


def _best_device() -> str:
    """CUDA if there is one; PyTorch, which takes seconds to import, is asked only if in doubt."""
    if "torch" not in sys.modules and not may_have_gpu():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
