"""Verifies candidate pairs until it is known which images belong together.

With 27 copies of an image, nearly all of its 378 pairs follow from 27 of them. So pairs are
compared in the order of their rank, and only while their images aren't connected yet (Kruskal's
spanning forest). Links that aren't clear come after the clear ones, when groups are known: there,
and where a link would join two groups, other pairs across it are compared, too; of two large groups
all of them must agree. An image alone for which the keypoints of most of a group vote needs no such
opinion. Pairs of two groups of which one was compared in vain come last, those of most votes first.
It ends where comparing more finds next to nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.verification.batch import IMAGES_KEPT
from embedkit.dedup.verification.keypoint_votes import PAIRS_SORTED
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
_DOUBTED = -8.0  # log-odds of a pair that other pairs contradict
_OPINIONS = 3  # more pairs across a doubtful link, at most, of each of its ends
_LEAST_YIELD, _LEAST_OF_VOTED = 0.001, 0.01  # links per compared pair: below, it ends
_FEWEST_COMPARED, _COMPARED_A_ROW = 1000, 0.05  # pairs that the yield is measured on
_FEWEST_VOTED, _FEWEST_AGAIN = 200, 300  # of pairs by votes, and of those that come after others
_FEW_IMAGES = 5000  # of more, keypoints vote only if copies are not rare
_PROBED, _NOT_RARE = 1000, 0.3  # pairs, and the share of them that are links
_ALONE, _LARGE = 2, 4  # images at most that are alone; at least of a large group
_MOST, _BY_VOTES = 0.5, 4.0  # share of a group that votes; what it adds to the log-odds
_FEW = 3  # images: of so few others votes say less
_LARGEST_GROUP = 256  # images: of larger groups only compared pairs are reported, some images vote


@dataclass
class Verified:
    """What was found.

    Attributes:
        evidence: Pair to evidence; None where an image can't be read.
        odds: Pair to log-odds that it is a copy, of compared pairs.
        voted: The pairs that keypoints voted for.
        left: Pairs that weren't compared, as the search ended before.
    """

    evidence: dict[tuple[int, int], Evidence | None] = field(default_factory=dict)
    odds: dict[tuple[int, int], float] = field(default_factory=dict)
    voted: Sequence[tuple[int, int]] = ()
    left: int = 0


def verify_forest(
    pairs: Sequence[tuple[int, int]],
    same: Sequence[tuple[int, int]],
    compare: Compare,
    judge: Judge,
    images: int,
    vote: Callable[[], Sequence[tuple[int, int]]] | None = None,
) -> Verified:
    """Compares pairs until it is known which images belong together.

    Args:
        pairs: Candidates, the likeliest first, each once.
        same: Pairs of equal bytes, which need no comparison.
        compare: Gives the evidence of pairs.
        judge: Gives the log-odds of a copy by the evidence.
        images: How many images there are.
        vote: Gives better candidates, the likeliest first, for some time an image: it is asked
            where images are few, or copies aren't rare.
    """
    search = _Search(compare, judge)
    for first, second in same:
        search.groups.join(first, second)
    if vote is not None and (images <= _FEW_IMAGES or search.finds_many(pairs[:_PROBED])):
        window = _FEWEST_VOTED if images <= IMAGES_KEPT else PAIRS_SORTED
        search.count(vote())
        search.run(search.out.voted, window, _LEAST_OF_VOTED)
        search.run(pairs, _FEWEST_AGAIN, _LEAST_OF_VOTED)
    else:
        search.run(pairs, max(_FEWEST_COMPARED, int(images * _COMPARED_A_ROW)), _LEAST_YIELD)
    search.doubt_bridges()
    return search.out


class _Search:
    def __init__(self, compare: Compare, judge: Judge) -> None:
        self.out, self.groups = Verified(), Groups()
        self._compare, self._judge = compare, judge
        self._unclear: list[tuple[int, int]] = []
        self._partners = defaultdict[int, set[int]](set)  # by votes

    def count(self, voted: Sequence[tuple[int, int]]) -> None:
        """Takes the pairs that keypoints vote for."""
        self.out.voted = voted
        for first, second in voted:
            self._partners[first].add(second)
            self._partners[second].add(first)

    def finds_many(self, pairs: Sequence[tuple[int, int]]) -> bool:
        """Compares pairs; whether many of them are links."""
        self._compared(pairs)
        return sum(self._is_link(pair) for pair in pairs) > _NOT_RARE * len(pairs)

    def run(self, pairs: Sequence[tuple[int, int]], window: int, least: float) -> None:
        """Compares pairs, until of the last ``window`` a share of less than ``least`` are links."""
        with Stage("verifying pairs", len(pairs), unit="pairs", may_end_early=True) as stage:
            first = PairQueue(pairs, self.groups, sets_aside=True)
            for _ in self._blocks(first, window, least):
                stage.update(len(pairs) - len(first) - len(first.aside))
            self._settle()
            aside = sorted(first.aside, key=self._share_voting, reverse=True)
            again = PairQueue(aside, self.groups, sets_aside=False)
            for _ in self._blocks(again, _FEWEST_AGAIN, least):
                self._settle()
                stage.update(len(pairs) - len(first) - len(again))
        self.out.left += len(first) + len(again)

    def _blocks(self, queue: PairQueue, window: int, least: float) -> Iterator[None]:
        """Compares pairs, some at a time."""
        links = deque[bool](maxlen=window)
        while block := queue.next_block(_PAIRS_AT_ONCE):
            self._verify(block)
            yield
            links += [self._is_link(pair) for pair in block]
            if len(links) == window and sum(links) < least * window:
                break

    def doubt_bridges(self) -> None:
        """Lowers the odds of pairs that would join two groups, and that other pairs contradict."""
        for pair, odds in self.out.odds.items():
            if odds > _LINKED and self._is_between(pair):
                self.out.odds[pair] = _DOUBTED

    def _verify(self, block: Sequence[tuple[int, int]]) -> None:
        """Compares pairs, and joins those of clear links."""
        self._compared(block)
        block = sorted(block, key=lambda pair: -self._odds(pair))
        clear = [pair for pair in block if self._odds(pair) >= _CLEAR]
        self._ask_others([pair for pair in clear if self._joins_groups(pair)])
        for pair in clear:
            if not self._joins_groups(pair) or self._seconded(pair):
                self.groups.join(*pair)
        for pair in block:
            if self._is_between(pair):
                self.groups.set_apart(*pair)
        self._unclear += [pair for pair in block if self._is_link(pair) and pair not in clear]

    def _settle(self) -> None:
        """Joins images by links that aren't clear, those that other pairs agree with."""
        unclear = sorted(self._unclear, key=lambda pair: -self._odds(pair))
        self._unclear.clear()
        self._ask_others([pair for pair in unclear if self._is_between(pair)])
        for pair in unclear:
            if self._is_between(pair) and self._seconded(pair):
                self.groups.join(*pair)

    def _compared(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Compares those of some pairs that weren't yet."""
        pairs = [pair for pair in pairs if pair not in self.out.evidence]
        evidence = self._compare(pairs) if pairs else []
        read = [(pair, one) for pair, one in zip(pairs, evidence, strict=True) if one is not None]
        odds = self._judge([one for _, one in read]) if read else np.empty(0)
        self.out.evidence.update(zip(pairs, evidence, strict=True))
        self.out.odds.update(
            (pair, float(value)) for (pair, _), value in zip(read, odds, strict=True)
        )

    def _is_between(self, pair: tuple[int, int]) -> bool:
        """Whether its images aren't in one group yet."""
        return self.groups.of(pair[0]) != self.groups.of(pair[1])

    def _joins_groups(self, pair: tuple[int, int]) -> bool:
        """Whether a link joins two groups, rather than an image to another one or to a group."""
        return self._smaller(pair) > 1

    def _ask_others(self, links: Sequence[tuple[int, int]]) -> None:
        """Compares what the links need before they are looked at one by one, many pairs at once."""
        for many in range(1, _OPINIONS + 1):
            wanted = {
                across[-1]
                for pair in links
                for end, other in (pair, pair[::-1])
                if len(across := self._across(end, other)[:many]) == many
                and self._is_open(pair, across[:-1])
            }
            if missing := sorted(wanted - self.out.evidence.keys()):
                self._compared(missing)

    def _seconded(self, pair: tuple[int, int]) -> bool:
        """Whether other pairs agree: each end with other images of the other one's group."""
        if self._is_voted(pair):
            self.out.odds[pair] += _BY_VOTES
            return True
        enough = all if self._are_large(pair) else any
        for end, other in (pair, pair[::-1]):
            across = self._across(end, other)
            if across and not enough(self._agrees(one) for one in across):
                self.out.odds[pair] = _DOUBTED
                return False
        return True

    def _agrees(self, pair: tuple[int, int]) -> bool:
        self._compared([pair])
        return self._is_link(pair)

    def _is_open(self, pair: tuple[int, int], asked: Sequence[tuple[int, int]]) -> bool:
        """Whether the next pair across a link has to be asked after some others."""
        agree = [self._is_link(one) for one in asked]
        return all(agree) if self._are_large(pair) else not any(agree)

    def _are_large(self, pair: tuple[int, int]) -> bool:
        """Whether the groups of both images are so large that some pairs agree by chance."""
        return self._smaller(pair) >= _LARGE

    def _smaller(self, pair: tuple[int, int]) -> int:
        """The size of the smaller one of the groups of both images."""
        return min(len(self.groups.members(image)) for image in pair)

    def _is_voted(self, pair: tuple[int, int]) -> bool:
        """Whether most of a group votes for an image alone."""
        if self._smaller(pair) > _ALONE:
            return False
        size, votes = self._votes(pair)
        return size >= _LARGE and votes >= _MOST * size

    def _share_voting(self, pair: tuple[int, int]) -> float:
        """The share of the larger group that votes for the other one's image."""
        size, votes = self._votes(pair)
        return max(votes - 1, 0) / (size + _FEW)

    def _votes(self, pair: tuple[int, int]) -> tuple[int, int]:
        """The size of the larger group, at most 256, and how many vote for the other image."""
        image, other = sorted(pair, key=lambda image: len(self.groups.members(image)))
        members = self.groups.members(other)[:_LARGEST_GROUP]
        partners = self._partners.get(image, ())
        return len(members), sum(member in partners for member in members)

    def _across(self, end: int, other: int) -> list[tuple[int, int]]:
        """Pairs of an image and some others of another one's group: not only the first ones."""
        others = [one for one in self.groups.members(other) if one != other]
        others = others[:: -(-len(others) // _OPINIONS) or 1]
        return [(min(end, one), max(end, one)) for one in others]

    def _is_link(self, pair: tuple[int, int]) -> bool:
        return self._odds(pair) > _LINKED

    def _odds(self, pair: tuple[int, int]) -> float:
        return self.out.odds.get(pair, -np.inf)


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
