"""The groups that copies are found to be in, and the pairs that are still to be compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Pair = tuple[int, int]

__all__ = ["Groups", "PairQueue"]

_OFTEN = 10  # comparisons in vain, until the other pairs of an image come last


class Groups:
    """Groups of images (union-find with members), and which of them were compared in vain."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}
        self._apart: dict[int, set[int]] = {}  # by group: those that an image of it isn't like
        self._in_vain: Counter[int] = Counter()  # by image: comparisons since it was last joined

    def of(self, image: int) -> int:
        """The number of an image's group."""
        root = image
        while (above := self._parent.get(root, root)) != root:
            root = above
        while (above := self._parent.get(image, image)) != root:
            self._parent[image] = root
            image = above
        return root

    def members(self, image: int) -> list[int]:
        """The images of an image's group."""
        return self._members.get(self.of(image), [image])

    def join(self, first: int, second: int) -> None:
        """Makes the groups of two images one."""
        one, other = self.of(first), self.of(second)
        self._in_vain[first] = self._in_vain[second] = 0
        if one == other:
            return
        if len(self.members(one)) < len(self.members(other)):
            one, other = other, one
        self._members[one] = [*self.members(one), *self.members(other)]
        self._members.pop(other, None)
        self._parent[one], self._parent[other] = one, one
        for third in self._apart.pop(other, ()):
            self._apart[third].discard(other)
            if third != one:
                self._set_apart(one, third)

    def set_apart(self, first: int, second: int) -> None:
        """Notes that two images were compared, and are no copies."""
        self._in_vain.update((first, second))
        self._set_apart(self.of(first), self.of(second))

    def are_apart(self, first: int, second: int) -> bool:
        """Whether images of the groups of both were compared, and are no copies.

        Or one of the two was compared with many others in vain: under the same caption, say, images
        that have nothing else in common look alike.
        """
        if max(self._in_vain[first], self._in_vain[second]) >= _OFTEN:
            return True
        return self.of(second) in self._apart.get(self.of(first), ())

    def _set_apart(self, one: int, other: int) -> None:
        self._apart.setdefault(one, set()).add(other)
        self._apart.setdefault(other, set()).add(one)


class PairQueue:
    """Pairs to compare, the likeliest first, a block at a time.

    Args:
        pairs: The pairs, each once.
        groups: What is known meanwhile: within a group nothing has to be compared.
        sets_aside: Whether pairs of groups that were compared in vain are left out.

    Attributes:
        aside: The pairs that were left out.
    """

    def __init__(self, pairs: Sequence[Pair], groups: Groups, *, sets_aside: bool) -> None:
        self.aside: list[Pair] = []
        self._pairs, self._groups, self._sets_aside = pairs, groups, sets_aside
        self._waiting, self._at = list[tuple[int, int]](), 0

    def __len__(self) -> int:
        """How many are left."""
        return len(self._pairs) - self._at + len(self._waiting)

    def next_block(self, most: int) -> list[Pair]:
        """Up to ``most`` pairs, none of which another one of them may make superfluous."""
        block, still, planned = list[tuple[int, int]](), list[tuple[int, int]](), Groups()

        def consider(pair: Pair) -> None:
            first, second = self._groups.of(pair[0]), self._groups.of(pair[1])
            if first == second:
                return
            if self._sets_aside and self._groups.are_apart(first, second):
                self.aside.append(pair)
            elif planned.of(first) == planned.of(second):
                still.append(pair)
            else:
                planned.join(first, second)
                block.append(pair)

        for number, pair in enumerate(self._waiting):
            if len(block) == most:
                self._waiting = [*still, *self._waiting[number:]]
                return block
            consider(pair)
        while self._at < len(self._pairs) and len(block) < most:
            consider(self._pairs[self._at])
            self._at += 1
        self._waiting = still
        return block
