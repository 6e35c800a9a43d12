"""The tests marked ``gpu``."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from gpu_check.main import ROOT

if TYPE_CHECKING:
    from gpu_check.context import Context


def run(context: Context) -> None:
    folder = ROOT / "tests"
    files = [path for path in sorted(folder.rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE", "--durations=5"]
    command += ["-p", "no:cacheprovider", "--tb=short", f"--timeout={context.seconds_left:.0f}"]
    done = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    log = context.output / "tests.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    last = (done.stdout.strip().splitlines() or ["pytest printed nothing"])[-1].strip("= ")
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}
    context.report(last, **counts)
    for line in re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE):
        context.report(line[:200])
    if done.returncode:
        sys.exit(f"pytest: exit code {done.returncode}; see {log}")
