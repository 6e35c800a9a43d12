"""Decoding worker process; run as a module."""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.resize import Scaler
from embedkit.decode.time_limit import ended_after
from embedkit.extraction.load_images import load_images, outcome_to_json
from embedkit.sources import ImageReader
from embedkit.sources.shard_plan import record_from_json
from embedkit.utils.line_process import answer_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.decode.image_loader import LoadedImage


@dataclass(frozen=True, slots=True)
class _AlarmedLoader(ImageLoader):
    """Ends this process if an image takes too long."""

    def __call__(self, data: bytes, image_id: str) -> LoadedImage:
        load = ImageLoader(self.policy, self.preprocessing, self.decoder, self.scale, timeout=0)
        with ended_after(self.timeout):
            return load(data, image_id)


@contextmanager
def _decoder(settings: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
    """Decodes into the memory that the settings name."""
    shared = np.frombuffer(mmap.mmap(settings["memory"], 0), np.uint8).reshape(settings["shape"])
    policy = DecodePolicy.from_config(settings["policy"])
    preprocessing = Preprocessing.from_config(settings["preprocessing"])
    with Scaler(settings["images"]) as scale, ImageReader(max_bytes=policy.max_bytes) as reader:
        load = _AlarmedLoader(
            policy, preprocessing, settings["decoder"], scale, settings["timeout"]
        )

        def answer(message: Any) -> list[Any]:
            slot, start, encoded = message
            records = [record_from_json(one) for one in encoded]
            outcomes = load_images(reader, load, records, shared[slot, start:])
            return [outcome_to_json(one) for one in outcomes]

        yield answer


if __name__ == "__main__":
    answer_lines(_decoder)
