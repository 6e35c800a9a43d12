"""The review of near-duplicates in a real browser: by keyboard, to a plan that is right."""

from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import pytest
from chromium import wait_for_count, wait_for_text
from server_process import GROUPS, run_cli, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route
    from server_process import Site

_MIDDLE = """(canvas) => {
  const pixel = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
  return [...pixel.data];
}"""


@pytest.fixture
def review(built: Site, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Where a review that nobody began is served, and its folder."""
    dups = tmp_path / "dups"
    shutil.copytree(built.dups, dups)
    with serving(built.index, "--dups", dups, "--show-paths") as address:
        yield f"{address}/?tab=review", dups


def wait_for_group(page: Page, number: int) -> None:
    wait_for_text(page, ".stage h2", f"Group {number} of ")


def wait_for_progress(page: Page, decided: int) -> None:
    page.wait_for_function("(n) => document.querySelector('progress')?.value === n", arg=decided)


def members(page: Page) -> list[str]:
    return [text.replace("\n", "") for text in page.locator(".member .name").all_text_contents()]


def kept(page: Page) -> list[str]:
    return page.locator(".member.keep .name").all_text_contents()


def test_twenty_groups_by_keyboard_make_the_right_plan(
    review: tuple[str, Path], open_page: Callable[..., Page]
) -> None:
    address, dups = review
    page = open_page(address)
    wait_for_group(page, 1)
    removed, stays = set(), set()
    for number in range(1, GROUPS + 1):
        wait_for_group(page, number)
        every = set(members(page))
        if number % 4 == 0:
            page.keyboard.press("r")
            stays |= every
        else:
            if number % 4 == 1:
                page.keyboard.press("2")
            keeper = set(kept(page))
            assert len(keeper) == 1
            removed |= every - keeper
            stays |= keeper
            page.keyboard.press("a")
    page.wait_for_selector(".review-main .message:not([hidden])")
    wait_for_progress(page, GROUPS)
    assert "All groups are decided" in page.locator(".review-main .message").text_content()
    page.get_by_role("button", name="Write plan").first.click()
    page.locator("dialog button.main").click()
    page.wait_for_selector("dialog .command code:not(:empty)")
    command = page.locator("dialog code").text_content()
    plan = next(dups.glob("*plan*.csv"))
    assert command.startswith("embedkit dedup apply ")
    assert plan.name in command
    rows = list(csv.DictReader(plan.read_text("utf-8").splitlines()))
    assert {row["path"] for row in rows if row["action"] == "remove"} == removed
    assert not {row["path"] for row in rows if row["action"] == "remove"} & stays
    listed = run_cli("dedup", "apply", plan, "--action", "list").splitlines()
    assert set(listed) == removed


def test_undo_keeper_split_and_merge(
    review: tuple[str, Path], open_page: Callable[..., Page]
) -> None:
    page = open_page(address := review[0])
    wait_for_group(page, 1)
    first = members(page)
    page.keyboard.press("a")
    wait_for_group(page, 2)
    wait_for_progress(page, 1)
    page.keyboard.press("u")
    wait_for_progress(page, 0)
    wait_for_group(page, 1)
    assert members(page) == first
    page.keyboard.press("2")
    wait_for_text(page, ".member.keep .name", first[1])
    page.reload()
    wait_for_group(page, 1)
    assert kept(page) == [first[1]]
    while len(members(page)) != 3:
        page.keyboard.press("j")
    three = members(page)
    page.keyboard.press("Shift+Digit3")
    page.wait_for_selector(".member.ticked")
    page.keyboard.press("s")
    wait_for_count(page, ".member", 2)
    assert members(page) == three[:2]
    page.keyboard.press("u")
    wait_for_count(page, ".member", 3)
    before = page.locator("progress").get_attribute("max")
    page.keyboard.press("m")
    page.keyboard.press("j")
    page.keyboard.press("m")
    wait_for_count(page, ".member", 5)
    assert int(page.locator("progress").get_attribute("max")) == int(before) - 1
    page.goto(address)  # the journal is on disk
    wait_for_group(page, 1)
    assert int(page.locator("progress").get_attribute("max")) == int(before) - 1


@pytest.mark.long
def test_slow_answers_change_nothing_that_was_decided_meanwhile(
    review: tuple[str, Path], open_page: Callable[..., Page]
) -> None:
    page = open_page(review[0])
    wait_for_group(page, 1)
    held: list[Route] = []
    page.route("**/v1/review/actions", lambda route: held.append(route))
    with page.expect_request("**/v1/review/actions"):
        page.keyboard.press("2")
    page.keyboard.press("a")
    wait_for_group(page, 2)
    with page.expect_request("**/v1/review/actions"):  # the second answer, after the first's reply
        held[0].continue_()
    page.keyboard.press("k")
    wait_for_text(page, ".stage h2", f"Group 1 of {GROUPS}accepted")
    held[1].continue_()
    wait_for_progress(page, 1)


@pytest.mark.long
def test_blink_overlay_and_difference(
    review: tuple[str, Path], open_page: Callable[..., Page]
) -> None:
    page = open_page(review[0])
    wait_for_group(page, 1)
    for key, text in (("b", "Keeper:"), ("o", "Both in one frame"), ("d", "Black is equal")):
        page.keyboard.press(key)
        wait_for_text(page, ".compare-caption", text)
    assert page.locator(".compare canvas").evaluate(_MIDDLE) == [0, 0, 0, 255]  # the same bytes
    page.keyboard.press("Escape")
    assert page.locator(".compare").is_hidden()
    assert page.locator(".members").is_visible()


@pytest.mark.long
def test_answers_that_cannot_be_saved_are_told_and_kept(
    review: tuple[str, Path], open_page: Callable[..., Page]
) -> None:
    page = open_page(review[0], may_fail=True)
    wait_for_group(page, 1)
    page.keyboard.press("u")  # there is nothing to undo, which holds up no other answer
    page.wait_for_selector("#toast.alert:not([hidden])")
    assert page.locator(".unsaved").is_hidden()
    page.route("**/v1/review/actions", lambda route: route.abort())
    page.keyboard.press("a")
    page.keyboard.press("a")
    page.wait_for_selector(".unsaved:not([hidden])")
    wait_for_text(page, ".unsaved", "2 answers could not be saved")
    page.unroute("**/v1/review/actions")
    page.get_by_role("button", name="Try again").click()
    wait_for_progress(page, 2)
    assert page.locator(".unsaved").is_hidden()


@pytest.mark.long
def test_filters_of_the_review(review: tuple[str, Path], open_page: Callable[..., Page]) -> None:
    page = open_page(review[0])
    wait_for_group(page, 1)
    decided = members(page)
    page.keyboard.press("a")
    wait_for_progress(page, 1)
    page.get_by_label("State").select_option("accepted")
    wait_for_text(page, ".stage h2", "Group 1 of 1accepted")
    assert members(page) == decided
    page.get_by_label("State").select_option("")
    wait_for_text(page, ".stage h2", f"Group 1 of {GROUPS - 1}")
    page.get_by_label("Score to").fill("0.01")
    page.wait_for_selector(".review-main .message:not([hidden])")
    assert "No group passes" in page.locator(".review-main .message").text_content()
