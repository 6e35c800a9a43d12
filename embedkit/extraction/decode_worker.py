"""Decoding worker process; run as a module."""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg, is_whole, read_encoded
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

    from numpy.typing import NDArray

    from embedkit.decode.image_loader import LoadedImage


@dataclass(frozen=True, slots=True)
class _AlarmedLoader(ImageLoader):
    """Ends this process if an image takes too long."""

    def __call__(self, data: bytes, image_id: str) -> LoadedImage:
        load = ImageLoader(self.policy, self.preprocessing, self.decoder, self.scale, timeout=0)
        with ended_after(self.timeout):
            return load(data, image_id)

    def checked_jpeg(self, data: bytes, image_id: str) -> EncodedJpeg | None:
        """A JPEG without faults that a GPU decodes to the same pixels; None for all others."""
        jpeg = read_encoded(data, image_id, self.policy)
        if jpeg is None:
            return None
        with ended_after(self.timeout):
            return jpeg if is_whole(data) else None


@dataclass(slots=True)
class _Room:
    """Takes JPEGs for the GPU, one after the other, and decodes what isn't one or has no room.

    Attributes:
        load: Decodes.
        memory: ``(any,) uint8``, shared.
        at: The first free byte.
        end: The end of the room.
    """

    load: _AlarmedLoader
    memory: NDArray[np.uint8]
    at: int
    end: int

    def __call__(self, data: bytes, image_id: str) -> LoadedImage | EncodedJpeg:
        """As ``ImageLoader``, or where the JPEG lies now."""
        at, end = self.at, self.at + len(data)
        jpeg = self.load.checked_jpeg(data, image_id) if end <= self.end else None
        if jpeg is None:
            return self.load(data, image_id)
        self.memory[at:end] = np.frombuffer(data, np.uint8)
        self.at = end
        return jpeg._replace(offset=at)


@contextmanager
def _decoder(settings: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
    """Decodes into the memory that the settings name."""
    shared, encoded = (
        np.frombuffer(mmap.mmap(settings[name], 0), np.uint8) for name in ("memory", "encoded")
    )
    shared = shared.reshape(settings["shape"])
    room = len(encoded) // (settings["shape"][0] * settings["shape"][1])  # bytes an image
    policy = DecodePolicy.from_config(settings["policy"])
    preprocessing = Preprocessing.from_config(settings["preprocessing"])
    with Scaler(settings["images"]) as scale, ImageReader(max_bytes=policy.max_bytes) as reader:
        load = _AlarmedLoader(
            policy, preprocessing, settings["decoder"], scale, settings["timeout"]
        )

        def answer(message: Any) -> list[Any]:
            slot, start, fields, for_gpu = message
            records = [record_from_json(one) for one in fields]
            begin = (slot * shared.shape[1] + start) * room
            chosen = _Room(load, encoded, begin, begin + len(records) * room) if for_gpu else load
            outcomes = load_images(
                reader, chosen, records, shared[slot, start:], preprocessing.resize
            )
            return [outcome_to_json(one) for one in outcomes]

        yield answer


if __name__ == "__main__":
    answer_lines(_decoder)
