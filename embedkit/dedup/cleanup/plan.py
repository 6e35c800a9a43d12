"""A plan: which images of each group are kept, and which are removed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from embedkit.dedup.cleanup.choose import KeepSelection, candidate_of, members_of
from embedkit.dedup.cleanup.keep_policy import KeepPolicy
from embedkit.dedup.cleanup.paths import MISSING, PlainFile, find_file
from embedkit.errors import DedupError
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from embedkit.dedup.cleanup.choose import Decision
    from embedkit.dedup.cleanup.keep_policy import Candidate, Keep
    from embedkit.dedup.results import Duplicates
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Action", "PlanRow", "make_plan"]

Action = Literal["keep", "remove", "none"]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The planned action for one image.

    Attributes:
        group: Number of its group, as in ``groups.parquet``.
        action: ``keep``, ``remove``, or ``none``: it can't be acted on, and counts for nothing.
        id: Its id in the store.
        path: Its file, absolute; empty for ``none``.
        copy_of: The file that is kept in its stead; empty where it doesn't go.
        content_hash: SHA-256 (hex) of the file.
        width: Pixels.
        height: Pixels.
        nbytes: Size of the file.
        format: As found in the content.
        score: Of the pair with ``copy_of``; None where it doesn't go.
        reason: Why, in words.
    """

    group: int
    action: Action
    id: str
    path: str
    copy_of: str
    content_hash: str
    width: int
    height: int
    nbytes: int
    format: str
    score: float | None
    reason: str


def make_plan(
    found: Duplicates,
    keep: Keep = "best-quality",
    *,
    prefer: Sequence[str] = (),
    root: str | os.PathLike[str] | None = None,
    progress: bool | ProgressCallback = False,
) -> tuple[PlanRow, ...]:
    """Decides which images are kept; nothing is touched.

    Only plain files can be acted on. What lies inside an archive or behind a URL, a symbolic link,
    a file that is gone or has another size than when it was embedded, and the names of a file but
    the one that the policy puts first, get the action ``none`` with the reason. Each image that is
    to go is in a pair with one that is kept. For results of two stores the images of ``against``
    are kept, and those of the store go.

    Args:
        found: What was found.
        keep: Which image of a group is kept; see ``KeepPolicy``.
        prefer: Patterns or splits for ``path-priority`` and ``split-priority``, best first.
        root: The folder that relative ids are below; None takes the one that the store remembers.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        The rows group by group, the kept ones first.

    Raises:
        DedupError: Not one of the images is there.
        ValueError: There is no such policy, it doesn't go with ``prefer`` or with two stores, or
            there are no groups to decide about.
    """
    policy = KeepPolicy(keep, tuple(prefer))
    if found.against is not None and keep != "split-priority":
        raise ValueError("between two stores only keep=split-priority: the other store's stay")
    if found.linkage == "pairs":
        raise ValueError("only pairs were found, no groups: rethreshold with linkage=single")
    planner = _Planner(found, policy, root)
    groups = list(members_of(found))
    with reporting(progress):
        tracked = track(groups, "planning", len(groups), unit="groups")
        rows = tuple(row for members in tracked for row in planner.plan(members))
    if rows and all(row.reason == MISSING for row in rows):
        tried = " or ".join(map(str, found.store.folders(root)))
        raise DedupError(
            f"none of the {len(rows)} images was found, such as {rows[0].id} in {tried}; "
            "root=FOLDER says where relative ids start from now"
        )
    return rows


class _Planner:
    """Plans group after group, and remembers the files that it has seen."""

    def __init__(
        self, found: Duplicates, policy: KeepPolicy, root: str | os.PathLike[str] | None
    ) -> None:
        self._found = found
        self._selection = KeepSelection(found, policy)
        self._folders = found.store.folders(root)
        self._others = () if found.against is None else found.against.folders(root)
        self._is_own = found.is_of_store()
        self._seen: dict[tuple[int, int], str] = {}

    def plan(self, members: Sequence[int]) -> list[PlanRow]:
        files: dict[int, PlainFile] = {}
        problems: dict[int, str] = {}
        for image in members:
            file = self._file(image)
            if isinstance(file, str):
                problems[image] = file
            else:
                files[image] = file
        candidates = self._first_names(files, problems)
        rows = []
        for decision in self._selection.choose(candidates):
            if self._is_alone(decision):
                problems[decision.image] = "its copy in the other store can't be acted on"
            else:
                rows.append(self._row(decision, files))
        rows.sort(key=lambda row: row.action)
        return rows + [self._none(n, problems[n]) for n in members if n in problems]

    def _file(self, image: int) -> PlainFile | str:
        """The file of an image, or why it can't be acted on."""
        file = find_file(
            self._found.images.ids[image], self._folders if self._is_own[image] else self._others
        )
        if isinstance(file, str):
            return file
        if file.nbytes != self._found.images.nbytes[image]:
            return "changed since it was embedded"
        return file

    def _first_names(
        self, files: Mapping[int, PlainFile], problems: dict[int, str]
    ) -> list[tuple[int, Candidate]]:
        """What may be kept or go: of the names of one file the one that the policy puts first."""
        candidates = [
            (image, candidate_of(self._found, image, file.modified))
            for image, file in files.items()
        ]
        named = []
        for image, candidate in self._selection.rank(candidates):
            file = files[image]
            if file.inode in self._seen:
                problems[image] = f"the same file as {self._seen[file.inode]}"
            else:
                self._seen[file.inode] = file.path
                named.append((image, candidate))
        return named

    def _is_alone(self, decision: Decision) -> bool:
        return (
            self._found.against is not None
            and decision.copy_of is None
            and bool(self._found.groups.node[decision.image] < self._found.store.rows)
        )

    def _row(self, decision: Decision, files: Mapping[int, PlainFile]) -> PlanRow:
        kept = "" if decision.copy_of is None else files[decision.copy_of].path
        row = self._none(decision.image, decision.why)
        return replace(
            row,
            action="remove" if kept else "keep",
            path=files[decision.image].path,
            copy_of=kept,
            score=decision.score,
        )

    def _none(self, image: int, why: str) -> PlanRow:
        """The row of an image that can't be acted on."""
        images = self._found.images
        return PlanRow(
            group=int(self._found.groups.group[image]),
            action="none",
            id=images.ids[image],
            path="",
            copy_of="",
            content_hash=images.content_hash[image].tobytes().hex(),
            width=int(images.width[image]),
            height=int(images.height[image]),
            nbytes=int(images.nbytes[image]),
            format=images.formats[image],
            score=None,
            reason=why,
        )
