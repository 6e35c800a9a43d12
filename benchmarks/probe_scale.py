"""How long does a linear probe of many features take, how much memory, beside scikit-learn?

    python benchmarks/probe_scale.py [--rows 50000] [--dim 2048] [--classes 200] [--peer-rows 10000]

Draws features around a centre for each class, on axes of falling variance as a network's are, into
a file that is memory-mapped as a store's rows are; one label in seven is wrong. Fits one linear
probe on the first --peer-rows, kept in memory and streamed; scikit-learn's LogisticRegression fits
those too, in float32, to its default tolerance and to a tight one. Then embedkit fits all rows,
which are streamed if they take more than 2 GiB. Each fit runs in a process of its own. Prints
seconds, passes over the features (for scikit-learn its iterations), the most memory above that of
an idle process, but for mapped pages of the file, the objective, and ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from support.machine import print_facts
from support.tables import print_table


def main() -> None:
    args = parse_arguments()
    if args.child:
        print(json.dumps(fit_here(args)))
        return
    print_facts()
    print(f"{args.rows:,} x {args.dim}, {args.classes} classes, C = {args.c:g}, {args.device}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        draw(Path(folder), args.rows, args.dim, args.classes)
        names = ("embedkit", "embedkit streamed", "scikit-learn", "scikit-learn tight")
        jobs = [*((name, args.peer_rows) for name in names), ("embedkit", args.rows)]
        results = [(name, rows, child(args, folder, name, rows)) for name, rows in jobs]
    base = next(one for name, rows, one in results if (name, rows) == ("embedkit", args.peer_rows))
    table = []
    for name, rows, found in results:
        is_same = rows == args.peer_rows
        ratio = f"{found['seconds'] / base['seconds']:.2f}" if is_same else ""
        table.append([
            name, f"{rows:,}", f"{found['seconds']:.1f}", str(found["passes"]),
            f"{found['mib']:.0f}", f"{found['objective']:.6f}", f"{100 * found['accuracy']:.2f}",
            ratio,
        ])  # fmt: skip
    header = ["", "rows", "seconds", "passes", "MiB", "objective", "top-1 of training, %"]
    print_table([*header, "x embedkit's seconds"], table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--peer-rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--c", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where the features lie while it runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def draw(folder: Path, rows: int, dim: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    scale = (np.arange(dim) + 1.0) ** -0.5
    centres = rng.standard_normal((classes, dim)) * scale
    truth = rng.integers(0, classes, rows)
    wrong = rng.random(rows) < 1 / 7
    features = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float16, (rows, dim))
    for start in range(0, rows, 8192):
        some = truth[start : start + 8192]
        noise = rng.standard_normal((len(some), dim), np.float32) * scale
        features[start : start + len(some)] = np.maximum(centres[some] + 2 * noise + 0.1, 0)
    features.flush()
    np.save(folder / "y.npy", np.where(wrong, rng.integers(0, classes, rows), truth))


def child(args: argparse.Namespace, folder: str, name: str, rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, "--rows", str(rows), "--folder", folder]
    command += ["--classes", str(args.classes), "--c", str(args.c), "--device", args.device]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def fit_here(args: argparse.Namespace) -> dict[str, float]:
    """In a child: one fit, and what it took."""
    features = np.load(args.folder / "x.npy", mmap_mode="r")[: args.rows]
    truth = np.load(args.folder / "y.npy")[: args.rows]
    fit = fit_sklearn if args.child.startswith("scikit") else fit_embedkit
    return fit(features, truth, args)


def fit_embedkit(features, truth, args: argparse.Namespace) -> dict[str, float]:
    import torch

    from embedkit.probe.logistic import LogisticProblem
    from embedkit.probe.rotated_features import Features
    from embedkit.probe.rows import Rows

    memory = Memory()
    began = time.perf_counter()
    kept = 0 if args.child.endswith("streamed") else 2**31
    ready = Features(Rows(features), device=args.device, memory=kept)
    known = torch.from_numpy(truth).to(args.device)
    found = LogisticProblem(ready, known, args.classes).solve(args.c)
    weight = (found.weight @ ready.axes.T).float().cpu().numpy()
    bias = found.bias.cpu().numpy() - weight @ ready.mean.cpu().numpy()
    seconds, mib = time.perf_counter() - began, memory.most()
    return judge(features, truth, weight, bias, args.c) | {
        "seconds": seconds, "passes": found.evaluations, "mib": mib,
    }  # fmt: skip


def fit_sklearn(features, truth, args: argparse.Namespace) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    from embedkit.utils.vectors import unit_rows

    memory = Memory()
    began = time.perf_counter()
    rows = unit_rows(features)
    tolerance = 1e-7 if args.child.endswith("tight") else 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: the objective shows it
        model = LogisticRegression(C=args.c, tol=tolerance, max_iter=1000).fit(rows, truth)
    seconds, mib = time.perf_counter() - began, memory.most()
    return judge(features, truth, model.coef_, model.intercept_, args.c) | {
        "seconds": seconds, "passes": int(model.n_iter_[0]), "mib": mib,
    }  # fmt: skip


def judge(features, truth, weight, bias, c: float) -> dict[str, float]:
    """The objective, by NumPy in float64, and the top-1 on the training rows."""
    from embedkit.utils.vectors import unit_rows

    loss, hits = 0.0, 0
    for start in range(0, len(truth), 8192):
        logits = unit_rows(features[start : start + 8192]).astype(np.float64) @ weight.T + bias
        known = truth[start : start + 8192]
        most = logits.max(axis=1)
        sums = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
        loss += (sums - logits[np.arange(len(known)), known]).sum()
        hits += (logits.argmax(axis=1) == known).sum()
    penalty = 0.5 * np.square(weight, dtype=np.float64).sum() / (c * len(truth))
    return {"objective": float(loss / len(truth) + penalty), "accuracy": float(hits / len(truth))}


class Memory:
    """The most memory that this process takes beside what it had and what it maps of files."""

    def __init__(self) -> None:
        self._idle = self._most = anonymous_mib()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def most(self) -> float:
        """MiB so far; ends the watch."""
        self._ended.set()
        return self._most - self._idle

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._most = max(self._most, anonymous_mib())


def anonymous_mib() -> float:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()
