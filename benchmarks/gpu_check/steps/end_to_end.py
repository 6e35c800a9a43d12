"""Extraction beside decoding alone (d) and computing alone (c), and where its threads are."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.photos import repeat, warm

from gpu_check.steps.rates import decode_rates, engine_rate, load

if TYPE_CHECKING:
    from types import FrameType

    from embedkit.backbones import Backbone
    from gpu_check.context import Context

_SAMPLE_SECONDS = 0.01


def run(context: Context) -> None:
    from embedkit.engines.torch import TorchEngine

    folder = make_images(context)
    batch = context.sizes.batches[-2]
    decode = 0.0
    for name in context.sizes.networks[:3]:
        if context.seconds_left < 15 and context.on_gpu:
            context.report(f"{name}: not measured, no time left")
            continue
        backbone = load(name)
        if not decode:
            count = max(len(context.photos), context.sizes.images // 8)
            rates = decode_rates(backbone, context.photos, count, 2 * context.sizes.seconds)
            decode = max(rates.values())
            context.report(
                f"decoding alone, d: {rates['threads']:,.0f} images/s by threads, "
                f"{rates['processes']:,.0f} by processes",
                decode=rates,
            )
        with TorchEngine(
            backbone, device=context.device, batch_size=batch, precision="bf16"
        ) as engine:
            compute = engine_rate(engine, context.sizes.seconds)
        found = extract_rate(context, folder, backbone, "bf16", "torch", batch)
        limit = min(decode, compute)
        context.report(
            f"{name} bf16: {found.rate:,.0f} images/s, computing alone, c: {compute:,.0f}, "
            f"{found.rate / limit:.2f} of min(d, c); GPU busy {found.busy}",
            **{name: {"rate": found.rate, "compute": compute, "share": found.rate / limit}},
        )
        context.report(f"  threads: {found.threads}")


def make_images(context: Context) -> Path:
    """A folder of links to the photos, over and over, read once."""
    folder = context.work / f"images-{context.sizes.images}-{len(context.photos)}"
    if not folder.exists():
        repeat(context.photos[0].parent, context.sizes.images, folder)
    warm(context.photos[0].parent)
    return folder


@dataclass(frozen=True)
class Extraction:
    """How an extraction went: images/s, the GPU's share of time busy, where threads were."""

    rate: float
    busy: str
    threads: str


def extract_rate(
    context: Context, folder: Path, backbone: Backbone, precision: str, engine: str, batch: int
) -> Extraction:
    """Extract a folder into a store that is thrown away."""
    import embedkit

    store = context.work / f"{context.name}.h5"
    with Sampler() as sampler, GpuMeter(context.on_gpu) as meter:
        result = embedkit.extract(
            folder,
            store,
            backbone=backbone,
            engine=engine,
            device=context.device,
            precision=precision,
            batch_size=batch,
            overwrite=True,
        )
    if result.embedded != context.sizes.images:
        sys.exit(f"{result.embedded} of {context.sizes.images} images were embedded")
    store.unlink()
    return Extraction(result.images_per_second, meter.busy, sampler.summary())


class Sampler:
    """Counts in which function of embedkit its worker threads are, every ten milliseconds."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def summary(self, count: int = 8) -> str:
        """The commonest places, and their shares."""
        total = sum(self._counts.values()) or 1
        most = self._counts.most_common(count)
        return ", ".join(f"{place} {100 * number / total:.0f}%" for place, number in most)

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            workers = {
                thread.ident for thread in threading.enumerate() if thread.name.startswith("embed")
            }
            for ident, frame in sys._current_frames().items():
                if ident in workers:
                    self._counts[_place(frame)] += 1


def _place(frame: FrameType | None) -> str:
    """The innermost function of embedkit on a thread's stack."""
    while frame is not None:
        path = frame.f_code.co_filename
        if "/embedkit/" in path:
            return f"{Path(path).stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "idle"


class GpuMeter:
    """The share of time that the GPU is busy, as its driver tells it, beside a block."""

    def __init__(self, on_gpu: bool) -> None:
        self.busy = "unknown"
        self._on_gpu = on_gpu
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> GpuMeter:
        if self._on_gpu:
            query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                [*query, "-lms", "100"], stdout=subprocess.PIPE, text=True
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        text = self._process.communicate()[0]
        shares = [int(line) for line in text.split() if line.isdigit()]
        running = [share for share in shares if share]  # not while it is set up
        if running:
            self.busy = f"{sum(running) / len(running):.0f}%"
