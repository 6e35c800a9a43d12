"""Worker processes: JSON task on stdin, JSON lines with progress and results on stdout."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from embedkit.errors import WorkerError
from embedkit.utils.module_command import module_command, module_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedkit.extraction.multi_gpu.task import WorkerTask

__all__ = ["run_processes"]

_STOP = b"stop\n"
_POLL_SECONDS = 0.2


def run_processes(
    tasks: Sequence[WorkerTask],
    stop: threading.Event | None,
    on_message: Callable[[int, dict[str, Any]], None],
) -> None:
    """Runs a process for each task, to the end of all.

    Whatever ends this function, the processes commit what they have done, and none outlives it. A
    process whose parent is killed ends at once.

    Args:
        tasks: What each is to do.
        stop: When set, all stop in good order.
        on_message: Called with a task's number and its progress message.

    Raises:
        WorkerError: A process failed; the others were stopped in good order.
    """
    messages: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for place, task in enumerate(tasks):
            processes.append(_start(place, task, messages))
        failed = _follow(processes, messages, stop, on_message)
    finally:
        for process in processes:
            _send(process, _STOP)
        for process in processes:
            process.wait()
            _close(process)
    if failed is not None:
        place, reason = failed
        raise WorkerError(
            f"the process on {tasks[place].choice.device} failed ({reason}); finished work "
            "is kept: run the same command again to resume"
        )


def _start(
    place: int, task: WorkerTask, messages: queue.SimpleQueue[tuple[int, dict[str, Any] | None]]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        module_command("embedkit.extraction.multi_gpu.worker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=module_environment(),
    )
    _send(process, json.dumps(task.to_config()).encode() + b"\n")

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            messages.put((place, json.loads(line)))
        messages.put((place, None))

    threading.Thread(target=read, daemon=True).start()
    return process


def _follow(
    processes: Sequence[subprocess.Popen[bytes]],
    messages: queue.SimpleQueue[tuple[int, dict[str, Any] | None]],
    stop: threading.Event | None,
    on_message: Callable[[int, dict[str, Any]], None],
) -> tuple[int, str] | None:
    """Waits for all processes; returns the first failure as (place, reason), if any."""
    running, reported = set(range(len(processes))), set[int]()
    failed: tuple[int, str] | None = None
    stopping = False
    while running:
        if not stopping and (failed is not None or (stop is not None and stop.is_set())):
            stopping = True
            for process in processes:
                _send(process, _STOP)
        try:
            place, message = messages.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if message is None:
            running.remove(place)
            if place not in reported:
                failed = failed or (place, f"it ended with {processes[place].wait()}")
        elif "progress" in message:
            on_message(place, message["progress"])
        else:
            reported.add(place)
            if message["error"] is not None:
                failed = failed or (place, message["error"])
    return failed


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:  # the process has ended; its closed stdout shows it
        return


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        try:
            stream.close()
        except BrokenPipeError:  # a message was sent after the process ended
            continue
