"""OpenVINO engine: runs the backbone on the CPU, one single-threaded stream per core."""

from __future__ import annotations

import hashlib
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from embedkit.backbones.metadata_cache import maker
from embedkit.backbones.registry import cache_folder
from embedkit.engines.base import Engine, usable_cores
from embedkit.engines.int8 import quantize
from embedkit.engines.openvino_cache import cached_model
from embedkit.errors import BackboneError
from embedkit.utils.file_cache import hash_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.backbones.backbone import Backbone

__all__ = ["OpenVinoEngine"]


class OpenVinoEngine(Engine):
    """Runs a backbone with OpenVINO in fp32, bf16 or int8.

    There are as many single-threaded streams as cores. As many calling threads keep all cores busy,
    and results don't depend on the number of threads.
    """

    name = "openvino"
    version = ov.__version__

    def __init__(
        self,
        backbone: Backbone,
        *,
        batch_size: int = 4,
        precision: str = "fp32",
        calibration: NDArray[np.uint8] | None = None,
    ) -> None:
        """Converts the backbone, or takes it from the cache, and compiles it.

        Args:
            backbone: What to run.
            batch_size: Images per batch.
            precision: ``fp32``, ``bf16`` (on a CPU that has it) or ``int8``.
            calibration: For int8: ``(n, S, S, 3) uint8`` calibration images.

        Raises:
            BackboneError: OpenVINO can't run it.
            MissingExtraError: int8, and NNCF isn't installed.
            ValueError: int8 without images.
        """
        super().__init__(backbone, device="cpu", precision=precision, batch_size=batch_size)
        cores = usable_cores()
        self._calibration = _digest(precision, calibration)
        self._compiled = ov.Core().compile_model(
            _network(backbone, batch_size, calibration if precision == "int8" else None),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "NUM_STREAMS": cores,
                "INFERENCE_NUM_THREADS": cores,
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._requests = threading.local()
        _fill_tables(self._compiled.create_infer_request())

    def to_config(self) -> dict[str, Any]:
        """The engine's description for a store; for int8 with a hash of the calibration images."""
        config = super().to_config()
        return config if self._calibration is None else {**config, "calibration": self._calibration}

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer([images], share_inputs=True)
        return np.array(request.get_output_tensor(0).data)  # the next call reuses the tensor


def _fill_tables(request: Any) -> None:
    """Has OpenVINO fill its tables of types in one thread.

    Each is filled when it is first used, under a lock and with Python's global lock let go in
    between; two threads that use one for the first time can wait for each other for ever.
    """
    for tensor in (request.get_input_tensor(0), request.get_output_tensor(0)):
        values = np.zeros(tensor.shape, tensor.element_type.to_dtype())
        ov.Tensor(values, shared_memory=True).data.dtype  # noqa: B018


def _digest(precision: str, calibration: NDArray[np.uint8] | None) -> str | None:
    if precision != "int8":
        return None
    if calibration is None or not len(calibration):
        raise ValueError("int8 needs images to calibrate with")
    return hashlib.sha256(np.ascontiguousarray(calibration).data).hexdigest()


def _network(backbone: Backbone, batch_size: int, calibration: NDArray[np.uint8] | None) -> Any:
    """The converted network, quantized by the images if there are any; both are kept."""
    folder, settings = cache_folder() / "engines", _settings(backbone, batch_size)

    def convert() -> Any:
        return cached_model(folder, settings, lambda: _convert(backbone, batch_size))

    if calibration is None:
        return convert()
    quantized = {
        **settings,
        "calibration": _digest("int8", calibration),
        "nncf": version("nncf"),
    }
    return cached_model(folder, quantized, lambda: quantize(convert(), calibration))


def _settings(backbone: Backbone, batch_size: int) -> dict[str, Any]:
    """All settings that determine the converted network, including a hash of the code."""
    mine = Path(__file__)
    return {
        **backbone.to_config(),
        **maker(),
        "batch_size": batch_size,
        "conversion": hash_code([mine, mine.with_name("int8.py")]),
        "openvino": ov.__version__,
    }


def _convert(backbone: Backbone, batch_size: int) -> Any:
    """The network with its normalisation, from uint8 NHWC to float32 features."""
    import torch  # only here: a network that was converted before needs none

    size = backbone.preprocessing.crop
    example = torch.zeros(batch_size, 3, size, size)
    try:
        with torch.inference_mode():
            model = ov.convert_model(torch.export.export(backbone.module, (example,)))
    except Exception as exc:  # the exporter's and the converter's errors have no common base
        reason = " ".join(str(exc).split())[:200]
        raise BackboneError(
            f'{backbone.spec.name}: OpenVINO can\'t run it ({reason}); use engine="torch"'
        ) from exc
    model.reshape([batch_size, 3, size, size])
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    mean, std = (np.array(v) for v in (backbone.preprocessing.mean, backbone.preprocessing.std))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(list(255 * mean)).scale(
        list(255 * std)
    )
    return steps.build()
