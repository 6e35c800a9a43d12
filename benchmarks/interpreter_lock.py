"""How long does an image hold Python's interpreter lock, which bounds the threads of a process?

    python benchmarks/interpreter_lock.py --images photos/ [--count 640]

A thread that does nothing but run Python shows how long others keep the lock from it: that is the
time in which it uses no processor. Measured are decoding in threads (reading, hashing, decoding,
scaling, facts), decoding in processes (what remains in the first one), computing one batch of the
``tiny`` network, and all with the building of rows. Needs two cores without other load. The last
column is the rate at which the lock would be held all the time, whatever the cores.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from support.machine import print_facts
from support.photos import warm
from support.tables import print_table

from embedkit.backbones import load_backbone
from embedkit.decode.image_loader import ImageLoader
from embedkit.decode.policy import DecodePolicy
from embedkit.engines import open_engine
from embedkit.extraction.batch_processor import BatchProcessor
from embedkit.extraction.decode_workers import DecodeWorkers
from embedkit.extraction.load_images import load_images
from embedkit.sources import ImageReader, open_source

_BATCH = 64
_LEAST_SECONDS = 5e-6  # less can't be told from noise


class Rival:
    """A thread that runs Python whenever it has the lock.

    Attributes:
        seconds: Of processor time, once it has ended.
    """

    def __init__(self) -> None:
        self.seconds, self._ends = 0.0, False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Rival":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._thread.join()

    def _run(self) -> None:
        while not self._ends:
            pass
        self.seconds = time.thread_time()


def seconds_of(work: Callable[[], int]) -> tuple[float, float]:
    """Seconds an image that some work holds the lock, and that it takes beside the rival."""
    with Rival() as rival:
        began = time.perf_counter()
        images = work()
        seconds = time.perf_counter() - began
    return max(seconds - rival.seconds, 0) / images, seconds / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=640)
    args = parser.parse_args()
    print_facts()
    warm(args.images)
    records = list(open_source(args.images, labels="none").scan())
    records = (records * -(-args.count // len(records)))[: args.count]
    batches = [records[start : start + _BATCH] for start in range(0, len(records), _BATCH)]
    sys.setswitchinterval(1e-4)  # so that who waits for the lock gets it soon
    rows = []
    for name, work in kinds(batches):
        held, seconds = seconds_of(work)
        bound = f"{1 / held:,.0f}" if held > _LEAST_SECONDS else ""
        rows.append([name, f"{1e6 * held:.0f}", f"{1e6 * seconds:.0f}", bound])
    header = ["", "lock, us an image", "in all, us an image", "at most, images/s"]
    print_table(header, rows)


def kinds(batches: list[list]) -> Iterable[tuple[str, Callable[[], int]]]:
    backbone = load_backbone("tiny")
    load = ImageLoader(DecodePolicy(), backbone.preprocessing, "fast")
    side = backbone.preprocessing.crop
    pixels = np.zeros((_BATCH, side, side, 3), np.uint8)
    images = sum(map(len, batches))
    with ImageReader() as reader, open_engine(backbone, batch_size=_BATCH) as engine:

        def in_thread() -> int:
            for batch in batches:
                load_images(reader, load, batch, pixels, load.preprocessing.resize)
            return images

        def compute() -> int:
            for batch in batches:
                engine.embed(pixels, len(batch))
            return images

        in_thread()
        yield "decoding in a thread", in_thread
        yield "computing, in batches of 64", compute
        with DecodeWorkers(load, 1, _BATCH, 1, images=images) as decoders:

            def in_process() -> int:
                for batch in batches:
                    decoders.load(batch, pixels)
                return images

            in_process()
            yield "decoding in a process", in_process
            for name, apart in (
                ("all, decoding in a thread", None),
                ("all, in a process", decoders),
            ):
                process = BatchProcessor(reader, load, engine, "float16", False, apart)

                def whole(process: BatchProcessor = process) -> int:
                    for batch in batches:
                        process(batch)
                    return images

                yield name, whole


if __name__ == "__main__":
    main()
