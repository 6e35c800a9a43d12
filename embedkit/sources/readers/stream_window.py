"""Limited random access to a stream that can only be read sequentially."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["ForwardWindow"]

T = TypeVar("T")


class ForwardWindow(Generic[T]):
    """Reads a stream of pieces forward and keeps the last ones.

    Many threads ask for neighbouring pieces in almost the right order; those find theirs in the
    window. Whoever asks for what has left the window starts the stream again.

    Args:
        start: Opens the stream from its beginning.
        length: How many positions (bytes, rows) a piece holds.
        cost: How many bytes a piece holds.
        limit: So many bytes stay in the window, and more where one request needs more.
    """

    def __init__(
        self,
        start: Callable[[], Generator[T, None, None]],
        *,
        length: Callable[[T], int],
        cost: Callable[[T], int],
        limit: int,
    ) -> None:
        self._start = start
        self._length = length
        self._cost = cost
        self._limit = limit
        self._lock = Lock()
        self._pieces: deque[tuple[int, T]] = deque()
        self._held = 0
        self._end = 0
        self._stream: Generator[T, None, None] | None = None
        self.starts = 0

    def get(self, start: int, stop: int) -> list[tuple[int, T]]:
        """Return the pieces that overlap the positions ``start`` to ``stop``.

        Args:
            start: The first position.
            stop: One behind the last.

        Returns:
            ``(position of its first, piece)`` in order; they don't reach ``stop`` where the stream
            ends before.

        Raises:
            Exception: Whatever the stream raises before it reaches ``stop``.
        """
        with self._lock:
            if self._stream is None or start < (self._pieces[0][0] if self._pieces else 0):
                self._restart()
            while self._end < stop and self._advance(start):
                pass
            return [
                (first, piece)
                for first, piece in self._pieces
                if first < stop and first + self._length(piece) > start
            ]

    def _restart(self) -> None:
        self._stop()
        self._stream = self._start()
        self.starts += 1

    def _advance(self, keep_from: int) -> bool:
        """Read one piece, and drop old ones over the limit that lie before ``keep_from``."""
        assert self._stream is not None
        try:
            piece = next(self._stream, None)
        except Exception:
            # A generator that has raised is finished: without this the next read would see an end.
            self._stop()
            raise
        if piece is None:
            return False
        self._pieces.append((self._end, piece))
        self._end += self._length(piece)
        self._held += self._cost(piece)
        while self._held > self._limit and self._first_end() <= keep_from:
            self._held -= self._cost(self._pieces.popleft()[1])
        return True

    def _first_end(self) -> int:
        first, piece = self._pieces[0]
        return first + self._length(piece)

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._pieces.clear()
        self._held = self._end = 0

    def close(self) -> None:
        """End the stream and let go of the window."""
        with self._lock:
            self._stop()
