"""One of n parts of a plan: which of its shards one of several processes or machines does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Part"]

_TEXT = re.compile(r"(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Part ``number`` of ``of``; the parts are consecutive ranges of shards of nearly equal size.

    Attributes:
        number: From 1 to ``of``.
        of: How many parts there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"part must be from 1/{self.of} to {self.of}/{self.of}, not {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, given: Any) -> Self:
        """The part for ``"3/8"`` or ``(3, 8)``.

        Raises:
            ValueError: It is neither.
        """
        if isinstance(given, str) and (match := _TEXT.fullmatch(given)):
            number, of = map(int, match.groups())
        elif isinstance(given, tuple) and len(given) == 2 and all(type(n) is int for n in given):
            number, of = given
        else:
            raise ValueError(f"part must be such as '3/8', not {given!r}")
        return cls(number, of)

    def shards(self, num_shards: int) -> range:
        """The numbers of the shards of this part; empty if there are fewer shards than parts."""
        return range((self.number - 1) * num_shards // self.of, self.number * num_shards // self.of)

    @classmethod
    def of_shards(cls, shards: set[int], num_shards: int, of: int) -> tuple[Self, ...]:
        """The parts of ``of`` that have at least one of some shards, in order."""
        parts = (cls(number, of) for number in range(1, of + 1))
        return tuple(part for part in parts if shards & {*part.shards(num_shards)})
