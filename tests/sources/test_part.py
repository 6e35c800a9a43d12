"""Parts of a plan: every shard belongs to exactly one."""

import pytest

from embedkit.sources.part import Part


@pytest.mark.parametrize("of", [1, 2, 3, 7, 8, 20])
@pytest.mark.parametrize("num_shards", [1, 5, 8, 61])
def test_every_shard_is_in_one_part(num_shards, of):
    parts = [Part(number, of).shards(num_shards) for number in range(1, of + 1)]
    assert [shard for part in parts for shard in part] == list(range(num_shards))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_reading():
    assert Part.read("3/8") == Part.read((3, 8)) == Part(3, 8)
    assert str(Part(3, 8)) == "3/8"


@pytest.mark.parametrize("given", ["0/8", "9/8", "1/0", (0, 3), (4, 3)])
def test_numbers_are_from_1_to_n(given):
    with pytest.raises(ValueError, match="part must be from 1/"):
        Part.read(given)


@pytest.mark.parametrize("given", ["3", "3/", "a/b", "1/2/3", "-1/3", (1,), 3, (1.0, 2)])
def test_anything_else_is_refused(given):
    with pytest.raises(ValueError, match="part must be such as '3/8'"):
        Part.read(given)


def test_parts_of_shards():
    assert Part.of_shards({0, 4}, 5, 3) == (Part(1, 3), Part(3, 3))
    assert Part.of_shards(set(), 5, 3) == ()
