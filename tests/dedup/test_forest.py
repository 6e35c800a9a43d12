"""The forest of comparisons: few pairs are compared, and no doubtful one joins two groups."""

from __future__ import annotations

import numpy as np
import pytest

from embedkit.dedup.candidates.neighbours import nearest
from embedkit.dedup.scoring.pixel_model import pixel_odds, prior_of, threshold_for
from embedkit.dedup.verification import forest
from embedkit.dedup.verification.agreement import Agreement
from embedkit.dedup.verification.forest import implied_pairs, verify_forest
from embedkit.dedup.verification.geometric import Evidence
from embedkit.dedup.verification.pair_queue import Groups, PairQueue


class Truth:
    """Compares by known groups; the odds of some pairs can be set."""

    def __init__(self, group_of, odds=None):
        self.group_of, self.odds, self.compared = group_of, odds or {}, []

    def compare(self, pairs):
        self.compared += pairs
        return list(pairs)  # the pair itself stands for its evidence

    def judge(self, pairs):
        same = [6.0 if self.group_of[a] == self.group_of[b] else -6.0 for a, b in pairs]
        return np.array([self.odds.get(p, one) for p, one in zip(pairs, same, strict=True)])


def run(truth, pairs, images, same=()):
    return verify_forest(pairs, same, truth.compare, truth.judge, images)


def every_pair(count):
    return [(a, b) for a in range(count) for b in range(a + 1, count)]


def test_pairs_that_follow_are_not_compared():
    group_of = np.repeat(np.arange(4), 28)
    truth = Truth(group_of)
    pairs = sorted(every_pair(112), key=lambda pair: group_of[pair[0]] != group_of[pair[1]])
    found = run(truth, pairs, 112)
    inside = [pair for pair in truth.compared if group_of[pair[0]] == group_of[pair[1]]]
    assert len(inside) < 4 * 27 * 1.5  # of 1,512
    implied = implied_pairs(found.odds, [])
    positive = {pair for pair, odds in found.odds.items() if odds > 0} | set(implied)
    assert positive == {pair for pair in pairs if group_of[pair[0]] == group_of[pair[1]]}


def test_equal_bytes_are_not_compared():
    truth = Truth([0, 0, 0])
    found = run(truth, [(1, 2)], 3, same=[(0, 1)])
    assert truth.compared == [(1, 2), (0, 2)] or truth.compared == [(1, 2)]
    assert implied_pairs(found.odds, [(0, 1)]).keys() <= {(0, 2)}


@pytest.mark.parametrize("odds", [1.0, 9.0])
def test_one_wrong_link_joins_no_two_groups(odds):
    """However sure it is of itself: such as two photographs pasted into the same third one."""
    group_of = [0, 0, 0, 1, 1, 1]
    truth = Truth(group_of, {(2, 3): odds})
    pairs = [(0, 1), (1, 2), (3, 4), (4, 5), (2, 3), *every_pair(6)]
    found = run(truth, list(dict.fromkeys(pairs)), 6)
    positive = {pair for pair, value in found.odds.items() if value > 0}
    positive |= set(implied_pairs(found.odds, []))
    assert {(0, 1), (4, 5)} <= positive
    wrong = {pair for pair in positive if group_of[pair[0]] != group_of[pair[1]]}
    assert all(2 in pair for pair in wrong)  # one image at most is in the wrong group
    assert (odds == 9.0) or not wrong


def test_the_search_ends_where_it_finds_nothing(monkeypatch):
    monkeypatch.setattr(forest, "_FEWEST_COMPARED", 100)
    truth = Truth(np.arange(200))
    found = run(truth, every_pair(200), 200)
    assert len(truth.compared) < 400
    assert found.left == 19_900 - len(truth.compared)


def test_an_image_that_can_not_be_read_has_no_odds():
    found = verify_forest([(0, 1)], [], lambda pairs: [None], lambda evidence: np.empty(0), 2)
    assert found.evidence == {(0, 1): None}
    assert not found.odds


def test_implied_pairs_have_the_odds_of_the_weakest_link():
    implied = implied_pairs({(0, 1): 5.0, (1, 2): 2.0, (2, 3): 4.0, (0, 3): -1.0}, [])
    assert implied == {(0, 2): 2.0, (0, 3): 2.0, (1, 3): 2.0}


