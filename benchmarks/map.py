"""What does a map of all images of a store cost?

    python benchmarks/map.py --rows 1000000 --dim 64

Makes a store of clustered rows and draws it by `embedkit plot`, as a page and as a PNG, by each
method that is installed, each in a process of its own. Prints time, peak memory and the size of the
file. The projection is learned on `--sample` rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from support.machine import print_facts
from support.vectors import write_store

from embedkit import plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="folder for the pages and pictures")
    parser.add_argument("--draw", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.draw:
        print(json.dumps(drawn(*args.draw, args.sample)))
        return
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "rows.h5", args.rows, args.dim)
        where = args.keep or Path(folder)
        print(f"\n{args.rows:,} x {args.dim}, learned on {args.sample:,}")
        print(f"{'':12}{'seconds':>9}{'peak MiB':>10}{'file MB':>9}")
        for method in ("pca", "umap") if find_spec("umap") else ("pca",):
            for kind in ("html", "png"):
                output = where / f"{method}.{kind}"
                command = [sys.executable, __file__, "--draw", str(store), str(output), method]
                ended = subprocess.run(
                    [*command, "--sample", str(args.sample)], stdout=subprocess.PIPE, check=True
                )
                one = json.loads(ended.stdout)
                print(f"{method} {kind:7}{one['seconds']:>9.1f}{one['peak_mib']:>10,.0f}", end="")
                print(f"{output.stat().st_size / 1e6:>9.1f}")


def drawn(store: str, output: str, method: str, sample: int) -> dict[str, float]:
    begun = time.perf_counter()
    plot(store, output, method=method, sample=sample, pictures=0, overwrite=True)
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text()  # ru_maxrss keeps the parent's peak
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return {"seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    main()
