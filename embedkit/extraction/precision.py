"""Opens the engine of a run in the requested precision and measures its fidelity to fp32."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.engines import open_engine, usable_cores
from embedkit.engines.fidelity import GATE, measure_fidelity
from embedkit.errors import BackboneError, DecodeError
from embedkit.extraction.batch_processor import in_order
from embedkit.sources import ImageReader
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embedkit.backbones import Backbone
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import Engine, EngineChoice
    from embedkit.engines.fidelity import Fidelity
    from embedkit.sources.shard_plan import Plan
    from embedkit.types import ImageRecord

__all__ = ["PROBE_IMAGES", "engine_differences", "open_precise"]

PROBE_IMAGES = 128
_WORTH_A_TRIAL = 20 * PROBE_IMAGES  # for less, the trial costs about what bf16 would save
_log = logging.getLogger("embedkit")


def open_precise(
    backbone: Backbone,
    choice: EngineChoice,
    plan: Plan,
    load: ImageLoader,
    frozen: Mapping[str, Any] | None = None,
) -> tuple[Engine, dict[str, Any]]:
    """Opens the engine of a run, and measures the fidelity of its precision.

    A precision other than fp32 is compared with fp32 on 128 images of the plan. ``auto`` tries
    bf16 for 2,560 images or more, and uses it if it passes ``fidelity.GATE``.

    Args:
        backbone: The backbone.
        choice: Engine, device and precision; those of the resumed run if there is one.
        plan: The plan of the run.
        load: The image loader of the run.
        frozen: The engine's description from a resumed run.

    Returns:
        The engine, and its description for the store: ``to_config`` and, where it was measured,
        ``fidelity``.

    Raises:
        BackboneError: The engine can't run it, or there is no image to quantize it by.
    """
    with Stage("preparing the network"):
        return _opened(backbone, choice, plan, load, frozen)


def _opened(
    backbone: Backbone,
    choice: EngineChoice,
    plan: Plan,
    load: ImageLoader,
    frozen: Mapping[str, Any] | None,
) -> tuple[Engine, dict[str, Any]]:
    if frozen is not None:
        probe = _probe(plan, load) if choice.precision == "int8" else None
        engine = _open(backbone, choice, choice.precision, probe)
        return engine, {**engine.to_config(), **_kept_fidelity(frozen)}
    if choice.precision == "fp32" or (choice.precision == "auto" and plan.count < _WORTH_A_TRIAL):
        engine = _open(backbone, choice, "fp32")
        return engine, engine.to_config()
    return _try(backbone, choice, _probe(plan, load))


def engine_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[object, object]]:
    """Engine settings that differ from those of a resumed run and would change its rows.

    The library version and the number of parts of a batch may differ; the latter depends on free
    memory.
    """
    return {
        f"engine.{key}": (before.get(key), now.get(key))
        for key in sorted({*before, *now} - {"version", "fidelity", "part", "others"})
        if before.get(key) != now.get(key)
    }


def _kept_fidelity(frozen: Mapping[str, Any]) -> dict[str, Any]:
    return {"fidelity": frozen["fidelity"]} if "fidelity" in frozen else {}


def _try(
    backbone: Backbone, choice: EngineChoice, probe: NDArray[np.uint8]
) -> tuple[Engine, dict[str, Any]]:
    """Opens the engine in the requested precision; for ``auto``, in bf16 if it passes."""
    precision: Literal["bf16", "int8"] = "int8" if choice.precision == "int8" else "bf16"
    if not len(probe):  # nothing to measure: every probe image is damaged
        engine = _open(backbone, choice, "fp32" if choice.precision == "auto" else precision, probe)
        return engine, engine.to_config()
    with _open(backbone, choice, "fp32") as exact:
        reference = _embed(exact, probe)
    engine = _open(backbone, choice, precision, probe)
    fidelity = measure_fidelity(reference, _embed(engine, probe))
    passes = fidelity.reaches(GATE)
    _tell(precision, fidelity, passes=passes, asked_for=choice.precision)
    if choice.precision == "auto" and not passes:
        engine.close()
        engine = _open(backbone, choice, "fp32")
    measured = {"precision": precision, "passes_gate": passes, **fidelity.to_config()}
    return engine, {**engine.to_config(), "fidelity": measured}


def _open(
    backbone: Backbone,
    choice: EngineChoice,
    precision: Literal["auto", "fp32", "bf16", "int8"],
    probe: NDArray[np.uint8] | None = None,
) -> Engine:
    if precision == "int8" and (probe is None or not len(probe)):
        raise BackboneError(
            f"{backbone.spec.name}: int8 needs images to calibrate with, and none of those that "
            'were tried can be decoded; use precision="fp32"'
        )
    return open_engine(
        backbone,
        engine=choice.name,
        device=choice.device,
        precision=precision,
        batch_size=choice.batch_size,
        calibration=probe if precision == "int8" else None,
    )


def _tell(precision: str, fidelity: Fidelity, *, passes: bool, asked_for: str) -> None:
    if asked_for == "auto":
        _log.info("%s %s: %s", "using" if passes else "using fp32, rejected", precision, fidelity)
    elif passes:
        _log.info("%s: %s", precision, fidelity)
    else:
        _log.warning(
            "%s, as requested, fails the fidelity check of auto: %s",
            precision,
            fidelity,
        )


def _probe(plan: Plan, load: ImageLoader) -> NDArray[np.uint8]:
    """``(n, S, S, 3)`` pixels of up to 128 images of the plan; those that fail are left out."""
    with ImageReader(max_bytes=load.policy.max_bytes) as reader:

        def pixels(record: ImageRecord) -> NDArray[np.uint8] | None:
            try:
                return None if record.problem else load(reader.read(record), record.id).pixels
            except DecodeError:  # the run itself will record the failure
                return None

        loaded = in_order(pixels, plan.sample(PROBE_IMAGES), usable_cores())
        found = [image for _, image in loaded if image is not None]
    side = load.preprocessing.crop
    return np.stack(found) if found else np.empty((0, side, side, 3), np.uint8)


def _embed(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    size = engine.batch_size
    batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    return np.concatenate([rows for _, rows in in_order(engine.embed, batches, usable_cores())])
