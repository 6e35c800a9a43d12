"""Progress: a bar on a terminal, lines elsewhere, nothing when quiet."""

import io
import sys

import pytest

from embedkit.extraction.runner import Progress
from embedkit.index import IndexProgress
from embedkit_cli import _progress
from embedkit_cli._output import print_message
from embedkit_cli._progress import ProgressDisplay


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set."""
    times = [100.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: times[0])
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
    with ProgressDisplay(quiet=False) as display:
        display.update(Progress(1200, 5000, 2, 4.0, 190.0))
        print_message("a message above the bar")
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
    before = len(terminal.getvalue())
    assert before > len(shown)  # the bar was removed
    with display:
        display.stage(IndexProgress("train", 1, 4, 0.0))
    assert "train" in terminal.getvalue()[before:]


def test_a_terminal_is_updated_ten_times_a_second(open_terminal, clock):
    terminal = open_terminal()
    with ProgressDisplay(quiet=False) as display:
        display.images(0, 1000)
        for done in range(1, 100):
            clock[0] += 0.01
            display.images(done, 1000)
        assert 8 <= terminal.getvalue().count("images/s") <= 11


def test_names_are_shown_as_they_are(open_terminal, clock):
    terminal = open_terminal()
    with ProgressDisplay(quiet=False) as display:
        display.download("[red]a\x1b]0;owned\x07.pth", 1_000_000, 2_000_000)
        assert r"downloading [red]a\x1b]0;owned\x07.pth" in terminal.getvalue()
        assert "1/2 MB" in terminal.getvalue()


def test_elsewhere_a_line_is_printed_every_30_seconds(capsys, clock):
    with ProgressDisplay(quiet=False) as display:
        for _ in range(95):
            clock[0] += 1.0
            display.step("scoring", int(clock[0]) - 100, 190)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 30/190, 2:40 left",
        "scoring: 60/190, 2:10 left",
        "scoring: 90/190, 1:40 left",
    ]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_quiet_shows_nothing(monkeypatch, clock, on_terminal):
    stream = Terminal() if on_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressDisplay(quiet=True) as display:
        display.update(Progress(1, 2, 0, 1.0, 1.0))
        clock[0] += 60
        display.queries(1000)
        display.files(3)
    assert stream.getvalue() == ""


def test_a_count_without_an_end(capsys, clock):
    with ProgressDisplay(quiet=False) as display:
        display.queries(0)
        clock[0] += 30
        display.queries(1500)
    assert capsys.readouterr().err == "searching: 1,500 queries, 50.0 queries/s\n"
