"""Verifies candidate pairs until it is known which images belong together.

With 27 copies of an image, nearly all of its 378 pairs follow from 27 of them. So pairs are
compared in the order of their rank, and only while their images aren't connected yet (Kruskal's
spanning forest). Where a new link would join two groups, or an image to a group, and isn't clear,
other pairs across it are compared too. It ends where comparing more finds next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence

    Compare = Callable[[Sequence[tuple[int, int]]], list[Evidence | None]]
    Judge = Callable[[Sequence[Evidence]], NDArray[np.float64]]

__all__ = ["Verified", "implied_pairs", "verify_forest"]

_PAIRS_AT_ONCE = 128
_LINKED, _CLEAR = 0.0, 5.0  # log-odds: of a copy; of one that needs no second opinion
_DOUBTED = -3.0  # log-odds of a pair that other pairs contradict
_OPINIONS = 3  # more pairs across a doubtful link, at most, of each of its ends
_LEAST_YIELD = 0.001  # links per compared pair: below, it ends
_FEWEST_COMPARED, _COMPARED_A_ROW = 1000, 0.05  # pairs that the yield is measured on
_LARGEST_GROUP = 256  # images: of larger groups only the compared pairs are reported


@dataclass
class Verified:
    """What was found.

    Attributes:
        evidence: Pair to evidence; None where an image can't be read.
        odds: Pair to log-odds that it is a copy, of compared pairs.
        left: Pairs that weren't compared, as the search ended before.
        found_last: Links per pair of those that were compared last.
    """

    evidence: dict[tuple[int, int], Evidence | None] = field(default_factory=dict)
    odds: dict[tuple[int, int], float] = field(default_factory=dict)
    left: int = 0
    found_last: float = 0.0


class _Groups:
    """Groups of images that were found to be copies of each other (union-find with members)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}

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
        return self._members.get(self.of(image), [image])

    def join(self, first: int, second: int) -> None:
        one, other = self.of(first), self.of(second)
        if one == other:
            return
        if len(self.members(one)) < len(self.members(other)):
            one, other = other, one
        self._members[one] = [*self.members(one), *self.members(other)]
        self._members.pop(other, None)
        self._parent[one], self._parent[other] = one, one


def verify_forest(
    pairs: Sequence[tuple[int, int]],
    same: Sequence[tuple[int, int]],
    compare: Compare,
    judge: Judge,
    images: int,
) -> Verified:
    """Compares pairs until it is known which images belong together.

    Args:
        pairs: Candidates, the likeliest first, each once.
        same: Pairs of equal bytes, which need no comparison.
        compare: Gives the evidence of pairs.
        judge: Gives the log-odds of a copy by the evidence.
        images: How many images there are.
    """
    search = _Search(compare, judge, max(_FEWEST_COMPARED, int(images * _COMPARED_A_ROW)))
    for first, second in same:
        search.groups.join(first, second)
    search.run(pairs)
    search.doubt_bridges()
    return search.out


