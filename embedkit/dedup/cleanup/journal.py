"""The journal of an applied plan: JSON lines, only ever appended to, each synced to disk.

A line ``start`` says what is applied; each other line is the new status of one file, written before
and after the file is changed. The status of a file goes through these states:

.. code-block:: mermaid

    stateDiagram-v2
        [*] --> begun: apply, before the file is moved
        begun --> done: moved to the target, and linked if requested
        begun --> undone: refused, or interrupted with the file still in its place
        begun --> undoing: undo, or recovery finds the kept file missing
        done --> undoing: undo, before the file is moved back
        undoing --> undone: the file is back in its place
        undone --> begun: apply again
        done --> purging: purge, before the target is deleted
        purging --> purged: the target is deleted
        purged --> [*]

A kill leaves ``begun``, ``undoing`` or ``purging``: apply, undo and purge respectively, run again,
compare the disk with the entry and complete the step.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from embedkit.errors import DedupError
from embedkit.utils.atomic_write import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Entry", "FileAction", "Journal", "Run", "Status"]

FORMAT_VERSION = 1

_START_KEYS = {"event", "version", "time", "action", "to", "plan", "plan_sha256"}
_HEAD = json.dumps({"event": "start", "version": FORMAT_VERSION}).encode()[:-1]
_LONGEST_START = 2**20  # three paths, six letters a byte at most

FileAction = Literal["move", "hardlink", "delete", "symlink"]
Status = Literal["begun", "done", "undoing", "undone", "purging", "purged"]


@dataclass(frozen=True, slots=True)
class Run:
    """What is applied.

    Attributes:
        action: What is done to the files that are removed.
        to: The folder that they are moved to, absolute.
        plan: The plan, as it was given.
        plan_sha256: SHA-256 (hex) of the plan.
        journal: The journal itself, absolute; empty in older ones.
    """

    action: FileAction
    to: str
    plan: str
    plan_sha256: str
    journal: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One removed file.

    Attributes:
        path: Where it was.
        sha256: Of its bytes, hex.
        nbytes: Its size.
        inode: Device and inode that it had.
        keeper: The file that was kept in its stead.
        keeper_sha256: Of that file, hex.
        keeper_inode: Device and inode of that file.
        action: What is done to it.
        to: The folder that it goes to.
        status: How far it is.
    """

    path: str
    sha256: str
    nbytes: int
    inode: tuple[int, int]
    keeper: str
    keeper_sha256: str
    keeper_inode: tuple[int, int]
    action: FileAction
    to: str
    status: Status = "begun"

    @property
    def target(self) -> str:
        """Where it goes: its whole path below ``to``, so that no two go to one place."""
        return self.to.rstrip("/") + self.path


