"""What does the policy for threads bring, on a quiet and on a busy machine?

    python benchmarks/busy.py [--loads 0,2] [--images 200] [--rows 2000]

Times the loop of a small extraction, a linear probe and ``dedup find``, each in a process of its
own: with embedkit's policy (our threads times the libraries' are at most the cores) and with the
libraries' own defaults (a thread per core each). A load of 2 starts two busy processes per core
beside it, and ends them. Beside the probe, which fits 45 values of C and then the best on all rows,
one fit by scikit-learn's LogisticRegression: the best C, the same rows, its default tolerance. All
in one run; the load that the machine had already is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from support.machine import print_facts, usable_cores
from support.tables import print_table

HERE = Path(__file__).parent
JOBS = ("extract", "probe", "dedup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", default="0,2", help="busy processes per core")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--job", nargs=3, metavar=("JOB", "POLICY", "FOLDER"))
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run_job(*args.job)))
        return
    print_facts()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.images, args.rows)
        rows = []
        for load in map(float, args.loads.split(",")):
            before = os.getloadavg()[0]
            with busy(round(load * usable_cores())):
                name = f"{load:g} x cores (+ {before:.1f})"
                rows += [[name, *measured(job, folder)] for job in (*JOBS, "scikit-learn")]
    print_table(["load", "job", "policy, s", "libraries' defaults, s", "result"], rows)


def measured(job: str, folder: str) -> list[str]:
    """The job, its seconds both ways, and what it found."""
    found = [call(job, policy, folder) for policy in ("policy", "defaults")]
    assert abs(found[0]["figure"] - found[1]["figure"]) < 0.01, found
    return [job, *(f"{one['seconds']:.2f}" for one in found), found[0]["result"]]


def call(job: str, policy: str, folder: str) -> dict[str, float | str]:
    line = [sys.executable, str(HERE / "busy.py"), "--job", job, policy, folder]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other programs, each of which would use a whole core."""
    line = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(line) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def prepare(folder: Path, images: int, rows: int) -> None:
    """Photographs to extract, and a labelled store of rows with near-duplicates to work on."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from images import write_photos
    from stores import write_store

    write_photos(folder / "photos", images)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows)
    centres = 0.2 * rng.standard_normal((10, 1280))
    noise = rng.standard_normal((rows, 1280)) * rng.uniform(0.05, 1, 1280) ** 2
    vectors = np.maximum(centres[labels] + noise, 0).astype(np.float32)
    write_store(folder / "rows.h5", vectors, labels=[f"class {one}" for one in labels])


def run_job(job: str, policy: str, folder: str) -> dict[str, float | str]:
    """Seconds of a job, after all imports, and a figure of its result."""
    if policy == "defaults":
        let_libraries_be()
    work = {"extract": extract, "probe": probe, "dedup": dedup, "scikit-learn": scikit_learn}[job]
    return work(Path(folder))


def let_libraries_be() -> None:
    from embedkit.utils import threads

    threads.library_threads = lambda _: nullcontext()
    threads.use_one_thread = lambda: None


def extract(folder: Path) -> dict[str, float | str]:
    import embedkit

    for store in ("warm.h5", "p.h5"):  # the first one fills the caches
        done = embedkit.extract(
            folder / "photos", folder / store, backbone="efficientnet_lite0", overwrite=True
        )
    rate = done.images_per_second
    return {"seconds": done.seconds, "figure": done.embedded, "result": f"{rate:.0f} images/s"}


def probe(folder: Path) -> dict[str, float | str]:
    from embedkit.probe import run_probe

    began = time.perf_counter()
    run = run_probe("linear", folder / "rows.h5", check_leaks=False).runs[0]
    seconds = time.perf_counter() - began
    top1, c = run.measures["top1"].value, run.chosen["c"]
    (folder / "c.txt").write_text(str(c))
    return {"seconds": seconds, "figure": top1, "result": f"top-1 {top1:.3f}, C {c:.3g}"}


def dedup(folder: Path) -> dict[str, float | str]:
    import embedkit

    find = embedkit.find_duplicates
    began = time.perf_counter()
    found = find(folder / "rows.h5")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "figure": len(found.pairs), "result": f"{len(found.pairs)} pairs"}


def scikit_learn(folder: Path) -> dict[str, float | str]:
    from sklearn.linear_model import LogisticRegression

    import embedkit
    from embedkit.probe.splits import split_off
    from embedkit.probe.targets import read_targets

    with embedkit.EmbeddingStore(folder / "rows.h5") as store:
        targets, vectors = read_targets(store), store.to_numpy(np.float64)
    test = split_off(targets.ids, targets.strata, 0.2, "0:test")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    c = float((folder / "c.txt").read_text())
    began = time.perf_counter()
    model = LogisticRegression(C=c, max_iter=5000).fit(vectors[~test], targets.values[~test])
    seconds = time.perf_counter() - began
    top1 = model.score(vectors[test], targets.values[test])
    return {"seconds": seconds, "figure": top1, "result": f"top-1 {top1:.3f}, one C"}


if __name__ == "__main__":
    main()
