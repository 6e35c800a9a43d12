"""Progress: stages count, and the callback of the moment hears them."""

import inspect
import sys
import threading

import pytest
from images import write_photos

import embedkit
from embedkit import Progress
from embedkit.utils import progress as module
from embedkit.utils.progress import Stage, reporting, silent, track


@pytest.fixture
def clock(monkeypatch):
    times = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: times[0])
    return times


def test_a_stage_reports_each_change_with_its_rate_and_the_time_left(clock):
    seen = []
    with reporting(seen.append):
        stage = Stage("embedding", 100, unit="images", done=40, failed=1)
        clock[0] += 2
        stage.add(20, failed=3)
    assert seen == [
        Progress("embedding", 40, 100, 1, 0.0, 0.0, "images"),
        Progress("embedding", 60, 100, 4, 2.0, 10.0, "images"),
    ]
    assert [one.remaining for one in seen] == [None, 4.0]
    assert not any(one.may_end_early for one in seen)


def test_a_stage_is_complete_at_its_end_but_not_after_an_error():
    seen = []
    with reporting(seen.append):
        with Stage("training"):
            pass
        with Stage("tuning", 9):
            pass
        with pytest.raises(OSError, match="full"), Stage("writing", 5):
            raise OSError("full")
    assert [(one.stage, one.done, one.total) for one in seen] == [
        ("training", 0, None), ("training", 0, 0),
        ("tuning", 0, 9), ("tuning", 9, 9),
        ("writing", 0, 5),
    ]  # fmt: skip


def test_track_counts_what_was_dealt_with(clock):
    seen, dealt = [], []
    with reporting(seen.append):
        for item in track(["a", "bb", "ccc"], "reading", 6, unit="bytes", size=len):
            clock[0] += 1
            dealt.append((item, seen[-1].done))
    assert dealt == [("a", 0), ("bb", 1), ("ccc", 3)]
    assert (seen[-1].done, seen[-1].total) == (6, 6)


def test_track_of_many_small_items_reports_ten_times_a_second(clock):
    seen = []
    with reporting(seen.append):
        for _ in track(range(1000), "listing"):
            clock[0] += 0.001
    assert 10 <= len(seen) <= 13
    assert seen[-1].done == seen[-1].total == 1000


def test_outer_callbacks_hear_inner_calls_too():
    outer, inner = [], []
    with reporting(outer.append):
        with reporting(False), reporting(True), reporting(inner.append):
            Stage("one")
        Stage("two")
        with silent():
            Stage("three")
    assert [one.stage for one in outer] == ["one", "two"]
    assert [one.stage for one in inner] == ["one"]


def test_nothing_is_reported_outside_and_in_other_threads(capsys):
    seen = []
    with reporting(seen.append):
        thread = threading.Thread(target=lambda: Stage("elsewhere"))
        thread.start()
        thread.join()
    Stage("after", 3).add()
    assert (seen, capsys.readouterr()) == ([], ("", ""))


def test_a_stage_may_be_advanced_from_any_thread():
    seen = []
    with reporting(seen.append):
        stage = Stage("copying", 2)
        thread = threading.Thread(target=stage.add)
        thread.start()
        thread.join()
    assert [one.done for one in seen] == [0, 1]


def test_true_shows_a_bar(monkeypatch):
    shown = []

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            shown.append("removed")

        def update(self, progress):
            shown.append(progress.stage)

    monkeypatch.setattr("embedkit.utils.progress_bar.ProgressBar", Bar)
    with reporting(True):
        Stage("one")
    assert shown == ["one", "removed"]
    assert "rich" not in vars(sys.modules["embedkit.utils.progress"])


# Public functions that take no progress, because they are quick or give their results one by one.
QUICK = {
    "classify", "decode_image", "load_probe", "predict", "read_duplicates", "read_plan",
    "rethreshold", "save_probe", "write_clusters", "write_plan",
    "write_selection", "write_subset",
}  # fmt: skip


def public_functions():
    for name in embedkit.__all__:
        if inspect.isfunction(getattr(embedkit, name)):
            yield name, getattr(embedkit, name)
    for name in ("build", "add", "compact", "evaluate"):
        yield f"Index.{name}", getattr(embedkit.Index, name)


def test_every_public_function_that_may_take_long_reports_progress():
    without = set()
    for name, function in public_functions():
        parameter = inspect.signature(function).parameters.get("progress")
        if parameter is None:
            without.add(name)
        else:
            assert parameter.kind is parameter.KEYWORD_ONLY, name
            assert parameter.default is False, name
    assert without == QUICK


def test_a_public_function_shows_what_it_does(tmp_path, capsys, monkeypatch):
    write_photos(tmp_path / "photos", 3)
    store, seen = tmp_path / "a.h5", []
    embedkit.extract(tmp_path / "photos", store, backbone="tiny", progress=seen.append)
    assert {one.stage for one in seen} >= {"listing", "embedding"}
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("embedkit.utils.progress_bar._LINE_SECONDS", 0.0)
    embedkit.verify(store, progress=True)
    assert "verifying: 3/3 rows" in capsys.readouterr().err
