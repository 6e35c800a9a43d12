"""Selects which images of a group are kept, and which kept image each other one is a copy of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.cleanup.keep_policy import Candidate
from embedkit.dedup.groups.explain import Evidence, describe_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.dedup.cleanup.keep_policy import KeepPolicy
    from embedkit.dedup.results import Duplicates

__all__ = ["Decision", "KeepSelection", "candidate_of", "members_of"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an image is kept or removed.

    Attributes:
        image: Its place among the images that were found.
        copy_of: The image that is kept in its stead; None where it is kept itself.
        score: Of the pair between the two; 1 where they are the same; None where it is kept.
        why: What the two were found by, or why it is kept.
    """

    image: int
    copy_of: int | None
    score: float | None
    why: str


class KeepSelection:
    """Selects the images to keep, so that each removed image is a copy of a kept one.

    The image that the policy puts first is kept. Each next one is removed if it is in a pair with a
    kept image, or equals one; otherwise it is kept too. So no image is removed only because it is
    connected through others.

    Args:
        found: What was found.
        policy: Which images to keep first.
    """

    def __init__(self, found: Duplicates, policy: KeepPolicy) -> None:
        self._found = found
        self._policy = policy
        self._evidence = Evidence(found.pairs)
        self._is_fixed = np.zeros(len(found.images), bool)
        if found.against is not None:
            self._is_fixed = ~found.is_of_store()
        # One array for all groups, reset after each: a group may be one image of millions.
        count = int(self._evidence.alike.max(initial=-1)) + 1
        self._kept = np.full(count, -1, np.int64)

    def choose(self, members: Sequence[tuple[int, Candidate]]) -> list[Decision]:
        """Decides about one group.

        With two stores the images of ``against`` are all kept, and those of the store go where
        one of these is among the members.

        Args:
            members: Images (their places), and what is known of each; those alone that may be
                kept or go.

        Returns:
            A decision for each, in the policy's order.
        """
        alike = self._evidence.alike
        ranked = self.rank(members)
        decisions = []
        for place, (image, candidate) in enumerate(ranked):
            decision = self._decide(image, candidate, is_first=place == 0)
            may_stand = self._found.against is None or self._is_fixed[image]
            if decision.copy_of is None and may_stand and self._kept[alike[image]] < 0:
                self._kept[alike[image]] = image
            decisions.append(decision)
        self._kept[alike[[image for image, _ in ranked]]] = -1
        return decisions

    def rank(self, members: Sequence[tuple[int, Candidate]]) -> list[tuple[int, Candidate]]:
        """Images in the policy's order, those of ``against`` before all others."""
        ranked = sorted(members, key=lambda member: self._policy.rank(member[1]))
        ranked.sort(key=lambda member: not self._is_fixed[member[0]])
        return ranked

    def _decide(self, image: int, candidate: Candidate, *, is_first: bool) -> Decision:
        if self._is_fixed[image]:
            return Decision(image, None, None, "image of the other store")
        original = self._evidence.best(image, self._kept)
        if original is None:
            why = self._policy.describe(candidate) if is_first else "in no pair with what is kept"
            return Decision(image, None, None, why)
        kept, pair = original
        score = 1.0 if pair < 0 else float(self._found.pairs.score[pair])
        return Decision(image, kept, score, self._why(image, kept, pair))

    def _why(self, image: int, kept: int, pair: int) -> str:
        if pair >= 0:
            return describe_pair(self._found.pairs, pair)
        hashes = self._found.images.content_hash
        return "same bytes" if (hashes[image] == hashes[kept]).all() else "same embedding"


def candidate_of(found: Duplicates, image: int, modified: int = 0) -> Candidate:
    """The facts that the stores hold about an image that may be kept."""
    images = found.images
    return Candidate(
        images.ids[image],
        int(found.groups.node[image]),
        int(images.width[image]),
        int(images.height[image]),
        int(images.nbytes[image]),
        images.formats[image],
        modified,
    )


def members_of(found: Duplicates) -> list[list[int]]:
    """The places of the images of each group, group by group."""
    group = found.groups.group
    order = np.argsort(group, kind="stable")
    order = order[np.searchsorted(group[order], 0) :]
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return [part.tolist() for part in np.split(order, cuts)] if len(order) else []
