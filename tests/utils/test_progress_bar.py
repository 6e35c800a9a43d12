"""Progress on stderr: a bar on a terminal, lines elsewhere."""

import io
import sys
import time

import pytest

from embedkit.utils import progress_bar
from embedkit.utils.progress import Progress, Stage, reporting
from embedkit.utils.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set."""
    times = [100.0]
    monkeypatch.setattr(progress_bar, "monotonic", lambda: times[0])
    return times


@pytest.fixture
def open_terminal(monkeypatch):
    """Makes stderr a terminal; within the test, because pytest replaces stderr before it."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def open_it():
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return open_it


def test_a_terminal_shows_stage_count_rate_failures_and_time_left(open_terminal, clock):
    terminal = open_terminal()
    with ProgressBar() as bar:
        bar.update(Progress("embedding", 1200, 5000, 2, 4.0, 190.0, "images"))
        sys.stderr.write("a message above the bar\n")
        shown = terminal.getvalue()
    for part in (
        "embedding",
        "1,200/5,000 images",
        "190.0 images/s",
        "2 failed",
        "0:20 left",
        "a message above the bar\n",
    ):
        assert part in shown
    assert len(terminal.getvalue()) > len(shown)  # the bar was removed


def test_the_bar_goes_when_its_stage_is_complete_so_that_results_can_be_printed(
    open_terminal, clock
):
    terminal = open_terminal()
    with ProgressBar() as bar, reporting(bar.update):
        with Stage("training"):
            assert sys.stderr is not terminal  # the bar redirects it
        assert sys.stderr is terminal


def test_a_terminal_is_updated_ten_times_a_second(open_terminal, clock):
    terminal = open_terminal()
    with ProgressBar() as bar:
        for done in range(100):
            bar.update(Progress("scoring", done, 1000, 0, done * 0.01, 100.0, "images"))
            clock[0] += 0.01
        assert 8 <= terminal.getvalue().count("images/s") <= 12


def test_names_are_shown_as_they_are_and_bytes_as_megabytes(open_terminal, clock):
    terminal = open_terminal()
    name = "downloading [red]a\x1b]0;owned\x07.pth"
    with ProgressBar() as bar:
        bar.update(Progress(name, 1_000_000, 2_000_000, 0, 1.0, 5e5, "bytes"))
        assert r"downloading [red]a\x1b]0;owned\x07.pth" in terminal.getvalue()
        assert "1/2 MB, 0.5 MB/s, 0:02 left" in terminal.getvalue()


def test_elsewhere_a_line_is_printed_every_30_seconds(capsys, clock):
    with ProgressBar() as bar:
        for done in range(1, 96):
            clock[0] += 1.0
            bar.update(Progress("scoring", done, 190, 0, float(done), 1.0))
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 30/190, 2:40 left",
        "scoring: 60/190, 2:10 left",
        "scoring: 90/190, 1:40 left",
    ]


def test_a_count_without_an_end(capsys, clock):
    with ProgressBar() as bar:
        bar.update(Progress("searching", 0, None, 0, 0.0, 0.0, "queries"))
        clock[0] += 30
        bar.update(Progress("searching", 1500, None, 0, 30.0, 50.0, "queries"))
    err = capsys.readouterr().err
    assert err == "searching: 1,500 queries, 50.0 queries/s, 0:30 so far\n"


def test_a_search_that_may_end_early_has_its_time_at_most(capsys, clock):
    with ProgressBar() as bar:
        clock[0] += 30
        bar.update(Progress("verifying pairs", 50, 100, 0, 5.0, 10.0, "pairs", may_end_early=True))
    err = capsys.readouterr().err
    assert err == "verifying pairs: 50/100 pairs, 10.0 pairs/s, 0:05 left at most\n"


@pytest.mark.parametrize("on_terminal", [False, True])
def test_the_time_of_a_silent_stage_is_shown(monkeypatch, open_terminal, capsys, on_terminal):
    monkeypatch.setattr(progress_bar, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(progress_bar, "_LINE_SECONDS", 0.05)
    terminal = open_terminal() if on_terminal else None
    with ProgressBar() as bar:
        bar.update(Progress("training", 0, None, 0, 59.5))  # and nothing more
        end = time.monotonic() + 10
        while time.monotonic() < end:
            text = terminal.getvalue() if terminal else capsys.readouterr().err
            if "training" in text and "1:00 so far" in text:
                return
            time.sleep(0.05)
    pytest.fail("nothing was shown")
