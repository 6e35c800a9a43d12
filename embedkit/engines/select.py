"""Chooses engine, devices, precision and batch size before anything is loaded."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal, get_args

from embedkit.engines.cuda_driver import may_have_gpu
from embedkit.errors import MissingExtraError
from embedkit.utils.extras import require_extra

__all__ = ["EngineChoice", "EngineName", "Precision", "choose_engine", "compiled_for_many"]

EngineName = Literal["auto", "openvino", "torch", "torch-compiled"]
_Chosen = Literal["openvino", "torch", "torch-compiled"]
Precision = Literal["auto", "fp32", "bf16", "int8"]

_CPU_BATCH, _CUDA_BATCH = 4, 256
_MANY = 500_000  # images of a GPU: compiling takes ten seconds or so, and halves the computing
_COMPILERS = ("cc", "gcc", "clang")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine that this machine can run.

    Attributes:
        name: ``openvino``, ``torch`` or ``torch-compiled``.
        devices: ``cpu``, ``cuda``, ``cuda:1``, all of one kind; one process per device.
        precision: ``fp32``, ``bf16`` or ``int8``; ``auto`` where bf16 is to be tried.
        batch_size: Images per batch.
    """

    name: _Chosen
    devices: tuple[str, ...]
    precision: Precision
    batch_size: int

    @property
    def device(self) -> str:
        """The first device."""
        return self.devices[0]


def choose_engine(
    engine: EngineName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
) -> EngineChoice:
    """Chooses the engine, and rejects settings that this machine doesn't support.

    Args:
        engine: ``auto``: PyTorch on CUDA, OpenVINO on the CPU, PyTorch where there is none.
            ``torch-compiled`` compiles first, for a minute or more.
        device: ``auto`` (all GPUs if there is one), ``cpu``, ``cuda``, ``cuda:1``, or several,
            separated by commas.
        precision: ``auto`` stays ``auto`` where the device computes in bf16 natively, and is
            ``fp32`` elsewhere.
        batch_size: Images per batch; None: 4 on the CPU, 256 on CUDA.

    Raises:
        ValueError: No such device, or it or the engine can't do the precision.
        MissingExtraError: The engine, or what int8 needs, isn't installed.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r} is none of {', '.join(get_args(Precision))}")
    if engine not in get_args(EngineName):
        raise ValueError(f"engine {engine!r} is none of {', '.join(get_args(EngineName))}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch size must be at least 1, not {batch_size}")
    devices = _devices(device)
    device = devices[0]
    if batch_size is None:
        batch_size = _CPU_BATCH if device == "cpu" else _CUDA_BATCH
    name = _name(engine, device)
    if precision == "int8":
        _require_int8(name)
    if precision == "auto" and not _has_bf16(name, device):
        precision = "fp32"
    if precision == "bf16" and name == "openvino" and not _has_bf16(name, device):
        raise ValueError(
            "this CPU doesn't compute in bf16 (it needs AVX512-BF16 or AMX): use "
            'precision="fp32", or engine="torch", which emulates it slowly'
        )
    return EngineChoice(name, devices, precision, batch_size)


def compiled_for_many(choice: EngineChoice, images: int) -> EngineChoice:
    """The choice for so many images a GPU, where no engine was named: compiled if that pays.

    It goes by the number of images alone: the same run takes the same engine on any day.
    """
    if choice.device == "cpu" or images < _MANY or not _can_compile():
        return choice
    return replace(choice, name="torch-compiled")


def _can_compile() -> bool:
    """Whether there is what PyTorch needs to compile for CUDA."""
    return find_spec("triton") is not None and any(map(shutil.which, _COMPILERS))


def _devices(text: str) -> tuple[str, ...]:
    if text == "auto":
        return _best_devices()
    devices = tuple(text.split(","))
    for device in devices:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"no device {device!r}: it is auto, cpu, cuda or cuda:N")
    if len({device.split(":")[0] for device in devices}) > 1:
        raise ValueError(f"{text}: the devices of a run must be all CPUs or all GPUs")
    return devices


def _name(engine: EngineName, device: str) -> _Chosen:
    if engine == "openvino" and device != "cpu":
        raise ValueError(f"the engine openvino runs on the cpu, not on {device}")
    if engine in {"torch", "torch-compiled"}:
        return engine
    if device != "cpu":
        return "torch"
    if find_spec("openvino") is not None:
        return "openvino"
    if engine == "openvino":
        raise MissingExtraError("openvino", "openvino", "the engine openvino")
    return "torch"


def _require_int8(name: str) -> None:
    if name != "openvino":
        raise ValueError('int8 needs engine="openvino" and a CPU')
    require_extra("nncf", "int8", 'precision="int8"')


def _has_bf16(name: str, device: str) -> bool:
    """Whether the device computes in bf16 natively, and the engine makes use of it."""
    if name == "openvino":
        import openvino as ov

        return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _best_devices() -> tuple[str, ...]:
    """All GPUs; PyTorch, which takes seconds to import, is imported only if there may be one."""
    if "torch" not in sys.modules and not may_have_gpu():
        return ("cpu",)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{number}" for number in range(count)) or ("cpu",)
