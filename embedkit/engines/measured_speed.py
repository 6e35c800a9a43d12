"""How fast this machine computes a backbone in fp32 and in bf16, kept from earlier runs.

It decides only whether a trial of bf16 is worth its time. A folder that can't be written, or a
damaged file, costs only time.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.backbones.registry import cache_folder
from embedkit.engines.base import usable_cores
from embedkit.utils.file_cache import CachedFiles

if TYPE_CHECKING:
    from embedkit.backbones.backbone import Backbone
    from embedkit.engines.base import Engine

__all__ = ["MeasuredSpeed", "recall_speed", "remember_speed"]

_SUPPOSED = 3.0  # times fp32, until bf16 is measured: less than AMX or an H100 give
_FILE = "speed"


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """Speeds of one backbone on one machine.

    Attributes:
        fp32: Images per second.
        bf16: Images per second.
        opening: Seconds until an engine is open.
    """

    fp32: float
    bf16: float
    opening: float

    @classmethod
    def supposed(cls, fp32: float, opening: float) -> MeasuredSpeed:
        """Before bf16 is measured."""
        return cls(fp32, _SUPPOSED * fp32, opening)

    def pays(self, images: int, probe: int) -> bool:
        """Whether bf16, after a trial on ``probe`` images in both, ends earlier than fp32."""
        saved = images / self.fp32 - images / self.bf16
        return saved > probe / self.fp32 + probe / self.bf16 + self.opening


def recall_speed(backbone: Backbone, engine: Engine) -> MeasuredSpeed | None:
    """What was measured before of this backbone in this engine, on this machine."""
    stem = _files(backbone, engine).find()
    if stem is None:
        return None
    try:
        kept = json.loads(stem.with_suffix(f".{_FILE}").read_text())
        return MeasuredSpeed(**{key: float(value) for key, value in kept.items()})
    except (OSError, ValueError, TypeError):  # measured again
        return None


def remember_speed(backbone: Backbone, engine: Engine, speed: MeasuredSpeed) -> None:
    """Keeps what was measured."""
    text = json.dumps(asdict(speed))
    _files(backbone, engine).keep(lambda stem: _write(stem, text))


def _write(stem: Path, text: str) -> None:
    stem.with_suffix(f".{_FILE}").write_text(text)


def _files(backbone: Backbone, engine: Engine) -> CachedFiles:
    settings: dict[str, Any] = {
        **backbone.to_config(),
        "engine": [engine.name, engine.version, engine.batch_size],
        "machine": [_processor(engine.device), usable_cores()],
    }
    return CachedFiles.of(cache_folder() / "speeds", settings, _FILE)


@cache
def _processor(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
