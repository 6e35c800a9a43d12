"""Runs the commands of a document as written, and compares or renews the outputs in it.

A document is Markdown with fenced blocks. ``sh`` and ``python`` blocks are run in order, in a
scratch folder; a ``text`` block right after one is its output. Numbers and column widths are not
compared, and a line ``…`` stands for any number of lines. ``<!-- not run: why -->`` before a block
leaves it out; ``<!-- not compared: why -->`` before a ``text`` block accepts any output.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
SET_UP = (
    "pip ",
    "python3 -m venv",
    "sh scripts/",
    ". .venv",
    "embedkit demo",
    "cp -r embedkit-demo",
)
"""Lines that prepare what the scratch folder has already."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|not compared|slow): (?P<why>[^\n]*) -->\n\n?)?"
    r"^```(?P<language>\w+)$\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FOLDERS = ("new", "upload", "other", "more", "cats")
_PROGRESS = re.compile(r"^.*\d:\d\d (so far|left)\n", re.MULTILINE)  # of a slow step
_NUMBER = re.compile(r"\b[0-9a-f]{16,}\b|\d[\d,]*(\.\d+)?(e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: ``sh``, ``python``, ``text``, ….
        code: What is in it.
        mark: ``not run``, ``not compared``, ``slow`` or nothing.
        span: Where its code stands in the document.
        follows: Whether nothing but blank lines is between it and the block before.
    """

    language: str
    code: str
    mark: str
    span: tuple[int, int]
    follows: bool


@dataclass(frozen=True)
class Step:
    """What was run, its output, and the block that shows it, if any."""

    block: Block
    output: str
    shown: Block | None


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a document."""
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        follows = not text[end : match.start()].strip()
        mark = match["mark"] or ""
        found.append(Block(match["language"], match["code"], mark, match.span("code"), follows))
        end = match.end()
    return found


def run_document(path: Path, folder: Path, *, slow: bool = True) -> Iterator[Step]:
    """Runs a document's blocks in a folder; those that take minutes only if asked.

    Raises:
        AssertionError: A command failed; the message names it.
    """
    every = blocks(path.read_text("utf-8"))
    left_out = {"not run"} if slow else {"not run", "slow"}
    for number, block in enumerate(every):
        if block.mark in left_out or block.language not in {"sh", "python"}:
            continue
        after = every[number + 1] if number + 1 < len(every) else None
        shown = after if after and after.follows and after.language == "text" else None
        with chdir(folder):
            run = _run_shell if block.language == "sh" else _run_python
            yield Step(block, run(block.code, path.name), shown)


def same(shown: str, output: str) -> bool:
    """Whether an output is the one that is shown, apart from numbers and widths."""
    parts = [[]]
    for line in _plain_lines(shown):
        if line == "…":
            parts.append([])
        else:
            parts[-1].append(line)
    lines = _plain_lines(output)
    if len(parts) == 1:
        return lines == parts[0]
    if lines[: len(parts[0])] != parts[0]:
        return False
    at = len(parts[0])
    for part in parts[1:-1]:
        at = _find(lines, part, at)
        if at < 0:
            return False
    last = parts[-1]
    return not last or (len(lines) - len(last) >= at and lines[len(lines) - len(last) :] == last)


def renewed(shown: str, output: str) -> str:
    """The output in the place of what is shown, with the same number of lines around one ``…``.

    Raises:
        ValueError: Several parts are left out: that is to be renewed by hand.
    """
    before, *after = shown.strip("\n").split("…")
    lines = output.strip("\n").split("\n")
    if not after:
        return "\n".join(lines) + "\n"
    if len(after) > 1:
        raise ValueError(f"renew this by hand:\n{shown}")
    head, tail = (part.strip("\n").split("\n") if part.strip() else [] for part in (before, *after))
    return "\n".join([*lines[: len(head)], "…", *lines[len(lines) - len(tail) :]]) + "\n"


class World:
    """What the documents' commands work on: photographs, stores, an index, lists.

    Stores name the absolute folder of their images, so every document runs in the one folder that
    they were made in, and finds it as it was made.
    """

    def __init__(self, scratch: Path) -> None:
        self.folder, self._original = scratch / "here", scratch / "original"
        self.folder.mkdir()
        _make_world(self.folder)
        shutil.copytree(self.folder, self._original)

    def restored(self, document: str) -> Path:
        """The folder, without what the document makes before it uses it."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._original, self.folder)
        for path in self.folder.iterdir():
            name = re.escape(path.name)
            first = re.search(rf"(\S+) [\"']?{name}/?(?=[\s\"',)]|$)", document, re.MULTILINE)
            if first is not None and first[1] in {"-o", "--store"}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.folder


def _make_world(folder: Path) -> None:
    from images import write_photos

    import embedkit
    from embedkit.demo.photos import gather_images

    gather_images(folder / "photos", None)
    (folder / "embedkit-demo").mkdir()
    for number, name in enumerate(_FOLDERS):
        write_photos(folder / name, 3, seed=10 * number)
    for name in ("new.jpg", "holiday.jpg", "cat.jpg"):
        shutil.copy(folder / "photos" / "flower.jpg", folder / name)
    for synset, photo in (("n07920052", "coffee.png"), ("n02124075", "chelsea.png")):
        (folder / "val" / synset).mkdir(parents=True)
        shutil.copy(folder / "photos" / photo, folder / "val" / synset)
    (folder / "birds.txt").write_text("n01443537\n")
    (folder / "removed.txt").write_text("photos/coins.png\n")
    with chdir(folder):
        ages = [
            f"{path},{number}" for number, path in enumerate(sorted(Path("photos").glob("*.*")))
        ]
        Path("ages.csv").write_text("\n".join(["path,age", *ages]) + "\n")
        options = {"backbone": "efficientnet_lite0"}
        for source, store in [
            ("photos", "photos.h5"), ("more", "new.h5"), ("other", "other.h5"), ("val", "val.h5"),
        ]:  # fmt: skip
            embedkit.extract(source, store, **options)
        for name in ("a", "b", "train", "test"):
            shutil.copy("other.h5", f"{name}.h5")
        embedkit.extract("cats", "shards", **options, sharded=True)
        embedkit.Index.build("photos.h5", "photos.index")


def command_words(line: str) -> list[str]:
    """The words of a command, without its comment."""
    return shlex.split(line, comments=True)


def _run_shell(code: str, name: str) -> str:
    output = ""
    for line in code.splitlines():
        if not line.strip() or line.startswith((*SET_UP, "#")):
            continue
        words = command_words(line)
        if words and words[0] == "embedkit" and not {"|", ";", "&&", ">"} & {*words}:
            returned, printed = _run_command(words)
        else:
            returned, printed = _run_in_bash(line)
        # 3: some images failed, as the one does that is damaged on purpose
        assert returned in {0, 3}, f"{name}: {line}: exit code {returned}:\n{printed}"
        output += _PROGRESS.sub("", printed)
    return output


class _Stream(io.StringIO):
    """What stands in for a terminal's stream."""

    def reconfigure(self, **_: object) -> None:
        pass


def _run_command(words: Sequence[str]) -> tuple[int, str]:
    from embedkit_cli.main import run

    stream, given = _Stream(), sys.argv
    sys.argv = [*words]
    try:
        with redirect_stdout(stream), redirect_stderr(stream):
            run()
    except SystemExit as exc:
        return int(exc.code or 0), stream.getvalue()
    finally:
        sys.argv = given
    return 0, stream.getvalue()


def _run_in_bash(line: str) -> tuple[int, str]:
    call = f'embedkit() {{ "{sys.executable}" -m embedkit "$@"; }}\nset -o pipefail\n{line}'
    done = subprocess.run(
        ["bash", "-c", call],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _run_python(code: str, name: str) -> str:
    stream = _Stream()
    with redirect_stdout(stream), patch.dict(os.environ, COLUMNS="80"):
        exec(compile(code, name, "exec"), _NAMES.setdefault(name, {}))
    return stream.getvalue()


_NAMES: dict[str, dict[str, object]] = {}


def _plain_lines(text: str) -> list[str]:
    lines = (" ".join(_NUMBER.sub("#", line).split()) for line in text.splitlines())
    return [re.sub(r"[-─━]{3,}", "---", line) for line in lines if line]


def _find(lines: list[str], part: list[str], start: int) -> int:
    """Where a part ends in the lines from ``start`` on; -1 if it isn't there."""
    for at in range(start, len(lines) - len(part) + 1):
        if lines[at : at + len(part)] == part:
            return at + len(part)
    return -1
