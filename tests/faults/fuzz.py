"""Reads mutants of files in child processes, under limits of time and memory.

    python tests/faults/fuzz.py KIND[,KIND ...] COUNT [SEED]

``python tests/faults/fuzz.py`` lists the kinds; COUNT is for each of them. Each mutant is read, or
refused by an error of embedkit's; any other error, a crash or a hang is a fault, and its mutant is
kept. Prints the counts; the exit code is 1 if there is a fault.
"""

from __future__ import annotations

import importlib
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

SECONDS, BYTES = 60.0, 6 * 2**30  # for one mutant; the machine may be busy
KEPT = Path("fuzz-faults")
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)


def mutant(target, seed: int, number: int) -> bytes:
    """A changed copy of one of a target's files."""
    rng = random.Random(f"{seed} {number}")
    data = bytearray(rng.choice(target.samples))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        _change(data, target.samples, rng)
    return target.mend(bytes(data)) if rng.random() < 0.8 else bytes(data)


def _change(data: bytearray, samples: list[bytes], rng: random.Random) -> None:
    # Headers decide most: half of the changes are near the beginning or the end.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 512)
    at = rng.randrange(max(reach, 1))
    if rng.random() < 0.1:
        at = max(len(data) - 1 - at, 0)
    size = rng.choice((1, 2, 4, 8, 64, 1024))
    way = rng.randrange(8)
    if way == 0 and data:
        data[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        data[at : at + size] = rng.randbytes(size)
    elif way == 2:
        width = rng.choice((1, 2, 4, 8))
        word = rng.choice(_WORDS) & (256**width - 1)
        data[at : at + width] = word.to_bytes(width, rng.choice(("little", "big")))
    elif way == 3:
        del data[at : at + size]
    elif way == 4:
        data[at:at] = data[at : at + size] * rng.choice((1, 2, 200))
    elif way == 5:
        del data[at:]
    elif way == 6:
        other = rng.choice(samples)
        start = rng.randrange(max(len(other), 1))
        data[at : at + size] = other[start : start + size]
    else:
        digits = [place for place in range(at, min(at + 4096, len(data))) if 48 <= data[place] < 58]
        if digits:
            data[digits[0]] = rng.randrange(48, 58)


def read_some(kind: str, seed: int, numbers: range, out: int) -> None:
    """Reads some mutants; tells the number of each before, and how it ended."""
    import resource

    from targets import TARGETS

    from embedkit.errors import EmbedkitError

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    with tempfile.TemporaryDirectory() as name:
        target = TARGETS[kind](Path(name))
        for number in numbers:
            data = mutant(target, seed, number)
            os.write(out, b"%d " % number)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                target.read(data)
                outcome = "read"
            except EmbedkitError:
                outcome = "refused"
            except BaseException:
                outcome = "error"
                sys.stderr.write(f"{kind} {number}:\n{traceback.format_exc()[-2000:]}\n")
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.write(out, outcome.encode() + b"\n")


def run(kind: str, count: int, seed: int) -> Counter[str]:
    """Reads all mutants, by as many children as it takes; gives how each ended."""
    ends: Counter[str] = Counter()
    first = 0
    while first < count:
        told, child_end = os.pipe()
        child = os.fork()
        if not child:
            code = 1
            try:
                os.close(told)
                read_some(kind, seed, range(first, count), child_end)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(child_end)
        lines = _lines(told, child)
        os.close(told)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        whole = [line.split() for line in lines if line.endswith("\n")]
        ends.update(outcome for _, outcome in whole)
        for number, outcome in whole:
            if outcome == "error":
                _keep(kind, seed, int(number))
        first = int(whole[-1][0]) + 1 if whole else first
        if code:
            begun = [line for line in lines if not line.endswith("\n")]
            assert begun, f"a child ended with {code} between mutants"
            ends[
                f"hang (over {SECONDS:g} s)" if code == -signal.SIGALRM else f"crash ({code})"
            ] += 1
            _keep(kind, seed, int(begun[0]))
            first = int(begun[0]) + 1
    return ends


def _lines(told: int, child: int) -> list[str]:
    """What a child tells until it ends; it is killed where even its alarm doesn't end it."""
    text = b""
    while True:
        ready, _, _ = select.select([told], [], [], 3 * SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        part = os.read(told, 2**16)
        if not part:
            return text.decode().splitlines(keepends=True)
        text += part


def _keep(kind: str, seed: int, number: int) -> None:
    """Writes a mutant into a file, to look at."""
    from targets import TARGETS

    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        data = mutant(TARGETS[kind](Path(name)), seed, number)
    (KEPT / f"{kind}-{seed}-{number}").write_bytes(data)


def main(kinds: list[str], count: int, seed: int = 0) -> int:
    """Runs all; gives the exit code."""
    importlib.import_module("targets")  # once for all children
    shutil.rmtree(KEPT, ignore_errors=True)
    faults = 0
    for kind in kinds:
        before = time.monotonic()
        ends = run(kind, count, seed)
        faults += ends.total() - ends["read"] - ends["refused"]
        seconds = time.monotonic() - before
        sys.stdout.write(f"{kind}: {ends.total():,} mutants, {dict(ends)}, {seconds:.0f} s\n")
        sys.stdout.flush()
    return int(faults > 0)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    if not sys.argv[1:]:
        from targets import TARGETS

        sys.stdout.write("\n".join(TARGETS) + "\n")
        sys.exit()
    sys.exit(main(sys.argv[1].split(","), *map(int, sys.argv[2:])))
