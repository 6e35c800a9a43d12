"""PyTorch engine: runs the backbone on a CPU or a CUDA device."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from embedkit.engines.base import Engine
from embedkit.engines.batch_slots import BatchSlot, BatchSlots, CpuSlot, open_slots
from embedkit.engines.cuda_graph import CudaCompute, CudaSlot
from embedkit.engines.module import BackboneModule, SplitBatch
from embedkit.engines.torch_compile import compile_step, compiling
from embedkit.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.backbones.backbone import Backbone

__all__ = ["TorchEngine"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_log = logging.getLogger("embedkit")
_CUDA_IN_FLIGHT = 3  # one batch on its way there, one being computed, one on its way back


class TorchEngine(Engine):
    """Runs a backbone with PyTorch: channels last, batch normalisations folded.

    On the CPU each caller computes for itself, with one thread. On CUDA it takes one of a few
    slots. All memory that the device needs for a batch is taken when the engine is opened; what
    doesn't fit is computed in halves, quarters, ….
    """

    version = torch.__version__

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str = "cpu",
        batch_size: int = 16,
        precision: str = "fp32",
        compiled: bool = False,
        in_flight: int | None = None,
        graph: bool = True,
    ) -> None:
        """Copies the backbone to the device and warms it up there.

        Args:
            backbone: The backbone.
            device: ``cpu``, ``cuda``, ``cuda:1``.
            batch_size: B.
            precision: ``fp32`` (TF32 is never used for it) or ``bf16``.
            compiled: Compile first: faster batches, but it takes minutes before the first one.
            in_flight: Batches at once; None: 3 on CUDA, and as many as callers on the CPU.
            graph: On CUDA: replay a CUDA graph; without, launch each kernel.

        Raises:
            ValueError: There is no such device or precision.
            BackboneError: It can't be compiled, or doesn't fit into the device's memory.
        """
        if precision not in _DTYPES:
            raise ValueError(f"torch runs in {' or '.join(_DTYPES)}, not in {precision}")
        super().__init__(backbone, device=device, precision=precision, batch_size=batch_size)
        self.name = "torch-compiled" if compiled else "torch"
        self.compiled = compiled
        self._device = _checked_device(device)
        on_cuda = self._device.type == "cuda"
        self.in_flight = _CUDA_IN_FLIGHT if on_cuda and not in_flight else in_flight or 0
        self._batch = (batch_size, self.input_size, self.input_size, 3)
        with ExitStack() as settings, _fitting(backbone.spec.name, device):
            settings.enter_context(_reproducible())
            step = BackboneModule(backbone, self._device, _DTYPES[precision]).eval()
            self._step = SplitBatch(
                compile_step(step, self._device) if compiled else step, batch_size
            )
            with compiling(backbone.spec.name) if compiled else nullcontext():
                self._slots = self._open_slots(graph=graph) if self.in_flight else None
                if compiled and self._slots is None:
                    self._run(self.new_buffer())
            self._settings = settings.pop_all()
        self.part = self._step.part
        if self.part < batch_size:
            _log.warning("batches of %d are computed in parts of %d", batch_size, self.part)

    def new_buffer(self) -> NDArray[np.uint8]:
        """Memory for one batch; pinned, so that CUDA copies from it asynchronously."""
        if self._device.type == "cpu":
            return super().new_buffer()
        pinned: NDArray[np.uint8] = torch.empty(
            self._batch, dtype=torch.uint8, pin_memory=True
        ).numpy()
        return pinned

    def close(self) -> None:
        """Gives PyTorch its settings back, and the device its memory."""
        self._settings.close()
        if self._slots is not None:
            self._slots.close()
        self.__dict__.pop("_step", None)
        self._give_back()

    def to_config(self) -> dict[str, Any]:
        """The engine's description for a store, including how a batch is computed."""
        return {**super().to_config(), "compiled": self.compiled, "part": self.part}

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.from_numpy(images)
        if self._slots is not None:
            return self._slots(batch)
        features = torch.empty(self.batch_size, self.feature_dim)
        with torch.inference_mode():
            self._step(batch, features)
        return features.numpy()

    def _open_slots(self, *, graph: bool) -> BatchSlots:
        slots = range(self.in_flight)

        def make() -> Sequence[BatchSlot]:
            if self._device.type == "cpu":
                return [CpuSlot(self._batch, self.feature_dim, self._step) for _ in slots]
            compute = CudaCompute(self._device, self._step, graph=graph)
            return [CudaSlot(self._batch, self.feature_dim, compute) for _ in slots]

        return open_slots(make, self._step, self._give_back)

    def _give_back(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _fitting(name: str, device: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as exc:
        reason = str(exc).partition(".")[0]
        raise BackboneError(
            f"{name}: the memory of {device} can't hold it and one image ({reason}); free some, or "
            'choose another device, such as device="cpu"'
        ) from exc


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread per caller, and on CUDA the same kernels, in full fp32, in every run."""
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)  # the callers, who also decode, are as many as the cores
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.set_num_threads(threads)


def _checked_device(device: str) -> torch.device:
    try:
        checked = torch.device(device)
        torch.empty(1, device=checked)
    except (RuntimeError, AssertionError) as exc:  # torch built without CUDA asserts
        raise ValueError(f"no device {device!r} here: {str(exc).splitlines()[0]}") from exc
    if checked.type not in {"cpu", "cuda"}:
        raise ValueError(f"the engine torch runs on cpu or cuda, not on {device}")
    return checked
