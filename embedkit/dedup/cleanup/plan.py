"""A plan: which images of each group are kept, and which are removed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedkit.dedup.cleanup.choose import KeepSelection, candidate_of, members_of
from embedkit.dedup.cleanup.compare import PixelComparison, compared_mark
from embedkit.dedup.cleanup.image_sides import ImageSides
from embedkit.dedup.cleanup.keep_policy import KeepPolicy
from embedkit.dedup.cleanup.original import with_traces
from embedkit.dedup.cleanup.paths import MISSING, PlainFile
from embedkit.dedup.cleanup.rejections import read_rejected, without_pairs
from embedkit.dedup.groups.grouping import copy_groups
from embedkit.errors import DedupError
from embedkit.utils.parallel import in_single_threads
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    from embedkit.dedup.cleanup.choose import Decision
    from embedkit.dedup.cleanup.keep_policy import Candidate, Keep
    from embedkit.dedup.results import Duplicates
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Action", "PlanRow", "make_plan"]

Action = Literal["keep", "remove", "none"]

_SAME_FILE = "the same file as"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The planned action for one image.

    Attributes:
        group: Number of its group, as in ``groups.parquet``.
        action: ``keep``, ``remove``, or ``none``: it can't be acted on, and counts for nothing.
        id: Its id in the store.
        path: Its file, absolute; of an archive's member the archive, ``#`` and its name there;
            empty for ``none``.
        copy_of: The path that is kept in its stead; empty where it isn't removed.
        content_hash: SHA-256 (hex) of the file.
        width: Pixels.
        height: Pixels.
        nbytes: Size of the file.
        format: As found in the content.
        score: Of the pair with ``copy_of``; None where it isn't removed.
        reason: Why, in words.
        compared: What it was compared by with ``copy_of``, see ``compared_mark``; empty where it
            isn't removed.
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
    compared: str = ""


def make_plan(
    found: Duplicates,
    keep: Keep = "original",
    *,
    prefer: Sequence[str] = (),
    root: str | os.PathLike[str] | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    reject: str | os.PathLike[str] | None = None,
    protect: Sequence[str] = (),
    keepers: Collection[str] = (),
    progress: bool | ProgressCallback = False,
) -> tuple[PlanRow, ...]:
    """Decides which images are kept; nothing is touched.

    An image is removed only if it has the bytes of one that is kept, or if both were read and every
    detail of it was found in the kept one. Otherwise it stays, with the reason.

    Plain files and members of archives can be acted on. What lies behind a URL, a symbolic link, a
    file that is gone or has another size than when it was embedded, and the names of a file but
    the one that the policy puts first, get the action ``none`` with the reason. For results of two
    stores the images of ``against`` are kept, and those of the store go.

    Args:
        found: What was found.
        keep: Which image of a group is kept; see ``KeepPolicy``.
        prefer: Patterns or splits for ``path-priority`` and ``split-priority``, best first.
        root: The folder that relative ids are below. None takes the one that the store remembers,
            the working folder, or the one that the duplicates lie in, and refuses to choose
            between different files.
        images: Where the pixels are read from: the sources that the stores were embedded from, or
            their new places. If there are none, the ids are read as paths.
        reject: A CSV file of pairs of ids that are no copies, in its first two columns.
        protect: Patterns of ids that are never removed; ``*`` matches folders too.
        keepers: Ids that are kept, before what the policy puts first, as somebody chose them.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        The rows group by group, the kept ones first.

    Raises:
        DedupError: Not one of the images is there, one is there in two folders, or ``reject``
            can't be read.
        SourceError: ``images`` has none of the images.
        ValueError: There is no such policy, it doesn't go with ``prefer`` or with two stores, or
            there are no groups to decide about.
    """
    policy = KeepPolicy(keep, tuple(prefer))
    if found.against is not None:
        if keep not in {"original", "split-priority"}:
            raise ValueError("between two stores only keep=split-priority: the other store's stay")
        policy = KeepPolicy("split-priority", tuple(prefer))
    if found.linkage == "pairs":
        raise ValueError("only pairs were found, no groups: rethreshold with linkage=single")
    rejected = frozenset[frozenset[str]]()
    if reject is not None:
        rejected = read_rejected(Path(reject))
        found = without_pairs(found, rejected)
    with ExitStack() as stack:
        stack.enter_context(reporting(progress))
        sides = ImageSides(found, images, stack, root)
        groups = members_of(found)
        if groups:
            sides.refuse_missing()
        planner = _Planner(found, groups, policy, sides, rejected, protect, frozenset(keepers))
        planned = stack.enter_context(closing(in_single_threads(planner.plan, range(len(groups)))))
        tracked = track(planned, "comparing pixels", len(groups), unit="groups")
        rows = tuple(row for _, some in tracked for row in some)
    if rows and all(row.reason == MISSING for row in rows):
        tried = " or ".join(map(str, sides.folders[0]))
        raise DedupError(
            f"none of the {len(rows)} images was found, such as {rows[0].id} in {tried}; "
            "root=FOLDER says where relative ids start from now"
        )
    return rows


class _Planner:
    """Plans each group by itself; several threads may use it."""

    def __init__(
        self,
        found: Duplicates,
        groups: Sequence[Sequence[int]],
        policy: KeepPolicy,
        sides: ImageSides,
        rejected: frozenset[frozenset[str]],
        protect: Sequence[str],
        keepers: frozenset[str],
    ) -> None:
        self._found = found
        self._groups = groups
        self._policy = policy
        self._sides = sides
        self._rejected = rejected
        protected = {
            image
            for image, name in enumerate(found.images.ids)
            if any(fnmatchcase(name, pattern) for pattern in protect)
        }
        chosen = [image for image, name in enumerate(found.images.ids) if name in keepers]
        self._selection = KeepSelection(found, policy, protected, chosen)
        self._copies = copy_groups(found.pairs) if policy.keep == "original" else None
        self._files: dict[int, PlainFile | str] = {}
        self._archived = set[int]()
        self._first_of: dict[tuple[object, ...], tuple[int, str]] = {}  # its group and path
        for number, members in enumerate(groups):
            for image in members:
                file = self._files[image] = self._file(image)
                if not isinstance(file, str):
                    self._first_of.setdefault(_identity(file), (number, file.path))
                    if file.is_member:
                        self._archived.add(image)

    def plan(self, number: int) -> list[PlanRow]:
        """The rows of a group."""
        members = self._groups[number]
        files: dict[int, PlainFile] = {}
        problems: dict[int, str] = {}
        for image in members:
            file = self._files[image]
            if isinstance(file, str):
                problems[image] = file
                continue
            first, path = self._first_of[_identity(file)]
            if first == number:
                files[image] = file
            else:
                problems[image] = f"{_SAME_FILE} {path}"
        comparison = PixelComparison(self._sides.read, resolution=self._policy.keep == "original")
        candidates = self._first_names(files, problems, comparison)
        rows = []
        why_not = partial(self._why_not, comparison)
        for decision in self._selection.choose(candidates, why_not):
            if self._is_alone(decision):
                problems[decision.image] = "its copy in the other store can't be acted on"
            else:
                rows.append(self._row(decision, files))
        rows.sort(key=lambda row: row.action)
        return rows + [self._none(n, problems[n]) for n in members if n in problems]

    def _why_not(self, comparison: PixelComparison, image: int, kept: int) -> str:
        """Why an image may not be removed for another one; empty if it may."""
        images = self._found.images
        if frozenset((images.ids[image], images.ids[kept])) in self._rejected:
            return "this pair is rejected"
        if (image in self._archived) != (kept in self._archived):
            return "only one of the two is inside an archive"
        if (images.content_hash[image] == images.content_hash[kept]).all():
            return ""
        return comparison.why_not(self._sides.key(image), self._sides.key(kept))

    def _file(self, image: int) -> PlainFile | str:
        """The file of an image, or why it can't be acted on."""
        file = self._sides.file(image)
        if isinstance(file, str):
            return file
        if not file.is_member and file.nbytes != self._found.images.nbytes[image]:
            return "changed since it was embedded"
        return file

    def _first_names(
        self,
        files: Mapping[int, PlainFile],
        problems: dict[int, str],
        comparison: PixelComparison,
    ) -> list[tuple[int, Candidate]]:
        """What may be kept or go: of the names of one file the one that the policy puts first."""
        candidates = [
            (image, candidate_of(self._found, image, file.modified))
            for image, file in files.items()
        ]
        if self._copies is not None:
            candidates = with_traces(
                candidates, self._found.images.content_hash, self._copies,
                lambda image: comparison.traces(self._sides.key(image)),
            )  # fmt: skip
        named, seen = [], dict[tuple[object, ...], str]()
        for image, candidate in self._selection.rank(candidates):
            file = files[image]
            identity = _identity(file)
            if identity in seen:
                problems[image] = f"{_SAME_FILE} {seen[identity]}"
            else:
                seen[identity] = file.path
                named.append((image, candidate))
        return named

    def _is_alone(self, decision: Decision) -> bool:
        return (
            self._found.against is not None
            and decision.copy_of is None
            and bool(self._found.groups.node[decision.image] < self._found.store.rows)
        )

    def _row(self, decision: Decision, files: Mapping[int, PlainFile]) -> PlanRow:
        row = replace(self._none(decision.image, decision.why), path=files[decision.image].path)
        if decision.copy_of is None:
            return replace(row, action="keep")
        kept_hash = self._found.images.content_hash[decision.copy_of].tobytes().hex()
        return replace(
            row,
            action="remove",
            copy_of=files[decision.copy_of].path,
            score=decision.score,
            compared=compared_mark(row.content_hash, kept_hash),
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


def _identity(file: PlainFile) -> tuple[object, ...]:
    """What all names of one file have in common."""
    return (*file.inode, file.path) if file.is_member else file.inode