class Journal:
    """The run and the entries of a journal file; opened by ``Journal.locked``.

    Attributes:
        path: The file.
        run: What it is of; None while it is empty.
        entries: The files by path, in the order of their last beginning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: Run | None = None
        self.entries: dict[str, Entry] = {}
        self._size = 0
        self._is_torn = False
        self._handle = -1

    @classmethod
    @contextmanager
    def locked(
        cls, path: Path, *, create: bool = False, read_only: bool = False
    ) -> Iterator[Journal]:
        """Opens a journal for one process at a time; a file that is none isn't touched.

        Args:
            path: The file.
            create: Begin it if it isn't there.
            read_only: Write nothing, and leave other processes alone.

        Raises:
            DedupError: It isn't there, isn't a journal, is a copy of one, can't be read or
                written, or another process has it.
        """
        journal = cls(path)
        try:
            journal._open(create=create, read_only=read_only)
            yield journal
        finally:
            journal._close()

    def start(self, run: Run) -> None:
        """Begins or resumes a run.

        Raises:
            DedupError: The journal is of another run that isn't undone, or an undo or a purge was
                interrupted.
        """
        waiting = [e for e in self.entries.values() if e.status not in {"undone", "purged"}]
        if self.run is not None and waiting:
            for name in ("action", "to", "plan_sha256"):
                old, new = getattr(self.run, name), getattr(run, name)
                if old != new:
                    why = "the plan has changed" if name == "plan_sha256" else f"{old} != {new}"
                    raise DedupError(
                        f"{self.path}: was created with different settings ({why}); undo it, or "
                        "give another journal=..."
                    )
        for entry in waiting:
            if entry.status in {"undoing", "purging"}:
                word = "an undo" if entry.status == "undoing" else "a purge"
                raise DedupError(f"{self.path}: {word} was interrupted; run it again first")
        if self.run != run:
            self._append(
                {
                    "event": "start",
                    "version": FORMAT_VERSION,
                    "time": _now(),
                    "action": run.action,
                    "to": run.to,
                    "plan": run.plan,
                    "plan_sha256": run.plan_sha256,
                    "journal": run.journal,
                }
            )

    def begin(self, entry: Entry) -> None:
        """Records that a file is about to be changed."""
        self._append(
            {
                "event": "begun",
                "time": _now(),
                "path": entry.path,
                "sha256": entry.sha256,
                "nbytes": entry.nbytes,
                "inode": list(entry.inode),
                "keeper": entry.keeper,
                "keeper_sha256": entry.keeper_sha256,
                "keeper_inode": list(entry.keeper_inode),
            }
        )

    def mark(self, path: str, status: Status) -> None:
        """Records the new status of a file."""
        self._append({"event": status, "time": _now(), "path": path})

    def _open(self, *, create: bool, read_only: bool) -> None:
        """Reads all lines but an incomplete last one, which a kill may leave."""
        import fcntl  # not everywhere, where the rest of embedkit is

        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_APPEND
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags |= os.O_CREAT
            self._handle = os.open(self.path, flags, 0o600)
            if not read_only:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = self._read(create)
            if create:
                sync_folder(self.path.parent)
        except FileNotFoundError as exc:
            raise DedupError(f"{self.path}: no such journal") from exc
        except BlockingIOError as exc:
            raise DedupError(f"{self.path}: another process is working with it") from exc
        except OSError as exc:
            raise DedupError(f"{self.path}: {exc.strerror or exc}") from exc
        self._size = data.rfind(b"\n") + 1
        self._is_torn = self._size < len(data)
        for number, line in enumerate(data[: self._size].splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (KeyError, TypeError, ValueError, RecursionError) as exc:
                raise DedupError(f"{self.path}: line {number} is damaged: {exc}") from exc
        self._refuse_copy(data.partition(b"\n")[0])

    def _refuse_copy(self, first: bytes) -> None:
        """Refuses a copy of a journal that is still there: the files that it names are that one's.

        Args:
            first: The first line, which no two journals share.
        """
        path = "" if self.run is None else self.run.journal
        if not os.path.isfile(path) or os.path.samefile(path, self.path):  # noqa: PTH113, PTH121
            return
        with Path(path).open("rb") as other:
            if other.readline(_LONGEST_START).rstrip(b"\n") == first:
                raise DedupError(
                    f"{self.path}: is a copy of {path}, whose files it names; use that"
                )

    def _read(self, create: bool) -> bytes:
        """The whole file, if it begins as a journal does; an empty one only to begin it."""
        if stat.S_ISREG(os.fstat(self._handle).st_mode):
            with open(self._handle, "rb", closefd=False) as file:
                first = file.readline(_LONGEST_START)
                # Zeros are what a loss of power may leave of a first line.
                if _is_start(first) or (create and _HEAD.startswith(first.rstrip(b"\0"))):
                    return first + file.read()
        raise DedupError(f"{self.path}: not a journal of dedup apply")

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _append(self, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode() + b"\n"
        try:
            if self._is_torn:
                os.ftruncate(self._handle, self._size)
                self._is_torn = False
            if os.write(self._handle, data) != len(data):
                raise OSError("only a part could be written")
            os.fsync(self._handle)
        except OSError as exc:
            os.ftruncate(self._handle, self._size)
            raise DedupError(f"{self.path}: can't be written: {exc.strerror or exc}") from exc
        self._size += len(data)
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        """Applies a line to ``run`` and ``entries``."""
        event = record["event"]
        if event == "start":
            self.run = _run(record)
        elif self.run is None:
            raise ValueError("there is no start before it")
        elif event == "begun":
            entry = _entry(record, self.run)
            self.entries.pop(entry.path, None)
            self.entries[entry.path] = entry
        elif event in get_args(Status):
            self.entries[record["path"]] = replace(self.entries[record["path"]], status=event)
        else:
            raise ValueError(f"event {event!r}")


def _is_start(line: bytes) -> bool:
    """Whether a first line is a start record, be it damaged, cut off or of another version."""
    if not line.endswith(b"\n"):
        return line.startswith(_HEAD)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.keys() >= _START_KEYS and record["event"] == "start"


def _run(record: dict[str, Any]) -> Run:
    if record["version"] != FORMAT_VERSION:
        raise ValueError(f"format {record['version']!r}; this embedkit reads {FORMAT_VERSION}")
    if record["action"] not in get_args(FileAction):
        raise ValueError(f"action {record['action']!r}")
    return Run(
        record["action"],
        _path(record, "to"),
        str(record["plan"]),
        str(record["plan_sha256"]),
        str(record.get("journal", "")),
    )


def _entry(record: dict[str, Any], run: Run) -> Entry:
    return Entry(
        path=_path(record, "path"),
        sha256=str(record["sha256"]),
        nbytes=int(record["nbytes"]),
        inode=_inode(record["inode"]),
        keeper=_path(record, "keeper"),
        keeper_sha256=str(record["keeper_sha256"]),
        keeper_inode=_inode(record["keeper_inode"]),
        action=run.action,
        to=run.to,
    )


def _inode(value: Any) -> tuple[int, int]:
    device, number = value
    return int(device), int(number)


def _path(record: dict[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str) or not value.startswith("/") or ".." in Path(value).parts:
        raise ValueError(f"{name} {value!r} is no absolute path")
    return value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
