"""The near-duplicates under review: groups, decisions on disk, and the plan."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.cleanup.choose import KeepSelection, candidate_of, members_of
from embedkit.dedup.cleanup.keep_policy import KeepPolicy
from embedkit.dedup.cleanup.plan import make_plan
from embedkit.dedup.cleanup.plan_csv import write_plan
from embedkit.dedup.groups.grouping import describe_groups
from embedkit.dedup.output.folder import REVIEW, read_duplicates
from embedkit.dedup.output.summary import SUMMARY
from embedkit.errors import DedupError
from embedkit.server.review.evidence import GroupEvidence, MemberEvidence
from embedkit.server.review.journal import Journal
from embedkit.server.review.proposals import Originals
from embedkit.server.review.state import Change, ReviewGroup, ReviewState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from embedkit.dedup.cleanup.plan import PlanRow
    from embedkit.dedup.results import Duplicates

__all__ = ["GroupFilter", "ReviewDesk", "WrittenPlan"]

_MOST_SECONDS = 3.0  # for the originals of the groups of one request


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """Which groups are listed.

    Attributes:
        min_score: The least weakest score; None takes all.
        max_score: The greatest weakest score; None takes all.
        kind: A kind of edit that a member has; empty takes all.
        folder: A folder that a member lies in, as ``ReviewDesk.folder`` names it; empty takes all.
        state: ``pending``, ``accepted``, ``rejected`` or ``all``.
    """

    min_score: float | None = None
    max_score: float | None = None
    kind: str = ""
    folder: str = ""
    state: str = "all"


@dataclass(frozen=True, slots=True)
class WrittenPlan:
    """A plan that was written.

    Attributes:
        path: The file.
        removed: Images that it removes.
        not_verified: Images that were to go, but stay, as they weren't shown to be copies.
    """

    path: Path
    removed: int
    not_verified: int


class ReviewDesk:
    """Groups and decisions; used by several threads.

    Args:
        folder: As ``find_duplicates`` wrote it; the journal and plans are written there too.
        images: As ``make_plan``'s.
        show_paths: Whether folders are named by their whole paths.

    Raises:
        DedupError: The folder or the journal can't be read, or holds no groups to review.
    """

    def __init__(self, folder: Path, images: Sequence[Path], *, show_paths: bool) -> None:
        self.folder, self._images, self._show_paths = folder, images, show_paths
        self.found = _reviewable(folder)
        self._lock = threading.RLock()
        self._evidence = GroupEvidence(self.found)
        self._known: dict[ReviewGroup, tuple[dict[int, MemberEvidence], float | None]] = {}
        self._places = {name: place for place, name in enumerate(self.found.images.ids)}
        self._originals = Originals(self.found, images)
        self._kept: dict[str, frozenset[int] | None] = {}
        as_found = _as_found(self.found)
        self._untouched = {group.id: group for group in as_found}
        self._state = ReviewState(as_found)
        digest = hashlib.sha256((folder / SUMMARY).read_bytes()).hexdigest()[:12]
        self._journal = Journal(folder / f"{REVIEW}{digest}.jsonl")
        self._journal.open()
        try:
            for number, action in enumerate(self._journal.read(), 1):
                self._replay(action, number)
        except BaseException:
            self._journal.close()
            raise

    def place(self, image_id: str) -> int | None:
        """The place of an image among those that were found."""
        return self._places.get(image_id)

    def summary(self) -> dict[str, Any]:
        """How far the review is, and what can be filtered by."""
        with self._lock:
            groups = self._state.groups
            kinds: Counter[str] = Counter()
            folders: Counter[str] = Counter()
            for group in groups:
                kinds.update(self._kinds(group))
                folders.update(self._folders(group))
            accepted = [group for group in groups if group.state == "accepted"]
            return {
                "groups": len(groups),
                "decided": sum(group.state != "pending" for group in groups),
                "removed_images": sum(len(g.members) - len(g.keep) for g in accepted),
                "kinds": _counted(kinds),
                "folders": _counted(folders),
                "can_undo": self._state.can_undo,
            }

    def groups(self, wanted: GroupFilter) -> list[ReviewGroup]:
        """The groups that a filter lets through, in order."""
        with self._lock:
            return [group for group in self._state.groups if self._passes(group, wanted)]

    def proposed(self, groups: Sequence[ReviewGroup]) -> list[ReviewGroup]:
        """The groups as they are shown: nobody having chosen, the originals are to be kept.

        These are found when they are requested, for some seconds at most; a group that isn't
        reached keeps what is of best quality.
        """
        until = time.monotonic() + _MOST_SECONDS
        for group in groups:
            name = group.id
            if self._untouched.get(name) is not group:
                continue
            if name not in self._kept and time.monotonic() < until:
                self._kept[name] = self._originals.keep(group.members)
            keep = self._kept.get(name)
            if keep is not None and keep != group.keep:
                with self._lock:
                    self._untouched[name] = self._state.propose(group, keep)
        with self._lock:
            there = {group.id: group for group in self._state.groups}
            return [there[one.id] for one in groups if one.id in there]

    def group(self, name: str) -> ReviewGroup:
        """A group by its name.

        Raises:
            KeyError: There is none.
        """
        with self._lock:
            return self._state.group(name)

    def evidence(self, group: ReviewGroup) -> tuple[dict[int, MemberEvidence], float | None]:
        """Why each image of a group is in it, and the group's weakest score."""
        with self._lock:
            if group not in self._known:
                members = self._evidence.of(group)
                self._known[group] = members, self._evidence.weakest(group, members)
            return self._known[group]

    def act(self, action: str, name: str, items: Sequence[int], other: str) -> Change:
        """Carries out an action; it is on disk before this returns.

        Args:
            action: See ``ACTIONS``.
            name: The group; empty for ``undo``.
            items: Places of images.
            other: The group to merge.

        Raises:
            KeyError: There is no such group.
            ValueError: The action can't be done.
            DedupError: The journal can't be written; then nothing is changed.
        """
        with self._lock:
            state = self._state.copy()
            change = _apply(state, action, name, items, other)
            ids = [self.found.images.ids[place] for place in items]
            self._journal.add({"action": action, "group": name, "items": ids, "other": other})
            self._state = state
            return change

    def write_plan(self, *, with_undecided: bool) -> WrittenPlan:
        """Writes the plan of what was accepted, with the trust rules of ``make_plan``.

        Args:
            with_undecided: Whether groups that nobody decided about are taken as they were found.

        Raises:
            DedupError: The images aren't there, or the plan can't be written.
            SourceError: ``images`` has none of them.
        """
        with self._lock:
            states = {"accepted", "pending"} if with_undecided else {"accepted"}
            groups = [group for group in self._state.groups if group.state in states]
            untouched = [one for one in groups if self._untouched.get(one.id) is one]
        names = {one.id for one in untouched}
        rows = _planned(self.found, [one for one in groups if one.id not in names], self._images)
        rows += _planned_by_default(self.found, untouched, self._images, len(groups))
        path = _free_name(self.folder)
        write_plan(rows, path)
        gone = sum(row.action == "remove" for row in rows)
        to_go = sum(len(group.members) - len(group.keep) for group in groups)
        return WrittenPlan(path, gone, max(to_go - gone, 0))

    def close(self) -> None:
        """Lets another process review the folder."""
        self._journal.close()
        self._originals.close()

    def _replay(self, action: dict[str, Any], number: int) -> None:
        try:
            items = [self._places[name] for name in action["items"]]
            _apply(self._state, action["action"], action["group"], items, action["other"])
        except (KeyError, TypeError, ValueError) as exc:
            raise DedupError(
                f"{self._journal.path}: line {number} doesn't fit the groups; move the file away "
                "to begin the review anew"
            ) from exc

    def _passes(self, group: ReviewGroup, wanted: GroupFilter) -> bool:
        if wanted.state not in {"all", group.state}:
            return False
        if wanted.folder and wanted.folder not in self._folders(group):
            return False
        if wanted.kind and wanted.kind not in self._kinds(group):
            return False
        if wanted.min_score is None and wanted.max_score is None:
            return True
        weakest = self.evidence(group)[1]
        score = 0.0 if weakest is None else weakest
        low, high = wanted.min_score, wanted.max_score
        return (low is None or score >= low) and (high is None or score <= high)

    def _kinds(self, group: ReviewGroup) -> set[str]:
        return {one.edit for one in self.evidence(group)[0].values() if one.edit}

    def _folders(self, group: ReviewGroup) -> set[str]:
        return {self._folder(self.found.images.ids[image]) for image in group.members}

    def _folder(self, image_id: str) -> str:
        folder = image_id.replace("#", "/").rpartition("/")[0]
        return folder if self._show_paths else folder.rpartition("/")[2]


