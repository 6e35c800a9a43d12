"""The decisions about groups of near-duplicates; pure: nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ACTIONS", "Change", "ReviewGroup", "ReviewState"]

State = Literal["pending", "accepted", "rejected"]
ACTIONS = ("accept", "reject", "keep", "split", "merge", "undo")


@dataclass(frozen=True, slots=True)
class ReviewGroup:
    """A group and what was decided about it.

    Attributes:
        id: Its name.
        members: Places of its images among those that were found.
        keep: Those that are kept if it is accepted; at least one.
        state: ``accepted``: the others go. ``rejected``: none is a copy. Else ``pending``.
        is_as_found: Whether it has the images that the search put together.
    """

    id: str
    members: tuple[int, ...]
    keep: frozenset[int]
    state: State = "pending"
    is_as_found: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What an action changed.

    Attributes:
        changed: Names of the groups that are new or changed.
        gone: Names of the groups that are there no more.
    """

    changed: tuple[str, ...]
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Before:
    """What there was before an action: groups, None for one that wasn't there; and the order."""

    groups: dict[str, ReviewGroup | None]
    order: list[str] | None


class ReviewState:
    """All groups in order, and the way back.

    Args:
        groups: As they were found.
    """

    def __init__(self, groups: Sequence[ReviewGroup]) -> None:
        self._groups = {group.id: group for group in groups}
        self._order = [group.id for group in groups]
        self._history: list[_Before] = []
        self._next = len(groups)

    @property
    def groups(self) -> list[ReviewGroup]:
        """All groups, in order."""
        return [self._groups[name] for name in self._order]

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to take back."""
        return bool(self._history)

    def group(self, name: str) -> ReviewGroup:
        """A group by its name.

        Raises:
            KeyError: There is none.
        """
        return self._groups[name]

    def apply(self, action: str, name: str, items: Sequence[int] = (), other: str = "") -> Change:
        """Carries out an action other than ``undo``.

        Args:
            action: One of ``ACTIONS``.
            name: The group.
            items: Images of the group: those to keep, or to split off. To ``accept`` without any
                keeps what is proposed.
            other: The group to merge into this one.

        Raises:
            KeyError: There is no such group.
            ValueError: The action can't be done; the message says why.
        """
        group = self._groups[name]
        if unknown := set(items) - set(group.members):
            raise ValueError(f"{len(unknown)} of the images aren't in the group")
        touched = (name, other) if action == "merge" else (name, self._new_name)
        is_ordered = action in {"split", "merge"}
        before = _Before(
            {one: self._groups.get(one) for one in touched},
            list(self._order) if is_ordered else None,
        )
        if action == "accept":
            keep = frozenset(items) or group.keep
            change = self._put(replace(group, state="accepted", keep=keep))
        elif action == "reject":
            change = self._put(replace(group, state="rejected"))
        elif action == "keep":
            if not items:
                raise ValueError("at least one image of a group must be kept")
            change = self._put(replace(group, keep=frozenset(items)))
        elif action == "split":
            change = self._split(group, items)
        elif action == "merge":
            change = self._merge(group, other)
        else:
            raise ValueError(f"there is no action {action!r}")
        self._history.append(before)
        return change

    def propose(self, group: ReviewGroup, keep: frozenset[int]) -> ReviewGroup:
        """Says what of a group is to be kept unless somebody chooses; no action to take back.

        Returns:
            The group as it is now; the given one if it was changed or is gone meanwhile.
        """
        if self._groups.get(group.id) is not group:
            return group
        self._groups[group.id] = replace(group, keep=keep)
        return self._groups[group.id]

    def undo(self) -> Change:
        """Takes the last action back.

        Raises:
            ValueError: There is none.
        """
        if not self._history:
            raise ValueError("there is nothing to take back")
        before = self._history.pop()
        changed = [name for name, group in before.groups.items() if group is not None]
        gone = [
            name
            for name, group in before.groups.items()
            if group is None and self._groups.pop(name, None) is not None
        ]
        for name, group in before.groups.items():
            if group is not None:
                self._groups[name] = group
        if before.order is not None:
            self._order = before.order
        return Change(tuple(changed), tuple(gone))

    def copy(self) -> ReviewState:
        """The same state, to try an action on."""
        other = ReviewState(())
        other._groups, other._order = dict(self._groups), list(self._order)
        other._history, other._next = list(self._history), self._next
        return other

    @property
    def _new_name(self) -> str:
        return f"g{self._next}"

    def _put(self, group: ReviewGroup) -> Change:
        self._groups[group.id] = group
        return Change((group.id,))

    def _split(self, group: ReviewGroup, items: Sequence[int]) -> Change:
        """Makes two groups of one; an image alone is in no group."""
        chosen = set(items)
        if not chosen or len(chosen) == len(group.members):
            raise ValueError("split off some images of the group, not none and not all")
        rest = tuple(image for image in group.members if image not in chosen)
        parts = [(group.id, rest), (self._new_name, tuple(sorted(chosen)))]
        self._next += 1
        place = self._order.index(group.id)
        del self._groups[group.id], self._order[place]
        changed = []
        for name, members in reversed(parts):
            if len(members) > 1:
                keep = (group.keep & set(members)) or frozenset(members[:1])
                self._groups[name] = ReviewGroup(name, members, keep, is_as_found=False)
                self._order.insert(place, name)
                changed.append(name)
        return Change(tuple(reversed(changed)), () if len(rest) > 1 else (group.id,))

    def _merge(self, group: ReviewGroup, other: str) -> Change:
        if other == group.id:
            raise ValueError("a group can't be merged with itself")
        members = tuple(sorted((*group.members, *self._groups[other].members)))
        del self._groups[other]
        self._order.remove(other)
        merged = ReviewGroup(group.id, members, group.keep, is_as_found=False)
        self._groups[group.id] = merged
        return Change((group.id,), (other,))
