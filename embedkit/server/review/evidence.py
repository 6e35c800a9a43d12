"""What speaks for the images of a group being copies: pairs with the ones that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.groups.explain import Evidence, describe_pair, kind_of_pair

if TYPE_CHECKING:
    from embedkit.dedup.results import Duplicates
    from embedkit.server.review.state import ReviewGroup

__all__ = ["GroupEvidence", "MemberEvidence"]


@dataclass(frozen=True, slots=True)
class MemberEvidence:
    """Why an image is in a group.

    Attributes:
        score: Of its best pair with an image that is kept; None if there is no such pair.
        edit: The kind of edit between the two; empty if there is no pair, or it is kept.
        reason: In words.
    """

    score: float | None
    edit: str
    reason: str


class GroupEvidence:
    """Looks up pairs of the images of groups.

    Args:
        found: What was found.
    """

    def __init__(self, found: Duplicates) -> None:
        self._found = found
        self._evidence = Evidence(found.pairs)
        count = int(self._evidence.alike.max(initial=-1)) + 1
        self._kept = np.full(count, -1, np.int64)  # reset after each group

    def of(self, group: ReviewGroup) -> dict[int, MemberEvidence]:
        """Why each image of a group is in it."""
        keep = np.array(sorted(group.keep), np.int64)
        numbers = self._evidence.alike[keep]
        self._kept[numbers] = keep
        try:
            return {
                image: MemberEvidence(None, "", "kept") if image in group.keep else self._of(image)
                for image in group.members
            }
        finally:
            self._kept[numbers] = -1

    def weakest(self, group: ReviewGroup, members: dict[int, MemberEvidence]) -> float | None:
        """The least score inside a group; of a changed one the least of those with a kept image."""
        if group.is_as_found:
            return float(self._found.groups.weakest[self._found.groups.group[group.members[0]]])
        scores = [one.score for one in members.values() if one.score is not None]
        return min(scores, default=None)

    def _of(self, image: int) -> MemberEvidence:
        found = self._evidence.among(image, self._kept)
        if not found:
            return MemberEvidence(None, "", "in no pair with what is kept")
        _, pair = found[0]
        if pair < 0:
            hashes = self._found.images.content_hash
            same = (hashes[image] == hashes[found[0][0]]).all()
            kind = "same bytes" if same else "same embedding"
            return MemberEvidence(1.0, kind, kind)
        pairs = self._found.pairs
        return MemberEvidence(
            float(pairs.score[pair]), kind_of_pair(pairs, pair), describe_pair(pairs, pair)
        )