@pytest.mark.parametrize("exact", [True, False])
def test_the_nearest_are_those_of_all_products(exact):
    rows = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found, cosines = nearest(rows[:50], rows, 5, exact=exact)
    expected = np.argsort(-(rows[:50] @ rows.T), axis=1)[:, :5]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-5)
    few, _ = nearest(rows[:2], rows[:3], 5)
    assert (few[:, 3:] == -1).all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_prior_is_the_share_of_copies(share):
    rng = np.random.default_rng(0)
    copies = rng.random(20_000) < share
    odds = rng.normal(np.where(copies, 2, -2), 2)  # log-likelihood ratios of two normals
    assert 1 / (1 + np.exp(-prior_of(odds))) == pytest.approx(share, rel=0.15)


def test_agreement_in_few_places_is_worth_less():
    few, many = (
        Evidence(Agreement(0.8, 0.85, 0.0, windows), 0.0, 0.0, 0.0, 0, 0, 1.0, {})
        for windows in (1000, 20_000)
    )
    less, more = pixel_odds([few, many])
    assert 0 < less < more - 4


def test_a_higher_precision_needs_a_higher_score():
    asked = (0.5, 0.9, 0.98, 0.985, 0.99, 0.999, 1.0)
    assert [threshold_for(one) for one in asked] == [0.5, 0.5, 0.6, 0.7, 0.7, 0.99, 0.99]


def test_groups_that_were_compared_in_vain_are_compared_again_last(monkeypatch):
    group_of = np.repeat(np.arange(60), 3)
    images = len(group_of)
    truth = Truth(group_of)
    inside = [pair for pair in every_pair(images) if group_of[pair[0]] == group_of[pair[1]]]
    across = [pair for pair in every_pair(images) if group_of[pair[0]] != group_of[pair[1]]]
    monkeypatch.setattr(forest, "_PAIRS_AT_ONCE", 16)
    found = run(truth, inside + across, images)
    pairs_of_groups = 60 * 59 // 2
    assert found.left > 0
    assert len(truth.compared) < 120 + pairs_of_groups * 1.2 + 316  # of 16,110


def test_an_image_that_is_unlike_one_of_a_group_is_found_to_be_like_another():
    truth = Truth([0, 0, 0, 0], {(0, 3): -4.0})
    found = run(truth, [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)], 4)
    assert found.odds[1, 3] > 0 or found.odds[2, 3] > 0


def test_groups_stay_apart_when_they_grow():
    groups = Groups()
    groups.set_apart(0, 1)
    groups.join(0, 2)
    groups.join(3, 1)
    groups.join(4, 3)
    assert groups.are_apart(2, 4)
    assert groups.are_apart(4, 2)
    assert not groups.are_apart(2, 5)
    groups.join(2, 4)
    assert groups.of(0) == groups.of(1)
    assert not groups.are_apart(0, 1)
    assert sorted(groups.members(3)) == [0, 1, 2, 3, 4]


def test_a_queue_gives_no_pair_that_another_one_may_make_superfluous():
    queue = PairQueue([(0, 1), (1, 2), (0, 2), (3, 4)], Groups(), sets_aside=True)
    assert queue.next_block(10) == [(0, 1), (1, 2), (3, 4)]
    assert len(queue) == 1
    assert queue.next_block(10) == [(0, 2)]
    assert not queue.next_block(10)
    assert len(queue) == 0


def test_links_that_are_not_clear_wait_for_the_groups_of_clear_ones():
    """Such as one caption over two dark photographs: the captions' pairs come first."""
    group_of = [0, 0, 0, 0, 1, 1, 1, 1]
    truth = Truth(group_of, {(3, 4): 3.0})  # images 3 and 4 have the same caption
    found = run(truth, [(3, 4), (0, 3), (4, 7), *every_pair(8)], 8)
    assert found.odds[3, 4] < 0
    positive = {pair for pair, odds in found.odds.items() if odds > 0}
    positive |= set(implied_pairs(found.odds, []))
    assert positive == {pair for pair in every_pair(8) if (pair[0] < 4) == (pair[1] < 4)}


