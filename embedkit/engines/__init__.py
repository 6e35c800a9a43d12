"""Engines that run a backbone (PyTorch, OpenVINO), with one base class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.engines.base import Engine, usable_cores
from embedkit.engines.select import (
    EngineChoice,
    EngineName,
    Precision,
    choose_engine,
    compiled_for_many,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedkit.backbones.backbone import Backbone

__all__ = [
    "Engine",
    "EngineChoice",
    "EngineName",
    "Precision",
    "choose_engine",
    "compiled_for_many",
    "open_engine",
    "usable_cores",
]


def open_engine(
    backbone: Backbone,
    *,
    engine: EngineName = "auto",
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int | None = None,
    calibration: NDArray[np.uint8] | None = None,
) -> Engine:
    """Opens an engine for a backbone.

    Args:
        backbone: The backbone.
        engine: ``auto``: PyTorch on CUDA, OpenVINO on the CPU, PyTorch where there is none.
            ``torch-compiled`` compiles first, for a minute or more.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda:1``; the first of several.
        precision: ``fp32``, ``bf16`` or ``int8``. ``auto`` is for ``extract``, which tries bf16 on
            the images themselves.
        batch_size: Images per batch; None: 4 on the CPU, 256 on CUDA.
        calibration: For int8: ``(n, S, S, 3) uint8`` calibration images.

    Raises:
        ValueError: No such device, or it or the engine can't do the precision.
        MissingExtraError: The engine, or what int8 needs, isn't installed.
        BackboneError: The engine can't run this backbone.
    """
    if precision == "auto":
        raise ValueError("an engine runs in fp32, bf16 or int8; auto is for extract to decide")
    chosen = choose_engine(engine, device, precision, batch_size)
    if chosen.name == "openvino":
        from embedkit.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            backbone,
            batch_size=chosen.batch_size,
            precision=chosen.precision,
            calibration=calibration,
        )
    from embedkit.engines.torch import TorchEngine

    return TorchEngine(
        backbone,
        device=chosen.device,
        batch_size=chosen.batch_size,
        precision=chosen.precision,
        compiled=chosen.name == "torch-compiled",
    )
