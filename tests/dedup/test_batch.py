"""Comparing in threads: images that hang are given up, not waited for and not taken for missing."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from images import draw_photo

from embedkit.decode import time_limit
from embedkit.decode.time_limit import decode_within
from embedkit.dedup.verification.batch import PairComparer
from embedkit.errors import DecodeError, WorkerError


@pytest.fixture
def hang():
    """Waits until the test has ended."""
    ended = threading.Event()
    yield ended.wait
    ended.set()
    for thread in tuple(time_limit._given_up):
        thread.join()


def pixels_of(failing):
    """Photos by number, but for those that fail in their own way."""

    def pixels(image):
        if image in failing:
            failing[image]()
        return np.asarray(draw_photo(image))

    return pixels


def test_an_error_does_not_wait_for_an_image_that_hangs(hang) -> None:
    def fail():
        raise ZeroDivisionError

    failing = {0: lambda: decode_within(600, "0", hang), 1: fail}
    before = time.monotonic()
    with pytest.raises(ZeroDivisionError), PairComparer(pixels_of(failing), 2) as compare:
        compare([(1, 0)])
    assert time.monotonic() - before < 20


def test_an_image_that_can_not_be_read_has_no_evidence() -> None:
    def fail():
        raise DecodeError("1", "isn't there")

    with PairComparer(pixels_of({1: fail}), 2) as compare:
        found = compare([(0, 1), (0, 2)])
    assert found[0] is None
    assert found[1] is not None


def test_too_many_images_that_hang_are_an_error() -> None:
    def fail():
        raise WorkerError("8 images that took longer than 60 s are still being decoded")

    compares = PairComparer(pixels_of({1: fail}), 2)
    with pytest.raises(WorkerError, match="8 images"), compares as compare:
        compare([(0, 1)])
