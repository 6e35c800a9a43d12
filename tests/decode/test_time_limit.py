"""An image that takes too long fails; the thread that asked for it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from embedkit.decode import time_limit
from embedkit.decode.time_limit import decode_within
from embedkit.errors import DecodeError, WorkerError
from embedkit.utils.parallel import in_order


@pytest.fixture
def hang():
    """Waits until the test has ended."""
    ended = threading.Event()
    yield ended.wait
    ended.set()
    for thread in tuple(time_limit._given_up):
        thread.join()


def test_gives_what_is_decoded() -> None:
    assert decode_within(30, "x", lambda: 7) == 7
    assert decode_within(0, "x", threading.get_ident) == threading.get_ident()
    assert decode_within(30, "x", threading.get_ident) != threading.get_ident()


def test_raises_what_decoding_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        decode_within(30, "x", lambda: 1 / 0)


def test_what_takes_too_long_fails(hang) -> None:
    before = time.monotonic()
    with pytest.raises(DecodeError, match=r"took longer than 0\.5 s to decode"):
        decode_within(0.5, "x", hang)
    assert time.monotonic() - before < 20
    assert decode_within(30, "x", lambda: 7) == 7


def test_too_many_that_hang_are_an_error(hang) -> None:
    for _ in range(8):
        with pytest.raises(DecodeError):
            decode_within(0.01, "x", hang)
    time_limit._idle.clear()
    with pytest.raises(WorkerError, match=r"8 images that took longer .*processes=True"):
        decode_within(0.01, "x", hang)


def test_an_iterator_that_is_closed_leaves_what_hangs(hang) -> None:
    results = in_order(lambda n: decode_within(600, "x", hang) if n else n, range(9), 2)
    assert next(results) == (0, 0)
    before = time.monotonic()
    results.close()
    assert time.monotonic() - before < 20


def test_a_stop_leaves_what_hangs(hang) -> None:
    stop = threading.Event()
    results = in_order(lambda n: decode_within(600, "x", hang), range(9), 2, stop)
    threading.Timer(0.5, stop.set).start()
    before = time.monotonic()
    with pytest.raises(CancelledError):
        next(results)
    assert time.monotonic() - before < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_decodes_too() -> None:
    code = (
        "import os\n"
        "from embedkit.decode.time_limit import decode_within\n"
        "assert decode_within(30, 'x', lambda: 7) == 7\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(decode_within(30, 'x', lambda: 8))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_hanging_thread_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import time\n"
        "from embedkit.decode.time_limit import decode_within\n"
        "try:\n"
        "    decode_within(0.2, 'x', lambda: time.sleep(600))\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "took longer" in done.stdout
