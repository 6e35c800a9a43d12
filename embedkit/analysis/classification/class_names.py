"""Finds the class that a word names: by identifier, name, number or synonym."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedkit.types import Head

__all__ = ["ClassWords"]

# 7.0 is class 7: tables with gaps have no whole numbers.
_NUMBER = re.compile(r"(0|[1-9]\d*)(\.0+)?", re.ASCII)


class ClassWords:
    """The words that mean a class.

    They are its identifier (``n01443537``), its name (``goldfish, Carassius auratus``), its number
    and each of its names (``goldfish``). What comes first in this order counts, so a class that is
    named ``7`` goes before class 7.

    Args:
        head: The classifier.
    """

    def __init__(self, head: Head) -> None:
        names = list(enumerate(head.class_names))
        self._count = len(names)
        self._by_id = _by_word(enumerate(head.class_ids))
        self._by_name = _by_word(names)
        self._by_part = _by_word((n, part) for n, name in names for part in name.split(", "))

    def find(self, word: str) -> frozenset[int]:
        """The numbers of the classes that a word means; blanks around it don't count.

        Returns:
            One, unless the word means nothing, or several classes have it.
        """
        word = word.strip()
        number = _NUMBER.fullmatch(word)
        numbered = int(number[1]) if number and len(number[1]) < 10 else self._count
        return (
            self._by_id.get(word)
            or self._by_name.get(word)
            or (frozenset({numbered}) if numbered < self._count else None)
            or self._by_part.get(word)
            or frozenset()
        )


def _by_word(named: Iterable[tuple[int, str]]) -> dict[str, frozenset[int]]:
    numbers: dict[str, frozenset[int]] = {}
    for number, word in named:
        word = word.strip()
        numbers[word] = numbers.get(word, frozenset()) | {number}
    return {word: found for word, found in numbers.items() if word}
