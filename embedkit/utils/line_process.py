"""A worker process of ours: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from embedkit.errors import WorkerError
from embedkit.utils.module_command import module_command, module_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = ["CrashedError", "LineProcess", "NotStartedError", "answer_lines"]

_STARTS = 3  # of a process that is killed before it has started
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class NotStartedError(WorkerError):
    """A process can't be started, or ended before it could answer anything; says how."""


class CrashedError(WorkerError):
    """A process ended before it answered; says how. The next message goes to a new one."""


class LineProcess:
    """A process that runs a module on one core, and answers line by line.

    Args:
        module: The module's name; it calls `answer_lines`.
        settings: What JSON can hold; the first line that the process reads.
        files: Numbers of open files that it shares.

    Raises:
        NotStartedError: The system starts no process.
    """

    def __init__(self, module: str, settings: dict[str, Any], files: Sequence[int] = ()) -> None:
        self._module, self._settings, self._files = module, settings, files
        self._lock, self._killed, self._has_started = threading.Lock(), False, False
        self._launch()

    def start(self) -> None:
        """Waits until the process has started.

        Raises:
            NotStartedError: It can't start.
            concurrent.futures.CancelledError: ``kill`` was called.
        """
        for left in reversed(range(_STARTS)):
            self._has_started = self._has_started or bool(self._receive())
            if self._has_started:
                return
            ending = self._ending()
            if not left or not ending.startswith("signal"):
                break
            self._launch()
        raise NotStartedError(ending)

    def ask(self, message: object) -> Any:
        """The answer to a message.

        Raises:
            NotStartedError: The process can't start.
            CrashedError: It ended before it answered.
            concurrent.futures.CancelledError: ``kill`` was called.
        """
        self.start()
        self._send(message)
        answer = self._receive()
        if not answer:
            ending = self._ending()
            self._launch()
            raise CrashedError(ending)
        return json.loads(answer)

    def kill(self) -> None:
        """Ends the process at once and for good, whatever it does."""
        with self._lock:
            self._killed = True
            self._process.kill()

    def end(self) -> None:
        """Ends the process, after what it does, and waits for it."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        self._process.wait()

    def _launch(self) -> None:
        self._has_started = False
        with self._lock:
            if self._killed:
                raise CancelledError
            try:
                self._process = self._started()
            except OSError as exc:  # too many open files or processes, or no memory
                raise NotStartedError(exc.strerror or str(exc)) from exc
        self._send(self._settings)

    def _started(self) -> subprocess.Popen[bytes]:
        with _interrupts_blocked():
            return subprocess.Popen(
                module_command(self._module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=self._files,
                env={**module_environment(), **_ONE_THREAD},
            )

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended; the missing answer shows it
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> bytes:
        """The next whole line; nothing where the process ended before, even within a line."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:  # it ended, and no other could be started
            return b""
        line = self._process.stdout.readline()
        return line if line.endswith(b"\n") else b""

    def _ending(self) -> str:
        self.end()
        code = self._process.returncode
        return f"signal {-code}" if code < 0 else f"exit code {code}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that starts meanwhile gets none of them: Ctrl-C in a terminal goes to all."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def answer_lines(begin: Callable[[Any], AbstractContextManager[Callable[[Any], Any]]]) -> None:
    """What such a process does: it answers until its stdin ends, and only its parent ends it.

    Args:
        begin: Takes the settings, and gives what answers a message while its block runs.
    """
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # see ``ended_after``
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keeps other output out of the answers
    try:
        with begin(json.loads(messages.readline())) as answer:
            print("ready", file=answers, flush=True)
            for line in messages:
                print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
    except BrokenPipeError:  # the parent has ended, or needs this process no more
        os._exit(1)
