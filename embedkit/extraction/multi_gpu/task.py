"""The task of one worker process of a multi-GPU run, serialized as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embedkit.backbones.config import LoadConfig
from embedkit.decode.time_limit import IMAGE_SECONDS
from embedkit.engines import EngineChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WorkerTask"]


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What one process does.

    Attributes:
        output: The store.
        shards: Numbers of the shards to do.
        backbone: Its name.
        loading: How it is loaded.
        choice: The engine, on one device.
        cores: The CPU cores to use; empty for all.
        workers: Threads; None goes by the cores.
        processes: Whether processes decode; None where that pays.
        max_read_errors: As ``RunConfig``'s.
        image_timeout: As ``RunConfig``'s.
        url: Where finished shards are uploaded to; empty if ``output`` is the store.
    """

    output: Path
    shards: tuple[int, ...]
    backbone: str
    loading: LoadConfig
    choice: EngineChoice
    cores: tuple[int, ...]
    workers: int | None
    processes: bool | None = None
    max_read_errors: int = 32
    image_timeout: float = IMAGE_SECONDS
    url: str = ""

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold; ``from_config`` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {"output": str(self.output), "choice": asdict(self.choice)}
        return {**values, **plain, "loading": self.loading.to_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """What ``to_config`` gave."""
        choice = {**config["choice"], "devices": tuple(config["choice"]["devices"])}
        return cls(
            Path(config["output"]),
            tuple(config["shards"]),
            config["backbone"],
            LoadConfig.from_config(config["loading"]),
            EngineChoice(**choice),
            tuple(config["cores"]),
            config["workers"],
            config["processes"],
            config["max_read_errors"],
            config["image_timeout"],
            config["url"],
        )
