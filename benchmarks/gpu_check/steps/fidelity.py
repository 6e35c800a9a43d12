"""Cosines of the GPU's rows to the CPU's fp32; the same bytes in two runs, and after a kill."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from gpu_check.steps.end_to_end import make_images
from gpu_check.steps.rates import load, pixels_of

if TYPE_CHECKING:
    from pathlib import Path

    from embedkit.backbones import Backbone
    from gpu_check.context import Context

_BATCH = 32
_EXTRACT = """
import embedkit
from gpu_check.steps.rates import load
result = embedkit.extract({folder!r}, {output!r}, backbone=load("resnet18_swsl"), engine="torch",
                          device={device!r}, precision="bf16", batch_size={batch},
                          shard_rows={rows}, processes={processes})
print(result.resumed)
"""


def run(context: Context) -> None:
    for name in ("efficientnet_lite0", *context.sizes.compute[:2]):
        compare(context, name)
    kill_and_resume(context)


def compare(context: Context, name: str) -> None:
    """Cosines of a backbone's rows in both precisions."""
    import torch

    backbone = load(name)
    count = context.sizes.fidelity_images if name == "efficientnet_lite0" else _BATCH
    pixels = pixels_of(backbone, context.photos[:count])
    threads = torch.get_num_threads()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    with torch.inference_mode():
        expected = [
            backbone.module((torch.from_numpy(part).permute(0, 3, 1, 2) / 255 - mean) / std)
            for part in np.array_split(pixels, max(1, len(pixels) // _BATCH))
        ]
    exact = torch.cat(expected).numpy()
    torch.set_num_threads(threads)
    for precision in ("fp32", "bf16"):
        found = embed(context, backbone, precision, pixels)
        again = embed(context, backbone, precision, pixels)
        cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1)
        cosines /= np.linalg.norm(exact, axis=1)
        same = "the same bits again" if np.array_equal(found, again) else "OTHER BITS AGAIN"
        context.report(
            f"{name} ({backbone.weights.split(':')[0]}) {precision}, {len(pixels)} images: cosine "
            f"to the CPU's fp32 {cosines.min():.6f} at least, {np.median(cosines):.6f} median; "
            f"{same}",
            **{f"{name}.{precision}": {"least": float(cosines.min()),
                                       "median": float(np.median(cosines)), "again": same}},
        )  # fmt: skip


def embed(context: Context, backbone: Backbone, precision: str, pixels: np.ndarray) -> np.ndarray:
    """``(n, D) float32`` of pixels, by a fresh engine."""
    from embedkit.engines.torch import TorchEngine

    with TorchEngine(
        backbone, device=context.device, batch_size=_BATCH, precision=precision
    ) as engine:
        starts = range(0, len(pixels), _BATCH)
        return np.concatenate([engine.embed(pixels[at : at + _BATCH]) for at in starts])


def kill_and_resume(context: Context) -> None:
    """The same bytes whether a run is killed or not, by threads and by processes."""
    folder = make_images(context)
    whole, killed = (context.work / f"{name}.h5" for name in ("whole", "killed"))
    for path in (whole, killed):
        path.unlink(missing_ok=True)
    run_extract(context, folder, whole, processes=False)
    began = time.monotonic()
    process = start_extract(context, folder, killed, processes=True)
    partial = killed.with_name(killed.name + ".partial")
    while process.poll() is None and time.monotonic() - began < 60:
        if any(partial.glob("*.h5")):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    resumed = run_extract(context, folder, killed, processes=True)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (whole, killed)]
    same = "the same bytes" if len(set(digests)) == 1 else "OTHER BYTES"
    context.report(
        f"{context.sizes.images} images, killed when {resumed} were stored, resumed: {same}",
        killed_at=resumed,
        same_bytes=len(set(digests)) == 1,
    )
    whole.unlink()
    killed.unlink()
    if same != "the same bytes":
        sys.exit("a killed run gives other bytes")


def start_extract(
    context: Context, folder: Path, output: Path, *, processes: bool
) -> subprocess.Popen[str]:
    code = _EXTRACT.format(
        folder=str(folder),
        output=str(output),
        device=context.device,
        batch=2 * context.sizes.batches[0],
        processes=processes,
        rows=max(8, context.sizes.images // 4),
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def run_extract(context: Context, folder: Path, output: Path, *, processes: bool) -> int:
    """Images that an earlier run had done."""
    process = start_extract(context, folder, output, processes=processes)
    text = process.communicate()[0]
    if process.returncode:
        sys.exit(f"extraction: exit code {process.returncode}")
    return int(text.split()[-1])
