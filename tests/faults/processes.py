"""Attacks the processes that ``dedup find`` compares pixels in.

    python tests/faults/processes.py FOLDER kills|interrupts COUNT SEED

kills: comparing processes are killed at random moments, the command goes on, and finds what it
finds undisturbed. interrupts: the command gets SIGINT or SIGTERM, or its whole group gets SIGINT as
by Ctrl-C in a terminal, at random moments; it ends within five seconds by exit code 130 and one
line, no process outlives it, and the command run again goes on to the same result.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

IMAGES, PROCESSES, MOST_SECONDS = 16, 3, 5.0
MODULE = b"embedkit.dedup.verification.comparing_process"


@dataclass
class Ending:
    """How the command ended, what it printed, and seconds since the last signal."""

    code: int
    said: str
    seconds: float


class Find:
    """The command, on copies of a few photos."""

    def __init__(self, folder: Path) -> None:
        from images import draw_photo, encode

        from embedkit.extraction.extract import extract

        self.folder, self.output = folder, folder / "found"
        (folder / "photos").mkdir()
        for number in range(IMAGES):
            photo = draw_photo(number)
            copy = photo.resize((200, 150)) if number % 2 else photo.transpose(0)
            for name, image in (("photo", photo), ("copy", copy)):
                path = folder / "photos" / f"{name}_{number:02d}.jpg"
                path.write_bytes(encode(image, "JPEG"))
        extract(
            folder / "photos", folder / "s.h5", backbone="tiny", engine="torch", device="cpu",
            processes=False,
        )  # fmt: skip

    def start(self) -> int:
        """Runs the command in a session of its own; gives the process's number."""
        pid = os.fork()
        if pid:
            return pid
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's ``&`` ignores it
        handle = os.open(self.folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = 1
        try:
            self._run()
        except SystemExit as exc:
            code = int(exc.code or 0)
        except BaseException as exc:
            import traceback

            traceback.print_exception(exc)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _run(self) -> None:
        from embedkit.dedup.verification import process_comparer
        from embedkit_cli.main import run

        process_comparer.usable_cores = lambda: PROCESSES
        process_comparer._FEWEST_IMAGES = 1
        command = [
            "dedup",
            "find",
            "s.h5",
            "-o",
            "found",
            "--no-report",
            "--overwrite",
            "--candidates-per-image",
            "4",
        ]
        os.chdir(self.folder)
        sys.argv = ["embedkit", *command]
        run()

    def wait(self, pid: int, since: float) -> Ending:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Ending(code, (self.folder / "said").read_text(), time.monotonic() - since)

    def result(self) -> list[tuple[int, int, int]]:
        from embedkit.dedup.output.folder import read_duplicates

        pairs = read_duplicates(self.output).pairs
        columns = pairs.first.tolist(), pairs.second.tolist(), pairs.verified.tolist()
        return list(zip(*columns, strict=True))

    def remove(self) -> None:
        import shutil

        for path in (self.output, Path(f"{self.output}.partial")):
            shutil.rmtree(path, ignore_errors=True)


def members(session: int) -> dict[int, bytes]:
    """The processes of a session that haven't ended, and their commands."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(place.name)] = (place / "cmdline").read_bytes()
    return found


def is_running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def main(folder: Path, kind: str, count: int, seed: int) -> str:
    """Runs all; gives the counts."""
    find, chance = Find(folder), random.Random(seed)
    began = time.monotonic()
    ending = find.wait(find.start(), began)
    assert ending.code == 0, ending
    expected = find.result()
    assert len(expected) > IMAGES // 2, expected
    attack = {"kills": kills, "interrupts": interrupts}[kind]
    return attack(find, expected, ending.seconds, count, chance)


def kills(find: Find, expected: object, seconds: float, count: int, chance: random.Random) -> str:
    """Kills processes, at most one at each second; all pairs are found."""
    killed = runs = 0
    while killed < count:
        find.remove()
        pid = find.start()
        while is_running(pid):
            time.sleep(chance.uniform(0.05, seconds / 3))
            workers = [one for one, command in members(pid).items() if MODULE in command]
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
        ending = find.wait(pid, time.monotonic())
        assert ending.code == 0, ending
        assert find.result() == expected, ending
        assert not members(pid)
        runs += 1
    return f"{killed} processes killed in {runs} runs: all pairs found"


def interrupts(
    find: Find, expected: object, seconds: float, count: int, chance: random.Random
) -> str:
    """Interrupts the command; nothing outlives it, and it goes on afterwards."""
    found: Counter[str] = Counter()
    slowest = 0.0
    ways = {"SIGINT": os.kill, "SIGTERM": os.kill, "Ctrl-C": os.killpg}
    while found.total() < count:
        find.remove()
        pid, way = find.start(), chance.choice(list(ways))
        time.sleep(chance.uniform(0.05, seconds))
        if not is_running(pid):
            find.wait(pid, 0)
            continue
        ways[way](pid, signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
        ending = find.wait(pid, time.monotonic())
        if ending.code == 0:  # it had just finished
            continue
        slowest = max(slowest, ending.seconds)
        assert ending.code == 130, (way, ending)
        assert "Traceback" not in ending.said, (way, ending)
        assert ending.said.count("embedkit: ") == 1, (way, ending)
        assert ending.seconds < MOST_SECONDS, (way, ending)
        assert not members(pid), (way, members(pid))
        found[way] += 1
        again = find.wait(find.start(), 0)
        assert again.code == 0, again
        assert find.result() == expected, again
        assert not Path(f"{find.output}.partial").exists()
    return f"{found.total()} interrupts: {dict(found)}, ended after {slowest:.1f} s at most"


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    arguments = sys.argv
    done = main(Path(arguments[1]), arguments[2], int(arguments[3]), int(arguments[4]))
    sys.stdout.write(f"{done}\n")
