"""The same store, to the byte, by threads and by processes, killed and resumed."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from gpu_check.steps.end_to_end import make_images

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_check.context import Context

_EXTRACT = """
import embedkit
from gpu_check.steps.rates import load
result = embedkit.extract({folder!r}, {output!r}, backbone=load({backbone!r}), engine="torch",
                          device={device!r}, precision="bf16", batch_size={batch},
                          shard_rows={rows}, processes={processes})
print(result.resumed)
"""


def run(context: Context) -> None:
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
        backbone=context.sizes.networks[0],
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
