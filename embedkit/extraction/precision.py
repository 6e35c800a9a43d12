"""Opens the engine of a run in the requested precision and measures its fidelity to fp32."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from embedkit.engines import compiled_for_many, open_engine, usable_cores
from embedkit.engines.fidelity import GATE, measure_fidelity
from embedkit.engines.measured_speed import MeasuredSpeed, recall_speed, remember_speed
from embedkit.errors import BackboneError, DecodeError
from embedkit.extraction.batch_processor import in_order
from embedkit.sources import ImageReader
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from embedkit.backbones import Backbone
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import Engine, EngineChoice
    from embedkit.engines.fidelity import Fidelity
    from embedkit.extraction.config import ExtractConfig
    from embedkit.sources.shard_plan import Plan
    from embedkit.types import ImageRecord

__all__ = ["PROBE_IMAGES", "engine_differences", "open_precise", "settled"]

_T = TypeVar("_T")

PROBE_IMAGES = 128
_NEVER_WORTH = 2 * PROBE_IMAGES  # images: a trial computes as many
_ONE_OF = 20  # of the images a bf16 that was named is measured on, and on as many as judge it
_FIRST_BATCHES = 2  # of each core, that tell the speed
_log = logging.getLogger("embedkit")


def open_precise(
    backbone: Backbone,
    choice: EngineChoice,
    plan: Plan,
    load: ImageLoader,
    frozen: Mapping[str, Any] | None = None,
) -> tuple[Engine, dict[str, Any]]:
    """Opens the engine of a run, and measures the fidelity of its precision.

    A precision other than fp32 is compared with fp32 on up to 128 images of the plan. ``auto``
    tries bf16 if that is likely to save time, by the speeds on this machine, and uses it if it
    passes ``fidelity.GATE`` and is faster.

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
    if choice.precision == "fp32" or (choice.precision == "auto" and plan.count <= _NEVER_WORTH):
        engine = _open(backbone, choice, "fp32")
        return engine, engine.to_config()
    if choice.precision == "auto" and choice.name == "torch-compiled":  # it is compiled once
        engine, described = _faster(backbone, replace(choice, name="torch"), plan, load)
        engine.close()
        engine = _open(backbone, choice, "bf16" if engine.precision == "bf16" else "fp32")
        return engine, {**engine.to_config(), **_kept_fidelity(described)}
    if choice.precision == "auto":
        return _faster(backbone, choice, plan, load)
    few = choice.precision == "bf16"  # int8 is calibrated by them
    images = min(max(plan.count // _ONE_OF, GATE.images), PROBE_IMAGES) if few else PROBE_IMAGES
    return _measured(backbone, choice, choice.precision, _probe(plan, load, images))


def settled(
    choice: EngineChoice, config: ExtractConfig, images: int, begun: Mapping[str, Any] | None
) -> EngineChoice:
    """The choice for a run; what isn't named goes by its images, or is as the run began.

    Args:
        choice: Of the settings and the machine as they are now.
        config: The settings.
        images: Of each device.
        begun: The engine's description from a resumed run.
    """
    if begun is None:
        return compiled_for_many(choice, images) if config.engine == "auto" else choice
    is_torch = choice.name == "torch" and begun["name"].startswith("torch")
    return replace(
        choice,
        name=begun["name"] if config.engine == "auto" and is_torch else choice.name,
        batch_size=begun["batch_size"] if config.batch_size is None else choice.batch_size,
        precision=begun["precision"] if config.precision == "auto" else choice.precision,
    )


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


def _measured(
    backbone: Backbone,
    choice: EngineChoice,
    precision: Literal["bf16", "int8"],
    probe: NDArray[np.uint8],
) -> tuple[Engine, dict[str, Any]]:
    """Opens the engine in a precision that was named, and compares it with fp32."""
    if not len(probe):  # nothing to measure: every probe image is damaged
        engine = _open(backbone, choice, precision, probe)
        return engine, engine.to_config()
    with _open(backbone, choice, "fp32") as exact:
        reference = _embed(exact, probe)
    engine = _open(backbone, choice, precision, probe)
    fidelity = measure_fidelity(reference, _embed(engine, probe))
    passes = fidelity.reaches(GATE)
    if passes or fidelity.images < GATE.images:  # too few tell nothing
        _log.info("%s: %s", precision, fidelity)
    else:
        _log.warning("%s, as requested, fails the fidelity check of auto: %s", precision, fidelity)
    return engine, {**engine.to_config(), "fidelity": _described(precision, fidelity, passes)}


def _faster(
    backbone: Backbone, choice: EngineChoice, plan: Plan, load: ImageLoader
) -> tuple[Engine, dict[str, Any]]:
    """Opens the engine in bf16 if that saves time and passes the gate, otherwise in fp32."""
    exact, opening = _timed(lambda: _open(backbone, choice, "fp32"))
    with ExitStack() as stack:
        stack.enter_context(exact)
        reference = _reference(backbone, exact, opening, plan, load)
        if reference is None:
            stack.pop_all()
            return exact, exact.to_config()
    engine, opening = _timed(lambda: _open(backbone, choice, "bf16"))
    with ExitStack() as stack:
        stack.enter_context(engine)
        rows, seconds = _timed(lambda: _embed(engine, reference.probe))
        speed = MeasuredSpeed(reference.speed, len(rows) / seconds, opening)
        remember_speed(backbone, engine, speed)
        fidelity = measure_fidelity(reference.rows, rows)
        passes = fidelity.reaches(GATE)
        if passes and speed.bf16 > speed.fp32:
            stack.pop_all()
    if not (passes and speed.bf16 > speed.fp32):
        engine = _open(backbone, choice, "fp32")
    _log.info(
        "using %s; bf16: %s; %.3g images/s, fp32 %.3g",
        engine.precision, fidelity, speed.bf16, speed.fp32,
    )  # fmt: skip
    return engine, {**engine.to_config(), "fidelity": _described("bf16", fidelity, passes)}


class _Reference(NamedTuple):
    """The probe's images and rows in fp32, and the images per second."""

    probe: NDArray[np.uint8]
    rows: NDArray[np.float32]
    speed: float


def _reference(
    backbone: Backbone, exact: Engine, opening: float, plan: Plan, load: ImageLoader
) -> _Reference | None:
    """Embeds the probe in fp32; None if a trial of bf16 isn't likely to save time."""
    known = recall_speed(backbone, exact)
    if known is not None and not known.pays(plan.count, PROBE_IMAGES):
        return None
    probe = _probe(plan, load)
    if not len(probe):  # every image of it is damaged
        return None
    few = _FIRST_BATCHES * usable_cores() * exact.batch_size
    rows, seconds = _timed(lambda: _embed(exact, probe[:few]))
    speed = known or MeasuredSpeed.supposed(len(rows) / seconds, opening)
    if not speed.pays(plan.count, PROBE_IMAGES):
        return None
    if len(probe) > few:
        rest, more = _timed(lambda: _embed(exact, probe[few:]))
        rows, seconds = np.concatenate([rows, rest]), seconds + more
    return _Reference(probe, rows, len(probe) / seconds)


def _described(precision: str, fidelity: Fidelity, passes: bool) -> dict[str, Any]:
    return {"precision": precision, "passes_gate": passes, **fidelity.to_config()}


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


def _probe(plan: Plan, load: ImageLoader, images: int = PROBE_IMAGES) -> NDArray[np.uint8]:
    """``(n, S, S, 3)`` pixels of some images of the plan; those that fail are left out."""
    with ImageReader(max_bytes=load.policy.max_bytes) as reader:

        def pixels(record: ImageRecord) -> NDArray[np.uint8] | None:
            try:
                return None if record.problem else load(reader.read(record), record.id).pixels
            except DecodeError:  # the run itself will record the failure
                return None

        loaded = in_order(pixels, plan.sample(images), usable_cores())
        found = [image for _, image in loaded if image is not None]
    side = load.preprocessing.crop
    return np.stack(found) if found else np.empty((0, side, side, 3), np.uint8)


def _timed(make: Callable[[], _T]) -> tuple[_T, float]:
    """What it makes, and the seconds that it took."""
    start = perf_counter()
    made = make()
    return made, max(perf_counter() - start, 1e-9)


def _embed(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    size = engine.batch_size
    batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    return np.concatenate([rows for _, rows in in_order(engine.embed, batches, usable_cores())])