def test_no_pair_is_compared_twice():
    truth = Truth([0] * 6, {(0, 1): 1.0, (2, 3): 1.0, (1, 2): 1.0})
    run(truth, [(0, 1), (2, 3), (1, 2), *every_pair(6)], 6)
    assert len(truth.compared) == len(set(truth.compared))


@pytest.mark.parametrize(
    ("images", "copies", "asked"), [(100, 0, True), (6000, 0.01, False), (6000, 0.8, True)]
)
def test_keypoints_vote_where_images_are_few_or_copies_not_rare(images, copies, asked):
    group_of = np.arange(images)
    group_of[: int(copies * images)] //= 2
    truth = Truth(group_of)
    votes = [(first, first + 1) for first in range(0, images - 1, 2)]
    ranked = [(first, first + 3) for first in range(1000 * (copies < 0.5))] + votes
    calls = []

    def vote():
        calls.append(1)
        return votes

    verify_forest(
        [pair for pair in ranked if pair[1] < images], [], truth.compare, truth.judge, images, vote
    )
    assert bool(calls) == asked


@pytest.mark.parametrize(("voting", "joined"), [(0, False), (2, False), (3, True), (5, True)])
def test_an_image_alone_is_joined_by_one_doubtful_link_if_most_of_the_group_vote(voting, joined):
    """Such as one under text: many of its keypoints are left, few of its windows agree."""
    group_of = [0, 0, 0, 0, 0, 1]
    truth = Truth(group_of, {(0, 5): 2.0})
    inside = [pair for pair in every_pair(6) if pair[1] < 5]
    votes = [*inside, *((image, 5) for image in range(voting))]
    found = verify_forest([(0, 5)], [], truth.compare, truth.judge, 6, lambda: votes)
    assert (found.odds[0, 5] > 5.0) == joined
    assert (found.odds[0, 5] > 0.0) == joined


@pytest.mark.parametrize(("link", "sizes"), [(2.0, (5, 3)), (9.0, (5, 3)), (2.0, (3, 1))])
def test_votes_join_no_groups_and_nothing_to_a_small_one(link, sizes, monkeypatch):
    """Of one scene two photographs, each with copies: the keypoints of all of them vote."""
    monkeypatch.setattr(forest, "_PAIRS_AT_ONCE", 1)
    group_of = np.repeat([0, 1], sizes)
    images, first = len(group_of), sizes[0]
    truth = Truth(group_of, {(0, first): link})
    votes = sorted(every_pair(images), key=lambda pair: group_of[pair[0]] != group_of[pair[1]])
    found = verify_forest([], [], truth.compare, truth.judge, images, lambda: votes)
    assert found.odds[0, first] < 0


def test_what_was_set_aside_is_compared_in_the_order_of_its_votes(monkeypatch):
    monkeypatch.setattr(forest, "_PAIRS_AT_ONCE", 1)
    group_of = [0, 0, 0, 0, 0, 1, 2, 2]
    truth = Truth(group_of)
    inside = [(0, 1), (1, 2), (2, 3), (3, 4), (6, 7)]
    votes = [*inside, (0, 6), (0, 5), (1, 6), *((image, 5) for image in range(1, 5))]
    verify_forest([], [], truth.compare, truth.judge, 8, lambda: votes)
    assert truth.compared == [*inside, (0, 6), (0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (1, 6)]


@pytest.mark.parametrize(("size", "same", "joined"), [(3, 0, True), (4, 0, False), (4, 1, True)])
def test_between_large_groups_all_pairs_that_are_asked_must_agree(size, same, joined, monkeypatch):
    """Such as copies of two photographs of one scene: of many pairs some agree by chance."""
    monkeypatch.setattr(forest, "_PAIRS_AT_ONCE", 1)
    group_of = np.repeat([0, 1 - same], size)
    chance = {(size - 1, size): 9.0, (0, size): 6.0, (size - 1, size + 1): 6.0}
    truth = Truth(group_of, {} if same else chance)
    inside = [pair for pair in every_pair(2 * size) if (pair[0] < size) == (pair[1] < size)]
    found = run(truth, [*inside, (size - 1, size)], 2 * size)
    assert (found.odds[size - 1, size] > 0) == joined
