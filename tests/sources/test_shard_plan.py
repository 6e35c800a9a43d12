"""A frozen plan gives back every record, in order, and notices when it was touched."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import SourceError
from embedkit.sources.shard_plan import Plan
from embedkit.types import ImageRecord

TEXTS = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=9).filter(
    lambda text: _is_plain(text)
)
RECORDS = st.builds(
    ImageRecord,
    id=TEXTS,
    path=TEXTS,
    kind=st.sampled_from(["file", "tar", "zip", "parquet"]),
    offset=st.none() | st.integers(0, 2**60),
    nbytes=st.none() | st.integers(0, 2**60),
    key=st.none() | TEXTS,
    label=st.none() | TEXTS,
    problem=st.none() | TEXTS,
)


def _is_plain(text):
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def records(count):
    return [ImageRecord(f"{n}.jpg", f"/x/{n}.jpg") for n in range(count)]


@settings(max_examples=40)
@given(
    st.lists(RECORDS, min_size=1, max_size=9, unique_by=lambda image: image.id), st.integers(1, 10)
)
def test_round_trip(tmp_path_factory, images, shard_rows):
    folder = tmp_path_factory.mktemp("plan")
    plan = Plan.freeze(iter(images), folder, shard_rows)
    assert Plan.open(folder) == plan
    assert plan.count == len(images)
    assert plan.labelled == sum(image.label is not None for image in images)
    assert list(plan.records()) == images
    shards = [plan.shard(number) for number in range(plan.num_shards)]
    assert [record for shard in shards for record in shard] == images
    assert [len(shard) for shard in shards] == [plan.rows(n) for n in range(plan.num_shards)]
    assert all(len(shard) == shard_rows for shard in shards[:-1])
    assert plan.has_labels == any(image.label is not None for image in images)
    assert Plan.draft(images).digest == plan.digest


def test_the_digest_is_of_all_that_matters():
    plan = Plan.draft(records(3))
    assert plan.digest != Plan.draft(records(4)).digest
    assert plan.digest != Plan.draft(records(3)[::-1]).digest
    relabelled = [dataclasses.replace(record, label="x") for record in records(3)]
    assert plan.digest != Plan.draft(relabelled).digest


def test_hostile_names_are_escaped_and_fail(tmp_path):
    strange = [ImageRecord(name, "p") for name in ("a\0b", "\ud800", "fine\udcff")]
    strange.append(ImageRecord("x", "p", label="l\0\ud800"))
    found = Plan.freeze(strange, tmp_path, 9).shard(0)
    assert [record.id for record in found] == ["a\\0b", "\\ud800", "fine\udcff", "x"]
    assert [record.problem is None for record in found] == [False, False, True, True]
    assert found[3].label == "l\\0\\ud800"


def test_no_image(tmp_path):
    with pytest.raises(SourceError, match="no images found"):
        Plan.freeze([], tmp_path, 5)
    assert Plan.open(tmp_path) is None


def test_ids_that_come_again_are_renamed_and_told(tmp_path, caplog):
    given = [*records(6), *records(4), ImageRecord("1.jpg@2", "x"), *records(2)]
    plan = Plan.freeze(given, tmp_path, 5)
    assert Plan.open(tmp_path) == plan
    found = list(plan.records())
    again = ["0.jpg@2", "1.jpg@3", "2.jpg@2", "3.jpg@2", "1.jpg@2", "0.jpg@3", "1.jpg@4"]
    assert [record.id for record in found] == [*(f"{n}.jpg" for n in range(6)), *again]
    assert [record.path for record in found] == [record.path for record in given]
    assert [record.named for record in found[6:]] == [True] * 4 + [False] + [True] * 2
    assert "listed more than once" in caplog.text
    assert "0.jpg, 1.jpg, 2.jpg and 1 more" in caplog.text
    assert Plan.draft(given).digest == plan.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "plan.jsonl"]


def test_a_touched_plan_is_refused(tmp_path):
    Plan.freeze(records(3), tmp_path, 2)
    lines, header = tmp_path / "plan.jsonl", tmp_path / "plan.json"
    whole = lines.read_bytes()
    for damaged in (whole[:-1], whole.replace(b"1.jpg", b"9.jpg"), b""):
        lines.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"plan\.jsonl: damaged"):
            Plan.open(tmp_path)
    lines.write_bytes(whole)
    for text in ("{", "[]", "{}", '{"offsets": 5}', '{"offsets": [], "more": 1}'):
        header.write_text(text)
        with pytest.raises(SourceError, match=r"plan\.json: damaged"):
            Plan.open(tmp_path)


@pytest.mark.parametrize(("count", "shard_rows"), [(1, 5), (40, 7), (400, 4), (33, 1)])
def test_sample_is_spread_over_the_plan(tmp_path, count, shard_rows):
    records = [ImageRecord(f"{number:03}.jpg", f"{number:03}.jpg") for number in range(count)]
    plan = Plan.freeze(records, tmp_path, shard_rows)
    for wanted in (1, 10, 16, 50):
        ids = [record.id for record in plan.sample(wanted)]
        assert ids == sorted(set(ids))
        assert set(ids) <= {record.id for record in records}
        shards = min(plan.num_shards, 16)
        whole = min(wanted, shards * shard_rows, count)
        assert whole - shards <= len(ids) <= wanted
        assert ids == [record.id for record in plan.sample(wanted)]
    if count == 400:
        places = [int(record.id[:3]) for record in plan.sample(16)]
        assert min(places) < 30
        assert max(places) > 370
