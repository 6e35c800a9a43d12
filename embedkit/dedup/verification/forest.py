"""Verifies candidate pairs until it is known which images belong together.

With 27 copies of an image, nearly all of its 378 pairs follow from 27 of them. So pairs are
compared in the order of their rank, and only while their images aren't connected yet (Kruskal's
spanning forest). Where a new link would join two groups, or an image to a group, and isn't clear,
other pairs across it are compared too. Pairs of two groups of which one was compared in vain come
last. It ends where comparing more finds next to nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.verification.pair_queue import Groups, PairQueue
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
_FEWEST_AGAIN = 300  # of pairs between groups of which one was compared in vain
_LARGEST_GROUP = 256  # images: of larger groups only the compared pairs are reported


@dataclass
class Verified:
    """What was found.

    Attributes:
        evidence: Pair to evidence; None where an image can't be read.
        odds: Pair to log-odds that it is a copy, of compared pairs.
        left: Pairs that weren't compared, as the search ended before.
    """

    evidence: dict[tuple[int, int], Evidence | None] = field(default_factory=dict)
    odds: dict[tuple[int, int], float] = field(default_factory=dict)
    left: int = 0


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
        self.out, self.groups = Verified(), Groups()
        self._compare, self._judge, self._window = compare, judge, window

    def run(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Compares pairs; those of groups that were compared in vain come last."""
        with Stage("verifying pairs", len(pairs), unit="pairs") as stage:
            first = PairQueue(pairs, self.groups, sets_aside=True)
            for left in self._left_after_each_block(first, self._window):
                stage.update(len(pairs) - left - len(first.aside))
            again = PairQueue(first.aside, self.groups, sets_aside=False)
            for left in self._left_after_each_block(again, _FEWEST_AGAIN):
                stage.update(len(pairs) - left - len(first))
        self.out.left = len(first) + len(again)

    def _left_after_each_block(self, queue: PairQueue, window: int) -> Iterator[int]:
        """Compares pairs, until the last ``window`` of them found next to nothing."""
        links = deque[bool](maxlen=window)
        while block := queue.next_block(_PAIRS_AT_ONCE):
            links += self._verify(block)
            yield len(queue)
            if len(links) == window and sum(links) < _LEAST_YIELD * window:
                break

    def doubt_bridges(self) -> None:
        """Lowers the odds of pairs that would join two groups, and that other pairs contradict."""
        for pair, odds in self.out.odds.items():
            if odds > _LINKED and self.groups.of(pair[0]) != self.groups.of(pair[1]):
                self.out.odds[pair] = _DOUBTED

    def _verify(self, block: Sequence[tuple[int, int]]) -> list[bool]:
        """Compares pairs; which of them link their images."""
        links = []
        odds = self._compared(block)
        self._ask_others([pair for pair in block if self._needs_others(pair)])
        for pair in sorted(block, key=lambda pair: -odds.get(pair, -np.inf)):
            linked = self.out.odds.get(pair, -np.inf) > _LINKED
            if self._needs_others(pair):
                linked = self._seconded(pair)
            if linked:
                self.groups.join(*pair)
            else:
                self.groups.set_apart(*pair)
            links.append(linked)
        return links

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
    groups, known = Groups(), {*same, *((first, second) for _, first, second in compared)}
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
