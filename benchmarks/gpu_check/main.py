"""Runs the steps, each in a process of its own under a time limit, and gathers their figures."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_check.context import REHEARSAL, Context, Sizes, write_json
from gpu_check.pack import pack, unpack

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".gpu_check"
STEPS = {
    "tests": "the tests marked gpu",
    "compute": "engines alone: fp32 and bf16, eager graphs, the best batch",
    "end_to_end": "extraction beside decoding alone and computing alone; where it waits",
    "fidelity": "cosines to the CPU's fp32; the same bits again",
    "kill": "the same store after a kill",
    "memory": "batches cut in parts where memory is short",
    "gpu_jpeg": "decoding by the GPU's JPEG engines: rate, and the processor's bits",
    "join": "the exact join beside the CPU's",
    "probe": "a linear probe beside the CPU's",
    "compiled": "compiled engines: rate, seconds of compiling, end to end",
    "faiss": "k-means, building and searching of 10 million rows",
}


def main() -> int:
    """Run what the command line asks for; 0 if every step did all that it should."""
    args = parse_arguments()
    if args.pack:
        pack(args.pack)
        return 0
    if args.unpack:
        unpack(args.unpack, HOME)
        return 0
    if args.step:
        run_step(args)
        return 0
    unknown = sorted(set(args.steps) - set(STEPS))
    if unknown:
        sys.exit(f"no step {', '.join(unknown)}: they are {', '.join(STEPS)}")
    args.output.mkdir(parents=True, exist_ok=True)
    results = [run_child(name, args) for name in args.steps or STEPS]
    print(summary(args.output))
    return 0 if all(results) else 1


def parse_arguments() -> argparse.Namespace:
    steps = "\n".join(f"  {name:11} {what}" for name, what in STEPS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check",
        description="Measures everything that runs on a CUDA device.\n\nsteps:\n" + steps,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="steps to run (default: all)")
    parser.add_argument("--rehearse", action="store_true", help="run on the CPU, tiny sizes")
    parser.add_argument("--images", type=Path, help="folder of photos (default: drawn ones)")
    parser.add_argument(
        "--output", type=Path, default=HOME / "results", help="folder of results [%(default)s]"
    )
    parser.add_argument("--again", action="store_true", help="repeat steps that are done")
    parser.add_argument("--limit", type=float, default=115, help="seconds per step [%(default)s]")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="download wheels, in parts")
    parser.add_argument(
        "--unpack", type=Path, nargs="+", metavar="PART", help="install parts, without a network"
    )
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(name: str, args: argparse.Namespace) -> bool:
    """Run one step, unless its results are there; whether it is complete."""
    state = args.output / f"{name}.state.json"
    settings = {"rehearse": args.rehearse, "images": str(args.images or "")}
    before = read_json(state)
    if before.get("complete") and before["settings"] == settings and not args.again:
        print(f"{name}: done before", flush=True)
        return True
    for old in (f"{name}.json", f"{name}.txt"):
        (args.output / old).unlink(missing_ok=True)
    print(f"{name}: {STEPS[name]}", flush=True)
    began = time.monotonic()
    problem = _wait_for(_command(name, args), args.limit)
    seconds = round(time.monotonic() - began, 1)
    write_json(
        state,
        {"complete": not problem, "settings": settings, "seconds": seconds, "problem": problem},
    )
    print(f"  {problem or 'done'} ({seconds} s)", flush=True)
    return not problem


def _command(name: str, args: argparse.Namespace) -> list[str]:
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check"), "--step", name]
    command += ["--output", str(args.output), "--limit", str(args.limit)]
    command += ["--rehearse"] if args.rehearse else []
    return command + (["--images", str(args.images)] if args.images else [])


def _wait_for(command: list[str], limit: float) -> str:
    """Run a command; what went wrong, or nothing."""
    try:
        done = subprocess.run(command, timeout=limit + 20, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit + 20:.0f} s"
    return f"failed: exit code {done.returncode}" if done.returncode else ""


def run_step(args: argparse.Namespace) -> None:
    """In a child: one step."""
    import torch

    if not args.rehearse and not torch.cuda.is_available():
        sys.exit("there is no CUDA device; --rehearse runs on the CPU")
    work = HOME / "work"
    work.mkdir(parents=True, exist_ok=True)
    context = Context(
        args.step,
        args.output,
        work,
        "cpu" if args.rehearse else "cuda",
        REHEARSAL if args.rehearse else Sizes(),
        args.images,
        time.monotonic() + args.limit,
    )
    importlib.import_module(f"gpu_check.steps.{args.step}").run(context)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file; empty where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summary(output: Path) -> str:
    """All lines of all steps, also written to ``summary.txt``."""
    parts = [_machine()]
    for name in STEPS:
        text = output / f"{name}.txt"
        problem = read_json(output / f"{name}.state.json").get("problem")
        lines = text.read_text(encoding="utf-8").splitlines() if text.exists() else []
        if lines or problem:
            parts += [f"\n{name}", *(f"  {line}" for line in lines)]
            parts += [f"  NOT COMPLETE: {problem}"] if problem else []
    whole = "\n".join(parts)
    (output / "summary.txt").write_text(whole + "\n", encoding="utf-8")
    return whole


def _machine() -> str:
    from contextlib import redirect_stdout
    from io import StringIO

    from support.machine import print_facts

    with redirect_stdout(StringIO()) as text:
        print_facts()
    return text.getvalue().strip()
