"""Decisions about groups, and the way back."""

import random

import pytest

from embedkit.server.review.state import ReviewGroup, ReviewState


def groups(count=4):
    return [
        ReviewGroup(f"g{n}", (3 * n, 3 * n + 1, 3 * n + 2), frozenset([3 * n]))
        for n in range(count)
    ]


def test_accept_and_reject_say_what_was_decided():
    state = ReviewState(groups())
    assert state.apply("accept", "g1").changed == ("g1",)
    assert state.apply("reject", "g2").changed == ("g2",)
    assert [one.state for one in state.groups] == ["pending", "accepted", "rejected", "pending"]


def test_what_is_proposed_stays_unless_somebody_chooses():
    state = ReviewState(groups())
    name = state.groups[0].id
    members = state.groups[0].members
    before = state.groups[0]
    state.propose(before, frozenset(members[1:2]))
    assert not state.can_undo
    state.apply("accept", name)
    assert state.group(name).keep == {members[1]}
    state.undo()
    state.apply("accept", name, members[:1])
    assert state.group(name).keep == {members[0]}
    state.undo()
    assert state.group(name).keep == {members[1]}
    assert state.propose(before, frozenset(members[2:])) is before  # changed meanwhile
    assert state.group(name).keep == {members[1]}


def test_keep_chooses_what_stays():
    state = ReviewState(groups())
    state.apply("keep", "g1", [4, 5])
    assert state.group("g1").keep == {4, 5}


def test_split_makes_a_group_of_the_images_and_leaves_the_rest():
    state = ReviewState([ReviewGroup("g0", (0, 1, 2, 3), frozenset([0])), *groups(2)[1:]])
    change = state.apply("split", "g0", [2, 3])
    assert (change.changed, change.gone) == (("g0", "g2"), ())
    assert [(one.id, one.members) for one in state.groups[:2]] == [("g0", (0, 1)), ("g2", (2, 3))]
    assert state.group("g2").keep == {2}
    assert not state.group("g0").is_as_found


def test_split_of_all_but_one_leaves_no_group_of_one_image():
    state = ReviewState(groups())
    change = state.apply("split", "g1", [4, 5])
    assert (change.changed, change.gone) == (("g4",), ("g1",))
    change = state.apply("split", "g4", [5])
    assert (change.changed, change.gone) == ((), ("g4",))
    assert [one.id for one in state.groups] == ["g0", "g2", "g3"]


def test_merge_puts_two_groups_together():
    state = ReviewState(groups())
    change = state.apply("merge", "g2", other="g0")
    assert (change.changed, change.gone) == (("g2",), ("g0",))
    assert state.group("g2").members == (0, 1, 2, 6, 7, 8)
    assert state.group("g2").keep == {6}


@pytest.mark.parametrize(
    ("action", "name", "items", "other", "error"),
    [
        ("keep", "g1", [], "", ValueError), ("keep", "g1", [0], "", ValueError),
        ("split", "g1", [], "", ValueError), ("split", "g1", [3, 4, 5], "", ValueError),
        ("merge", "g1", [], "g1", ValueError), ("merge", "g1", [], "g9", KeyError),
        ("accept", "g9", [], "", KeyError), ("dance", "g1", [], "", ValueError),
    ],
)  # fmt: skip
def test_what_cant_be_done_changes_nothing(action, name, items, other, error):
    state = ReviewState(groups())
    before = state.groups
    with pytest.raises(error):
        state.apply(action, name, items, other)
    assert state.groups == before
    assert not state.can_undo


def test_undo_takes_back_every_action_to_the_first():
    rng = random.Random(0)
    state = ReviewState(groups(12))
    history = [state.groups]
    while len(history) < 300:
        group = rng.choice(state.groups)
        action = rng.choice(["accept", "reject", "keep", "split", "merge"])
        items = rng.sample(group.members, rng.randrange(len(group.members) + 1))
        try:
            state.apply(action, group.id, items, rng.choice(state.groups).id)
        except ValueError:
            continue
        history.append(state.groups)
        if len(state.groups) < 3 or rng.random() < 0.3:
            state.undo()
            history.pop()
            assert state.groups == history[-1]
    while len(history) > 1:
        history.pop()
        change = state.undo()
        assert state.groups == history[-1]
        assert {*change.changed} <= {one.id for one in state.groups}
        assert not {*change.gone} & {one.id for one in state.groups}
    assert not state.can_undo
    with pytest.raises(ValueError, match="nothing to take back"):
        state.undo()
