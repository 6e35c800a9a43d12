"""Which image of a group to keep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from embedkit.dedup.cleanup.compare import is_raw

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEEPS", "Candidate", "Keep", "KeepPolicy"]

Keep = Literal[
    "original", "largest", "best-quality", "newest", "oldest", "first", "path-priority",
    "split-priority",
]  # fmt: skip
KEEPS: tuple[Keep, ...] = get_args(Keep)

_SPLITS = ("test", "testing", "val", "valid", "validation", "train", "training")
_LOSSLESS = {"PNG", "TIFF", "BMP", "PPM"}
_FEW_COLORS = {"GIF"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Facts about an image that may be kept.

    Attributes:
        id: Its id.
        order: Its place in the store.
        width: Pixels.
        height: Pixels.
        nbytes: Size of the encoded image.
        format: As found in the content.
        modified: When its file was changed last, nanoseconds since 1970; 0 where unknown.
        edited: How much it looks like an edit of the others; 0 where unknown.
        traces: What speaks for the original, in words.
    """

    id: str
    order: int
    width: int
    height: int
    nbytes: int
    format: str
    modified: int = 0
    edited: float = 0.0
    traces: str = ""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


@dataclass(frozen=True)
class KeepPolicy:
    """Orders the images of a group, the one to keep first.

    - ``original``: the one that looks least like an edit of the others: by camera data, traces of
      an earlier compression, lost details and colours, borders, noise, and how well it agrees with
      the others; a camera's raw file first.
    - ``largest``: most pixels, then most bytes.
    - ``best-quality``: most pixels; then lossless formats (PNG, TIFF, BMP, PPM) before lossy ones,
      GIF last for its 256 colours; then most bytes per pixel.
    - ``newest``, ``oldest``: by the time that the file was changed.
    - ``first``: by the order in the store.
    - ``path-priority``: by the first pattern of ``prefer`` that the id matches (``*`` matches
      folders too).
    - ``split-priority``: by the last folder in the id that ``prefer`` names, case ignored.

    What is equal then goes by ``best-quality``, then by the order in the store.

    Attributes:
        keep: Which of these.
        prefer: Patterns, or names of splits, best first. Without, splits are test, testing, val,
            valid, validation, train, training: what a model is tested with is kept.

    Raises:
        ValueError: There is no such policy, or ``prefer`` doesn't go with it.
    """

    keep: Keep
    prefer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise ValueError(f"can't keep {self.keep!r}: {', '.join(KEEPS)}")
        takes_prefer = self.keep in {"path-priority", "split-priority"}
        if self.prefer and not takes_prefer:
            raise ValueError("prefer=... goes with path-priority and split-priority only")
        if self.keep == "path-priority" and not self.prefer:
            raise ValueError("path-priority needs prefer=PATTERN, once or more, best first")

    def rank(self, candidate: Candidate) -> tuple[Any, ...]:
        """Sorts candidates, the one to keep first."""
        return (*_FIRST[self.keep](self, candidate), *_quality(candidate), candidate.order)

    def describe(self, candidate: Candidate) -> str:
        """Why this one would be kept, in words."""
        if self.keep in {"newest", "oldest"}:
            changed = datetime.fromtimestamp(candidate.modified / 1e9, UTC)
            return f"{self.keep}: {changed:%Y-%m-%d %H:%M:%S} UTC"
        if self.keep == "original" and candidate.traces:
            return f"original: {candidate.traces}"
        return self.keep

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(translate(pattern), re.DOTALL) for pattern in self.prefer]

    def _path(self, candidate: Candidate) -> int:
        matches = (i for i, pattern in enumerate(self._patterns) if pattern.match(candidate.id))
        return next(matches, len(self._patterns))

    def _split(self, candidate: Candidate) -> int:
        splits = [name.lower() for name in self.prefer or _SPLITS]
        folders = [name.lower() for name in re.split("[/#]", candidate.id)[:-1]]
        found = next((name for name in reversed(folders) if name in splits), None)
        return len(splits) if found is None else splits.index(found)


def _quality(candidate: Candidate) -> tuple[float, ...]:
    kind = 2 if candidate.format in _FEW_COLORS else candidate.format not in _LOSSLESS
    return -candidate.pixels, kind, -candidate.nbytes / max(candidate.pixels, 1)


_FIRST: dict[str, Callable[[KeepPolicy, Candidate], tuple[float, ...]]] = {
    "original": lambda _, c: (not is_raw(c.id, c.format), c.edited),
    "largest": lambda _, c: (-c.pixels, -c.nbytes),
    "best-quality": lambda *_: (),
    "newest": lambda _, c: (-c.modified,),
    "oldest": lambda _, c: (c.modified,),
    "first": lambda _, c: (c.order,),
    "path-priority": lambda policy, c: (policy._path(c),),
    "split-priority": lambda policy, c: (policy._split(c),),
}
