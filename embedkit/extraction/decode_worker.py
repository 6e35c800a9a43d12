"""Decoding worker process; run as a module, reads its settings and images from stdin."""

from __future__ import annotations

import json
import mmap
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.decode.preprocessing import Preprocessing
from embedkit.decode.resize import Scaler
from embedkit.extraction.load_images import load_images, outcome_to_json
from embedkit.sources import ImageReader
from embedkit.sources.shard_plan import record_from_json

if TYPE_CHECKING:
    from embedkit.decode.image_loader import LoadedImage

__all__ = ["main"]

_MANY_IMAGES = 1_000_000  # enough for importing PyTorch at once


@dataclass(frozen=True, slots=True)
class _AlarmedLoader(ImageLoader):
    """Ends this process if an image takes too long: no codec can keep it from that."""

    def __call__(self, data: bytes, image_id: str) -> LoadedImage:
        load = ImageLoader(self.policy, self.preprocessing, self.decoder, self.scale, timeout=0)
        signal.setitimer(signal.ITIMER_REAL, self.timeout)
        try:
            return load(data, image_id)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Answers each line of work with a line of outcomes; ends when its parent does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent ends it, by closing stdin
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keeps other output out of the answer stream
    config = json.loads(commands.readline())
    shared = np.frombuffer(mmap.mmap(config["memory"], 0), np.uint8).reshape(config["shape"])
    policy = DecodePolicy.from_config(config["policy"])
    preprocessing = Preprocessing.from_config(config["preprocessing"])
    with Scaler(_MANY_IMAGES) as scale, ImageReader(max_bytes=policy.max_bytes) as reader:
        load = _AlarmedLoader(policy, preprocessing, config["decoder"], scale, config["timeout"])
        answers.write("ready\n")
        answers.flush()
        for line in commands:
            slot, start, encoded = json.loads(line)
            records = [record_from_json(one) for one in encoded]
            outcomes = load_images(reader, load, records, shared[slot, start:])
            answers.write(json.dumps([outcome_to_json(one) for one in outcomes]) + "\n")
            answers.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the parent has ended, or needs this process no more
        os._exit(1)
