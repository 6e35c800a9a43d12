"""Selects which images of a group are kept, and which kept image each other one is a copy of."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedkit.dedup.cleanup.compare import NOT_VERIFIED
from embedkit.dedup.cleanup.keep_policy import Candidate
from embedkit.dedup.groups.explain import OTHER_SHOT, Evidence, describe_pair
from embedkit.dedup.pairs import SAME_SCENE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.cleanup.keep_policy import KeepPolicy
    from embedkit.dedup.results import Duplicates

__all__ = ["Decision", "KeepSelection", "candidate_of", "members_of"]

_EQUAL_BYTES, _CHOSEN = -2, -3  # in the place of a pair
_COMPARED = 4  # kept images that an image is compared with at most, the most likely first


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an image is kept or removed.

    Attributes:
        image: Its place among the images that were found.
        copy_of: The image that is kept in its stead; None where it is kept itself.
        score: Of the pair between the two; 1 where they are the same; None where it is kept, or
            where there is no pair.
        why: What the two were found by, or why it is kept.
    """

    image: int
    copy_of: int | None
    score: float | None
    why: str


class _Kept(threading.local):
    """The kept image for each ``alike`` number, -1 for none; each thread has its own."""

    def __init__(self, count: int) -> None:
        # One array for all groups, reset after each: a group may be one image of millions.
        self.image = np.full(count, -1, np.int64)


@dataclass(frozen=True, slots=True)
class _Group:
    """A group while it is decided about.

    Attributes:
        kept: By ``alike`` numbers, the image that is kept; -1 for none.
        by_bytes: The kept image of each content.
        chosen: Images that somebody chose to keep.
        why_not: As in ``choose``.
    """

    kept: NDArray[np.int64]
    by_bytes: dict[bytes, int]
    chosen: Sequence[int]
    why_not: Callable[[int, int], str] | None


class KeepSelection:
    """Selects the images to keep, so that each removed image is a copy of a kept one.

    Several threads may use it, each for groups of its own.

    The image that the policy puts first is kept. Each next one is removed if it has the bytes of a
    kept image, or is in a pair with one and the comparison finds no difference; otherwise it is
    kept too. So no image is removed only because it is connected through others.

    Args:
        found: What was found.
        policy: Which images to keep first.
        protected: Images that are never removed.
        keepers: Images that somebody chose to keep, each before all others of its group. The others
            of such a group are compared with them even without a pair.
    """

    def __init__(
        self,
        found: Duplicates,
        policy: KeepPolicy,
        protected: Collection[int] = (),
        keepers: Collection[int] = (),
    ) -> None:
        self._found = found
        self._keepers = frozenset(keepers)
        self._policy = policy
        self._evidence = Evidence(found.pairs)
        self._hashes = [row.tobytes() for row in found.images.content_hash]
        self._protected = frozenset(protected)
        self._fixed = frozenset[int]()
        if found.against is not None:
            self._fixed = frozenset(np.flatnonzero(~found.is_of_store()).tolist())
        self._kept = _Kept(int(self._evidence.alike.max(initial=-1)) + 1)

    def choose(
        self,
        members: Sequence[tuple[int, Candidate]],
        why_not: Callable[[int, int], str] | None = None,
    ) -> list[Decision]:
        """Decides about one group.

        With two stores the images of ``against`` are all kept, and those of the store go where
        one of these is among the members.

        Args:
            members: Images (their places), and what is known of each; those alone that may be
                kept or go.
            why_not: Why one image may not be removed for another one, by their places; empty if it
                may. None compares nothing.

        Returns:
            A decision for each, in the policy's order.
        """
        alike, kept = self._evidence.alike, self._kept.image
        ranked = self.rank(members)
        chosen = [image for image, _ in ranked if image in self._keepers]
        group = _Group(kept, {}, chosen, why_not)
        decisions = []
        for place, (image, candidate) in enumerate(ranked):
            decision = self._decide(image, candidate, group, is_first=place == 0)
            may_stand = self._found.against is None or image in self._fixed
            if decision.copy_of is None and may_stand:
                group.by_bytes.setdefault(self._hashes[image], image)
                if kept[alike[image]] < 0:
                    kept[alike[image]] = image
            decisions.append(decision)
        kept[alike[[image for image, _ in ranked]]] = -1
        return decisions

    def rank(self, members: Sequence[tuple[int, Candidate]]) -> list[tuple[int, Candidate]]:
        """Images in the policy's order, those of ``against`` before all others."""
        ranked = sorted(members, key=lambda member: self._policy.rank(member[1]))
        ranked.sort(key=lambda one: (one[0] not in self._fixed, one[0] not in self._keepers))
        return ranked

    def _decide(
        self, image: int, candidate: Candidate, group: _Group, *, is_first: bool
    ) -> Decision:
        if image in self._fixed:
            return Decision(image, None, None, "image of the other store")
        if image in self._keepers:
            return Decision(image, None, None, "chosen in the review")
        if is_first:
            return Decision(image, None, None, self._policy.describe(candidate))
        if image in self._protected:
            return Decision(image, None, None, "protected")
        equal = group.by_bytes.get(self._hashes[image])
        copies = [] if equal is None else [(equal, _EQUAL_BYTES)]
        found = self._evidence.among(image, group.kept)
        copies += [(kept, pair) for kept, pair in found if not self._is_scene(pair)]
        paired = {kept for kept, _ in (*copies, *found)}
        copies += [(kept, _CHOSEN) for kept in group.chosen if kept not in paired]
        if found and not copies:
            return Decision(image, None, None, OTHER_SHOT)
        reason = ""
        for kept, pair in copies[:_COMPARED]:
            problem = "" if group.why_not is None else group.why_not(image, kept)
            if not problem:
                why = self._why(pair, compared=group.why_not is not None)
                return Decision(image, kept, self._score(pair), why)
            reason = reason or NOT_VERIFIED + problem
        return Decision(image, None, None, reason or "in no pair with what is kept")

    def _is_scene(self, pair: int) -> bool:
        return pair >= 0 and bool(self._found.pairs.verified[pair] == SAME_SCENE)

    def _score(self, pair: int) -> float | None:
        if pair < 0:
            return None if pair == _CHOSEN else 1.0
        return float(self._found.pairs.score[pair])

    def _why(self, pair: int, *, compared: bool) -> str:
        if pair == _CHOSEN:
            return "put together in the review, pixels compared"
        if pair == _EQUAL_BYTES or (pair >= 0 and self._found.pairs.exact[pair]):
            return "same bytes"
        why = "same embedding" if pair < 0 else describe_pair(self._found.pairs, pair)
        return f"{why}, pixels compared" if compared else why


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
