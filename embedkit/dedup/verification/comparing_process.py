"""Process that compares pairs of images; run as a module."""

from __future__ import annotations

import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.decode.exact import decode_image
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.time_limit import ended_after
from embedkit.dedup.verification.batch import IMAGES_KEPT, PairComparer
from embedkit.extraction.source_images import OriginalImages
from embedkit.sources.shard_plan import record_from_json
from embedkit.utils.line_process import answer_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.keypoints import Keypoints
    from embedkit.types import ImageRecord

_FEWEST_KEPT = 256  # images, by each process
_HAS_ALARM = hasattr(signal, "setitimer")  # not on Windows


@contextmanager
def _comparer(settings: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
    """Compares images as each message describes them; those of before stay known.

    An image that takes too long to decode ends the process.
    """
    seconds: float = settings["timeout"]
    known: list[tuple[dict[str, ImageRecord], dict[str, bytes]]] = [
        ({}, {}) for _ in settings["policies"]
    ]
    sources = [
        OriginalImages(records, DecodePolicy.from_config(policy), hashes)
        for (records, hashes), policy in zip(known, settings["policies"], strict=True)
    ]
    names: dict[int, tuple[int, str]] = {}

    def pixels(image: int) -> Any:
        side, name = names[image]
        source = sources[side]
        data = source.read(name)
        with ended_after(seconds) if _HAS_ALARM else nullcontext():
            decoded = decode_image(data, name, source.policy, 0 if _HAS_ALARM else seconds)
            return np.asarray(decoded.image)

    kept = max(IMAGES_KEPT // settings["processes"], _FEWEST_KEPT)
    with PairComparer(pixels, 1, images_kept=kept) as compare:

        def answer(message: Any) -> list[Any]:
            kind, images, pairs = message
            for image, (side, name, record, expected) in images:
                names[image] = side, name
                records, hashes = known[side]
                if record is not None:
                    records[name] = record_from_json(record)
                if expected is not None:
                    hashes[name] = bytes.fromhex(expected)
            found: list[Evidence | None] | list[Keypoints | None]
            if kind == "keypoints":
                found = compare.keypoints([first for first, _ in pairs])
            else:
                found = compare([(first, second) for first, second in pairs])
            return [None if one is None else one.to_json() for one in found]

        yield answer


if __name__ == "__main__":
    answer_lines(_comparer)