class _Search:
    def __init__(self, compare: Compare, judge: Judge, window: int) -> None:
        self.out, self.groups = Verified(), _Groups()
        self._compare, self._judge, self._window = compare, judge, window
        self._recent: list[bool] = []

    def run(self, pairs: Sequence[tuple[int, int]]) -> None:
        waiting, at = list[tuple[int, int]](), 0
        with Stage("verifying pairs", len(pairs), unit="pairs") as stage:
            while at < len(pairs) or waiting:
                block, waiting, at = self._next(pairs, waiting, at)
                if not block:
                    break
                self._verify(block)
                stage.update(at - len(waiting))
                if self._yield() < _LEAST_YIELD:
                    self.out.left = len(pairs) - at + len(waiting)
                    break
        self.out.found_last = max(self._yield(), 0.0) if self._recent else 0.0

    def doubt_bridges(self) -> None:
        """Lowers the odds of pairs that would join two groups, and that other pairs contradict."""
        for pair, odds in self.out.odds.items():
            if odds > _LINKED and self.groups.of(pair[0]) != self.groups.of(pair[1]):
                self.out.odds[pair] = _DOUBTED

    def _next(
        self, pairs: Sequence[tuple[int, int]], waiting: list[tuple[int, int]], at: int
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
        """Pairs that no pair before them may make superfluous, and those that have to wait."""
        block, still, planned = list[tuple[int, int]](), list[tuple[int, int]](), _Groups()

        def consider(pair: tuple[int, int]) -> None:
            first, second = self.groups.of(pair[0]), self.groups.of(pair[1])
            if first == second:
                return
            if planned.of(first) == planned.of(second):
                still.append(pair)
            else:
                planned.join(first, second)
                block.append(pair)

        for number, pair in enumerate(waiting):
            if len(block) == _PAIRS_AT_ONCE:
                return block, [*still, *waiting[number:]], at
            consider(pair)
        while at < len(pairs) and len(block) < _PAIRS_AT_ONCE:
            consider(pairs[at])
            at += 1
        return block, still, at

    def _verify(self, block: Sequence[tuple[int, int]]) -> None:
        odds = self._compared(block)
        self._ask_others([pair for pair in block if self._needs_others(pair)])
        for pair in sorted(block, key=lambda pair: -odds.get(pair, -np.inf)):
            linked = self.out.odds.get(pair, -np.inf) > _LINKED
            if self._needs_others(pair):
                linked = self._seconded(pair)
            if linked:
                self.groups.join(*pair)
            self._recent.append(linked)
        del self._recent[: -self._window]

    def _compared(self, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], float]:
        evidence = self._compare(pairs)
        read = [(pair, one) for pair, one in zip(pairs, evidence, strict=True) if one is not None]
        odds = self._judge([one for _, one in read]) if read else np.empty(0)
        found = {pair: float(value) for (pair, _), value in zip(read, odds, strict=True)}
        self.out.evidence.update(zip(pairs, evidence, strict=True))
        self.out.odds.update(found)
        return found

    def _needs_others(self, pair: tuple[int, int]) -> bool:
        """Whether a link isn't clear, or would join two groups."""
        odds = self.out.odds.get(pair, -np.inf)
        joins_groups = min(len(self.groups.members(image)) for image in pair) > 1
        return odds > _LINKED and (odds < _CLEAR or joins_groups)

    def _ask_others(self, links: Sequence[tuple[int, int]]) -> None:
        """Compares what the links need before they are looked at one by one, many pairs at once."""
        for many in range(1, _OPINIONS + 1):
            wanted = {
                across[-1]
                for pair in links
                for end, other in (pair, pair[::-1])
                if len(across := self._across(end, other)[:many]) == many
                and not any(self._is_link(one) for one in across[:-1])
            }
            if missing := sorted(wanted - self.out.evidence.keys()):
                self._compared(missing)

    def _seconded(self, pair: tuple[int, int]) -> bool:
        """Whether other pairs agree: one of each end with another image of the other's group."""
        for end, other in (pair, pair[::-1]):
            across = self._across(end, other)
            for one in across:
                if one not in self.out.evidence:
                    self._compared([one])
                if self._is_link(one):
                    break
            else:
                if across:
                    self.out.odds[pair] = _DOUBTED
                    return False
        return True

    def _across(self, end: int, other: int) -> list[tuple[int, int]]:
        """Pairs of an image and some others of another one's group."""
        others = [one for one in self.groups.members(other) if one != other][:_OPINIONS]
        return [(min(end, one), max(end, one)) for one in others]

    def _is_link(self, pair: tuple[int, int]) -> bool:
        return self.out.odds.get(pair, -np.inf) > _LINKED

    def _yield(self) -> float:
        """Links per pair compared of late; infinite while there were few."""
        if len(self._recent) < self._window:
            return float("inf")
        return sum(self._recent) / len(self._recent)


def implied_pairs(
    odds: Mapping[tuple[int, int], float], same: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """The pairs that follow from links, with the log-odds of the weakest link between the two.

    They weren't compared, or show too little in common to tell, such as two crops of one image. Of
    n images of equal bytes only the given pairs are known.

    Args:
        odds: Pair to log-odds, of compared pairs.
        same: Pairs of equal bytes.
    """
    compared = [(value, *pair) for pair, value in odds.items() if value > _LINKED]
    links = [(np.inf, *pair) for pair in same] + compared
    groups, known = _Groups(), {*same, *((first, second) for _, first, second in compared)}
    implied: dict[tuple[int, int], float] = {}
    for value, first, second in sorted(links, key=lambda link: -link[0]):
        if groups.of(first) == groups.of(second):
            continue
        mine, theirs = groups.members(first), groups.members(second)
        if np.isfinite(value) and len(mine) + len(theirs) <= _LARGEST_GROUP:
            across = ((min(a, b), max(a, b)) for a in mine for b in theirs)
            implied.update((pair, value) for pair in across if pair not in known)
        groups.join(first, second)
    return implied
