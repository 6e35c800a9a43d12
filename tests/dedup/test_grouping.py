from __future__ import annotations

import itertools

import numpy as np
import pytest
from duplicates import make_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from embedkit.dedup.groups.grouping import LINKAGES, describe_groups, group_pairs


def as_sets(groups):
    """The groups as sets of nodes."""
    return {
        frozenset(groups.node[groups.group == number].tolist()) for number in range(len(groups))
    }


def oracle(scores, count, threshold, method):
    """Merges the closest two clusters by looking at all of them, again and again."""
    matrix = np.zeros((count, count))
    for (i, j), score in scores.items():
        matrix[i, j] = matrix[j, i] = np.float32(score)
    combine = {"average": np.mean, "complete": np.min, "single": np.max}[method]
    clusters = [[i] for i in range(count)]
    while True:
        best = max(
            ((combine(matrix[np.ix_(a, b)]), a, b) for a, b in itertools.combinations(clusters, 2)),
            key=lambda found: found[0],
            default=(0, None, None),
        )
        if best[0] < np.float32(threshold):
            return {frozenset(c) for c in clusters if len(c) > 1}
        clusters.remove(best[2])
        best[1].extend(best[2])


def random_scores(rng, count, share, threshold=0.5):
    """Scores that differ from each other, so that there are no ties."""
    all_pairs = list(itertools.combinations(range(count), 2))
    chosen = [pair for pair in all_pairs if rng.random() < share]
    values = rng.permutation(np.linspace(threshold, 1, len(chosen) + 2))[: len(chosen)]
    return dict(zip(chosen, values.tolist(), strict=True))


@pytest.mark.parametrize("method", ["single", "average", "complete"])
@pytest.mark.parametrize("seed", range(12))
def test_linkages_are_those_of_brute_force(method, seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 14))
    scores = random_scores(rng, count, rng.uniform(0.2, 1))
    threshold = float(rng.uniform(0.5, 0.8))
    scores = {pair: score for pair, score in scores.items() if score >= threshold}
    groups = group_pairs(make_pairs(scores, count, threshold=threshold), method)
    assert as_sets(groups) == oracle(scores, count, threshold, method)


@pytest.mark.parametrize("method", ["average", "complete"])
def test_linkages_are_those_of_scipy(method):
    rng = np.random.default_rng(5)
    scores = random_scores(rng, 60, 0.6)
    distance = np.ones((60, 60)) - np.eye(60)
    for (i, j), score in scores.items():
        distance[i, j] = distance[j, i] = 1 - np.float32(score)
    labels = fcluster(linkage(squareform(distance), method), 0.5, "distance")
    expected = {frozenset(np.flatnonzero(labels == n).tolist()) for n in set(labels.tolist())}
    groups = group_pairs(make_pairs(scores, 60), method)
    assert as_sets(groups) == {group for group in expected if len(group) > 1}


@settings(max_examples=80)
@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=25))
def test_stars_have_a_centre_and_leave_nobody_who_could_join(ends):
    pairs = {(min(e), max(e)): 0.6 for e in ends if e[0] != e[1]}
    groups = group_pairs(make_pairs(pairs, 12), "star")
    linked = pairs.keys() | {(j, i) for i, j in pairs}
    for star in as_sets(groups):
        assert any(all((c, m) in linked for m in star - {c}) for c in star)
    alone = groups.node[groups.group < 0].tolist()
    assert not any(pair in linked for pair in itertools.combinations(alone, 2))


def test_a_chain_is_told_and_cut():
    scores = {(i, i + 1): 0.9 - i / 100 for i in range(9)}
    chain = group_pairs(make_pairs(scores, 10), "single")
    assert as_sets(chain) == {frozenset(range(10))}
    assert chain.weakest.tolist() == [np.float32(0.82)]
    assert (chain.found.tolist(), chain.possible.tolist()) == ([9], [45])
    for method in ("average", "complete"):
        assert all(
            len(group) == 2 for group in as_sets(group_pairs(make_pairs(scores, 10), method))
        )


def test_scores_and_nearest_are_of_the_own_group():
    scores = {(0, 1): 0.9, (1, 2): 0.8, (0, 2): 0.7, (2, 3): 0.99, (3, 4): 0.6}
    groups = group_pairs(make_pairs(scores, 9), "complete")
    assert as_sets(groups) == {frozenset({0, 1}), frozenset({2, 3})}
    assert groups.group.tolist() == [0, 0, 1, 1, -1]
    np.testing.assert_array_equal(groups.score[:4], np.float32([0.9, 0.9, 0.99, 0.99]))
    assert groups.nearest.tolist() == [1, 0, 3, 2, -1]
    assert np.isnan(groups.score[4])


@pytest.mark.parametrize("method", ["single", "average", "complete", "star"])
def test_thousands_of_one_image_stay_one_group_though_they_come_as_a_star(method):
    ends = {(0, i): 1.0 for i in range(1, 10_000)}
    ends[0, 10_000] = 0.8  # an edited copy, compared with the first of them only
    pairs = make_pairs(ends, 10_001, exact=[pair for pair in ends if pair[1] < 10_000])
    groups = group_pairs(pairs, method)
    assert as_sets(groups) == {frozenset(range(10_001))}
    assert (groups.found.tolist(), groups.possible.tolist()) == ([1], [1])
    assert groups.weakest.tolist() == [np.float32(0.8)]


def test_equal_embeddings_are_one_image_too():
    scores = {(0, 1): 1.0, (0, 2): 0.9, (1, 3): 0.9, (2, 3): 0.9}
    cosine = np.array([1, 0.9, 0.9, 0.9], np.float32)
    groups = group_pairs(make_pairs(scores, 4, cosine=cosine), "complete")
    assert as_sets(groups) == {frozenset(range(4))}


@pytest.mark.parametrize("method", LINKAGES)
def test_no_pairs(method):
    groups = group_pairs(make_pairs({}, 5), method)
    assert len(groups) == len(groups.node) == 0


def test_pairs_only_and_groups_that_are_known():
    pairs = make_pairs({(0, 1): 0.9, (1, 2): 0.8}, 3)
    assert group_pairs(pairs, "pairs").group.tolist() == [-1, -1, -1]
    single = group_pairs(pairs)
    known = describe_groups(pairs, single.group)
    for name in ("node", "group", "score", "nearest", "weakest", "found", "possible"):
        np.testing.assert_array_equal(getattr(known, name), getattr(single, name))


def test_two_stores_have_rows_of_their_own():
    pairs = make_pairs({(0, 0): 0.9, (0, 1): 0.8, (2, 1): 0.7}, 3, against_rows=2)
    assert as_sets(group_pairs(pairs)) == {frozenset({0, 2, 3, 4})}
    for method in ("average", "complete"):
        with pytest.raises(ValueError, match="within a store"):
            group_pairs(pairs, method)
    with pytest.raises(ValueError, match="no linkage"):
        group_pairs(pairs, "ward")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.array([1, 0])}, "lower one|sorted"),
        ({"second": np.array([0, 2])}, "lower one"),
        ({"second": np.array([1, 3])}, "outside"),
        ({"score": np.array([0.5, 1.5], np.float32)}, "0 to 1"),
        ({"score": np.array([0.5, np.nan], np.float32)}, "0 to 1"),
        ({"exact": np.array([0, 1], np.int8)}, "exact"),
        ({"how": ({},)}, "descriptions"),
    ],
)
def test_pairs_that_make_no_sense(change, message):
    import dataclasses

    pairs = make_pairs({(0, 1): 0.9, (1, 2): 0.8}, 3)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(pairs, **change)
