"""Updates a store in processes that are killed at a change of the disk; the store stays whole.

    python tests/update_driver.py FOLDER KILLS SEED

FOLDER holds ``photos/`` as it is now, and ``before/s.h5``, a store of the photos of before. A copy
of the store is updated in a process that is killed at its k-th change of the disk, for KILLS random
k; then it must be the store of before or that of after, and a second update must end as ever.
Prints how many stores were old and new after the kill.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from embedkit.engines.torch import TorchEngine
from embedkit.extraction.extract import extract
from embedkit.store import EmbeddingStore, verify

CHANGES = ("rename", "replace", "unlink", "mkdir", "rmdir", "fsync")
MANY = 10**9


def kill_at(k: int) -> list[int]:
    """Lets this process be killed before its k-th change of the disk; counts down in a list."""
    left = [k]

    def wrap(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    for name in CHANGES:
        setattr(os, name, wrap(getattr(os, name)))
    return left


def update(path: Path, k: int = MANY) -> bool:
    """Updates a store in a process of its own; False if it was killed.

    The number of changes of the disk goes into the file ``changes``.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            left = kill_at(k)
            extract("photos", path, update=True)
            Path("changes").write_text(str(k - left[0]))
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"an update of {path} failed")
    return os.WIFEXITED(status)


def state_of(path: Path) -> bytes:
    """All rows of a store, which must be whole."""
    problems = verify(path)
    if problems:
        raise RuntimeError(problems)
    with EmbeddingStore.open(path) as store:
        return repr((list(store.ids), list(store.failures()), store.to_numpy().tobytes())).encode()


def fresh_copy(path: Path) -> None:
    """A copy of the store of before, and nothing else."""
    for one in (path, path.with_name(path.name + ".partial")):
        shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
    before = Path("before") / "s.h5"
    (shutil.copytree if before.is_dir() else shutil.copy)(before, path)


def main(folder: str, kills: int, seed: int) -> None:
    """Runs all."""
    assert TorchEngine  # imported once for all children
    os.chdir(folder)
    path = Path("s.h5")
    fresh_copy(path)
    before = state_of(path)
    update(path)
    after = state_of(path)
    steps = int(Path("changes").read_text())
    found: Counter[str] = Counter()
    chosen = random.Random(seed)
    while found.total() < kills:
        fresh_copy(path)
        if update(path, chosen.randint(1, steps)):
            raise RuntimeError("an update made fewer changes than before")
        names = {before: "old", after: "new"}
        found[names[state_of(path)]] += 1
        update(path)
        if state_of(path) != after:
            raise RuntimeError("the update after a kill ended otherwise")
    sys.stdout.write(f"{dict(found)}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