def _apply(state: ReviewState, action: str, name: str, items: Sequence[int], other: str) -> Change:
    return state.undo() if action == "undo" else state.apply(action, name, items, other)


def _reviewable(folder: Path) -> Duplicates:
    found = read_duplicates(folder)
    if found.against is not None:
        raise DedupError(f"{folder}: is of two stores; those of one store can be reviewed")
    if found.linkage == "pairs":
        raise DedupError(f"{folder}: only pairs were found, no groups: find with linkage=single")
    return found


def _as_found(found: Duplicates) -> list[ReviewGroup]:
    """The groups as they were found, each with what the policy best-quality keeps."""
    selection = KeepSelection(found, KeepPolicy("best-quality"))
    groups = []
    for number, members in enumerate(members_of(found)):
        decided = selection.choose([(image, candidate_of(found, image)) for image in members])
        keep = frozenset(one.image for one in decided if one.copy_of is None)
        groups.append(ReviewGroup(f"g{number}", tuple(members), keep))
    return groups


def _planned(
    found: Duplicates, groups: Collection[ReviewGroup], images: Sequence[Path]
) -> tuple[PlanRow, ...]:
    """The plan of some groups: what is chosen stays, the others go if they are copies."""
    keepers = [found.images.ids[image] for group in groups for image in group.keep]
    decided = _only(found, groups)
    return make_plan(decided, "best-quality", images=images, keepers=keepers) if groups else ()


def _planned_by_default(
    found: Duplicates, groups: Collection[ReviewGroup], images: Sequence[Path], before: int
) -> tuple[PlanRow, ...]:
    """The plan of groups that nobody changed, numbered from ``before``."""
    rows = make_plan(_only(found, groups), images=images) if groups else ()
    return tuple(replace(row, group=row.group + before) for row in rows)


def _only(found: Duplicates, groups: Collection[ReviewGroup]) -> Duplicates:
    """What was found, with these groups in place of its own."""
    number = np.full(len(found.images), -1, np.int64)
    for place, group in enumerate(sorted(groups, key=lambda one: min(one.members))):
        number[list(group.members)] = place
    return replace(found, groups=describe_groups(found.pairs, number))


def _free_name(folder: Path) -> Path:
    numbers = (f"{REVIEW}plan{'' if n == 1 else f'-{n}'}.csv" for n in range(1, 10**6))
    return next(path for name in numbers if not (path := folder / name).exists())


def _counted(counts: Counter[str]) -> list[dict[str, Any]]:
    return [{"value": value, "count": count} for value, count in counts.most_common(200)]
