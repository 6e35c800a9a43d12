from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from embedkit.sources.naming import UniqueNames, first_folder, is_hidden, is_url, kind_of_name
from embedkit.sources.readers.handle_cache import HandleCache
from embedkit.sources.readers.stream_window import ForwardWindow

if TYPE_CHECKING:
    from collections.abc import Generator


class Handle:
    def __init__(self, key: int) -> None:
        self.key = key
        self.is_open = True

    def close(self) -> None:
        assert self.is_open, "closed twice"
        self.is_open = False


def test_few_handles_stay_open_and_none_is_closed_in_use() -> None:
    made: list[Handle] = []

    def make(key: int) -> Handle:
        made.append(Handle(key))
        return made[-1]

    cache = HandleCache(make, Handle.close, 3)
    with cache.lease(0) as first:
        for key in range(1, 10):
            with cache.lease(key) as handle:
                assert handle.key == key
        assert first.is_open
        assert sum(handle.is_open for handle in made) == 3
        cache.close()
        assert first.is_open
    assert not any(handle.is_open for handle in made)


def test_many_threads_share_handles() -> None:
    made: list[Handle] = []

    def make(key: int) -> Handle:
        made.append(Handle(key))
        return made[-1]

    cache = HandleCache(make, Handle.close, 2)

    def use(key: int) -> bool:
        with cache.lease(key) as handle:
            return handle.is_open and handle.key == key

    keys = [random.Random(0).randrange(4) for _ in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, keys))
    cache.close()
    assert not any(handle.is_open for handle in made)


def test_a_handle_that_fails_to_open_is_tried_again() -> None:
    results: list[object] = [OSError("first"), Handle(0)]

    def make(key: int) -> Handle:
        result = results.pop(0)
        if isinstance(result, OSError):
            raise result
        assert isinstance(result, Handle)
        return result

    cache = HandleCache(make, Handle.close, 2)
    with pytest.raises(OSError, match="first"), cache.lease(0):
        pass
    with cache.lease(0) as handle:
        assert handle.is_open
    cache.close()


def window(pieces: list[bytes], limit: int) -> ForwardWindow[bytes]:
    def start() -> Generator[bytes, None, None]:
        yield from pieces

    return ForwardWindow(start, length=len, cost=len, limit=limit)


def test_the_window_moves_forward_and_starts_again_behind() -> None:
    stream = window([b"abcd", b"efgh", b"ijkl", b"mnop"], 8)
    assert stream.get(5, 6) == [(4, b"efgh")]
    assert stream.get(0, 1) == [(0, b"abcd")]
    assert stream.starts == 1
    assert stream.get(14, 99) == [(12, b"mnop")]
    assert stream.get(8, 9) == [(8, b"ijkl")]
    assert stream.starts == 1
    assert stream.get(0, 1) == [(0, b"abcd")]
    assert stream.starts == 2
    assert stream.get(0, 16) == [(0, b"abcd"), (4, b"efgh"), (8, b"ijkl"), (12, b"mnop")]
    assert stream.get(16, 20) == []
    stream.close()


def test_a_stream_that_breaks_tells_so_each_time() -> None:
    def start() -> Generator[bytes, None, None]:
        yield b"abcd"
        raise EOFError("cut off")

    stream = ForwardWindow(start, length=len, cost=len, limit=100)
    for _ in range(2):
        assert stream.get(0, 4) == [(0, b"abcd")]
        with pytest.raises(EOFError, match="cut off"):
            stream.get(4, 5)
    stream.close()


def test_names() -> None:
    assert [UniqueNames().add("a")] == ["a"]
    assert kind_of_name("A.TAR.GZ") == "tar"
    assert kind_of_name("https://h/a.JPG?x=y.zip") == "image"
    assert kind_of_name("photo") is None
    assert is_url("s3://bucket/a")
    assert not is_url("C:/photos")
    assert is_hidden("a/.b/c.jpg")
    assert not is_hidden("../a/./b.jpg")
    assert first_folder("/a/b.jpg") == "a"
    assert first_folder("./b.jpg") is None
