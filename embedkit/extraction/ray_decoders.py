"""Reads and decodes on cores of a Ray cluster that are kept apart from the workers that embed.

So machines without a GPU feed those that have one, and each kind grows alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.resize import Scaler
from embedkit.distributed.helpers import Helpers
from embedkit.distributed.worker import enter_shared
from embedkit.extraction.decode_workers import AT_ENGINE, DecodeWorkers
from embedkit.extraction.job import loader_of
from embedkit.extraction.load_images import outcome_from_json, outcome_to_json
from embedkit.sources.shard_plan import record_from_json, record_to_json
from embedkit.store.format import StoreMeta

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.extraction.load_images import Outcome
    from embedkit.types import ImageRecord

__all__ = ["RayDecoder", "RayDecoders"]

_CHUNK = 32  # images per call
_CALLS_AHEAD = 2  # per decoder: one that it does, and one that waits there


class RayDecoder:
    """The work of one decoder: one core, and a process of its own that an image may end.

    Args:
        settings: ``folder``, the driver's current folder; ``needed``, what this machine must see;
            ``meta``, from ``StoreMeta.to_config``; ``timeout``, seconds for an image; ``images``,
            how many it will about decode.

    Raises:
        WorkerError: This machine doesn't see the driver's folders, or can't start a process.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        enter_shared(Path(settings["folder"]), *map(Path, settings["needed"]))
        meta = StoreMeta.from_config(settings["meta"])
        load = loader_of(meta, Scaler(), settings["timeout"])
        side = load.preprocessing.crop
        self._shape = side, side, 3
        self._process = DecodeWorkers(load, 1, _CHUNK, 1, images=settings["images"])

    def do(self, task: dict[str, Any], _: threading.Event) -> tuple[NDArray[np.uint8], list[Any]]:
        """Loads the images of ``records``.

        Returns:
            ``(n, S, S, 3) uint8`` pixels, and each one's outcome as `outcome_to_json` gives it.
        """
        records = [record_from_json(one) for one in task["records"]]
        pixels = np.zeros((len(records), *self._shape), np.uint8)
        outcomes = self._process.load(records, pixels)
        return pixels, [outcome_to_json(one) for one in outcomes]


class RayDecoders:
    """What a worker asks for decoded images; several threads may do so at the same time.

    Args:
        actors: The decoders, which other workers ask, too.
        workers: How many workers there are.
        batch_size: Images per batch, at most.

    Attributes:
        callers: Threads that keep this worker's share of the decoders busy.
    """

    def __init__(self, actors: Sequence[Any], workers: int, batch_size: int) -> None:
        self._helpers = Helpers(actors, "decode")
        calls = -(-batch_size // _CHUNK)  # of a batch
        self.callers = max(-(-_CALLS_AHEAD * len(actors) // (workers * calls)), 2) + AT_ENGINE

    def load(self, records: Sequence[ImageRecord], pixels: NDArray[np.uint8]) -> list[Outcome]:
        """As `load_images`.

        Raises:
            WorkerError: A decoder can't do its work, or died of it again and again.
            concurrent.futures.CancelledError: The work of the calling thread was cancelled.
        """
        chunks = [records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)]
        asked = [
            self._helpers.ask({"records": [record_to_json(record) for record in chunk]})
            for chunk in chunks
        ]
        outcomes: list[Outcome] = []
        for chunk, one in zip(chunks, asked, strict=True):
            found, encoded = self._helpers.answer(one)
            pixels[len(outcomes) : len(outcomes) + len(chunk)] = found
            outcomes += [
                outcome_from_json(record.id, values)
                for record, values in zip(chunk, encoded, strict=True)
            ]
        return outcomes
