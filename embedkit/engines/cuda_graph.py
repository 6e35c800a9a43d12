"""BatchSlots on a CUDA device: copies on streams of their own, the computation as a CUDA graph.

Source: the patterns for warm-up, capture and pinned memory are those of PyTorch's "CUDA semantics"
(docs.pytorch.org/docs/stable/notes/cuda.html).
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import torch

from embedkit.engines.batch_slots import BatchSlot

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.engines.module import SplitBatch

__all__ = ["CudaCompute", "CudaSlot"]

_WARM_UPS = 3  # cuDNN and cuBLAS take their workspaces, Triton loads its kernels
_log = logging.getLogger("embedkit")


class CudaCompute:
    """The one stream on which all slots of a device compute, and the memory of their graphs.

    Batches are computed one after the other, each with the whole device, so the graphs can share
    the memory of the maps between their layers; only copies overlap with computing.

    Args:
        device: A CUDA device.
        step: The computation.
        graph: Whether to capture it; if not, its kernels are launched one by one.

    Attributes:
        device: The device.
        graph: Whether the step is captured; False after it could not be.
    """

    def __init__(self, device: torch.device, step: SplitBatch, *, graph: bool = True) -> None:
        self.device = device
        self.graph = graph
        self._step = step
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def prepare(self, images: torch.Tensor, features: torch.Tensor) -> Callable[[], None]:
        """Run the step on a slot's memory, and capture it.

        Returns:
            What launches it on the current stream, always on the same memory.

        Raises:
            OutOfMemoryError: The step doesn't fit into the free memory.
        """

        def launch() -> None:
            self._step(images, features)

        with torch.cuda.device(self.device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    launch()
            self._stream.synchronize()
            return self._captured(launch) if self.graph else launch

    def _captured(self, launch: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: what other threads do at the same time is none of the capture's.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                launch()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as exc:
            if isinstance(exc.__context__, torch.OutOfMemoryError):  # ending the capture failed too
                raise exc.__context__ from None
            self.graph = False
            reason = str(exc).partition("\n")[0]
            _log.warning(
                "no CUDA graph for this network, launching its kernels one by one: %s", reason
            )
            return launch
        return graph.replay

    def launch(
        self, begin: Callable[[], None], after: torch.cuda.Event, done: torch.cuda.Event
    ) -> None:
        """Queue what `prepare` gave, between two events."""
        with self._lock, torch.cuda.stream(self._stream):
            self._stream.wait_event(after)
            begin()
            done.record(self._stream)


class CudaSlot(BatchSlot):
    """A slot with a stream for its copies; waiting callers don't block other threads.

    Args:
        batch: ``(B, S, S, 3)``.
        feature_dim: D.
        compute: The device's, shared by its slots.
    """

    def __init__(self, batch: tuple[int, ...], feature_dim: int, compute: CudaCompute) -> None:
        super().__init__(batch, feature_dim, compute.device)
        self._begin = compute.prepare(self.images, self.features)
        self._device_compute = compute
        self._copies = torch.cuda.Stream(compute.device)  # type: ignore[no-untyped-call]
        self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._computed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def _send(self, images: torch.Tensor) -> None:
        with torch.cuda.stream(self._copies):
            self.images.copy_(images, non_blocking=True)
            self._sent.record(self._copies)

    def _compute(self) -> None:
        self._device_compute.launch(self._begin, self._sent, self._computed)

    def _fetch(self) -> None:
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(self._computed)
            self.fetched.copy_(self.features, non_blocking=True)

    def _wait(self) -> None:
        # What was computed but not fetched, after an error, counts too.
        self._copies.wait_event(self._computed)
        self._done.record(self._copies)
        self._done.synchronize()
