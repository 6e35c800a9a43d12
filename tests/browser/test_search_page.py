"""Search in a real browser: images, words, threshold, filters, details, history and keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from chromium import wait_for_count, wait_for_text
from images import draw_photo, encode
from server_process import GROUPS, HOSTILE_NAME, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from server_process import Site

PHOTO = 30  # has no copy
ALL = 60 + GROUPS + 1
_TRANSFER = """([bytes, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));
  return transfer;
}"""

_PASTE = """(transfer) => document.dispatchEvent(
  new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true }))"""


def wait_for_title(page: Page, title: str) -> None:
    page.wait_for_function(
        "(title) => document.querySelector('h1')?.textContent === title", arg=title
    )


def scores(page: Page) -> list[float]:
    page.wait_for_selector(".tile .score:not(:empty)")
    return [float(text) for text in page.locator(".tile .score").all_text_contents() if text]


def names(page: Page) -> list[str]:
    page.wait_for_selector(".tile.has-picture")
    return page.eval_on_selector_all(
        ".tile", """(tiles) => tiles.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
        .map((tile) => tile.querySelector(".name").textContent)"""
    )  # fmt: skip


def drop(page: Page, data: bytes, name: str = "query.jpg", kind: str = "image/jpeg") -> None:
    transfer = page.evaluate_handle(_TRANSFER, [list(data), name, kind])
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def drop_photo(page: Page) -> None:
    drop(page, encode(draw_photo(PHOTO), "JPEG"))
    wait_for_title(page, "Similar to your image")


def total(page: Page) -> int:
    page.wait_for_selector(".what .dim:not(:empty)")
    return int(page.locator(".what .dim").text_content().split()[0].replace(",", ""))


def test_drop_results_click_through_and_back(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    wait_for_title(page, "All images")
    page.wait_for_selector(".tile.has-picture")
    assert total(page) == ALL
    drop_photo(page)
    first = names(page)
    assert first[0] == f"photo_{PHOTO:04}.jpg"
    assert scores(page)[0] == pytest.approx(1, abs=1e-3)
    assert page.locator(".query-picture img").get_attribute("src").startswith("data:image")
    page.locator(".tile .open").nth(1).click()
    wait_for_title(page, f"Similar to {first[1]}")
    assert names(page)[0] == first[1]
    page.go_back()
    wait_for_title(page, "Similar to your image")
    assert names(page) == first
    page.reload()
    wait_for_title(page, "Similar to your image")
    assert names(page) == first
    page.go_back()
    wait_for_title(page, "All images")
    page.go_forward()
    wait_for_title(page, "Similar to your image")


@pytest.mark.long
def test_pick_and_paste(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    file = {"name": "q.png", "mimeType": "image/png", "buffer": encode(draw_photo(PHOTO), "PNG")}
    page.set_input_files("#pick", file)
    wait_for_title(page, "Similar to your image")
    assert names(page)[0] == f"photo_{PHOTO:04}.jpg"
    page.goto(site.address)
    wait_for_title(page, "All images")
    transfer = page.evaluate_handle(_TRANSFER, [list(file["buffer"]), "q.png", "image/png"])
    page.evaluate(_PASTE, transfer)
    wait_for_title(page, "Similar to your image")
    assert page.locator("#photograph").get_attribute("capture") == "environment"


def test_what_is_no_image_is_refused_in_plain_words(
    site: Site, open_page: Callable[..., Page]
) -> None:
    page = open_page(site.address, may_fail=True)
    wait_for_title(page, "All images")
    drop(page, b"no image at all", "notes.jpg")
    page.wait_for_selector("#toast.alert:not([hidden])")
    text = page.locator("#toast").text_content() or ""
    assert "image" in text
    assert "{" not in text
    page.goto(f"{site.address}/?q=token:gone")
    page.wait_for_selector(".message .notice")
    assert "could not be loaded" in page.locator(".message").text_content()


def test_threshold(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    drop_photo(page)
    every = scores(page)
    limit = sorted(every)[len(every) // 2]
    page.locator("#threshold").fill(f"{limit:.2f}")
    page.wait_for_url("**min=*")
    left = [score for score in every if score >= round(limit, 2)]
    wait_for_count(page, ".tile", len(left))
    assert scores(page) == left
    assert total(page) == len(left)
    page.reload()
    wait_for_title(page, "Similar to your image")
    assert scores(page) == left
    assert float(page.locator("#threshold").input_value()) == pytest.approx(limit, abs=0.006)


def test_filters(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    page.locator(".filters .values button", has_text="dog").click()
    page.wait_for_url("**filter=label*dog*")
    wait_for_text(page, ".what .dim", "27 images")  # 20, and copies of 7 of them
    assert page.locator(".chips button").all_text_contents() == ["label=dog"]
    page.locator(".filters summary", has_text="width").click()
    page.get_by_label("width: at most").fill("100")
    page.wait_for_selector(".message .notice")
    assert "No image passes" in page.locator(".message").text_content()
    page.locator(".message button").click()
    page.wait_for_selector(".tile.has-picture")
    assert total(page) == ALL
    page.locator("#own-filter").fill("height>=1")
    page.locator("#own-filter").press("Enter")
    page.wait_for_selector(".chips button")
    page.locator(".chips button").click()
    page.wait_for_selector(".chips button", state="detached")
    page.locator("#sort").select_option("label desc")
    page.wait_for_url("**sort=label*")
    page.wait_for_selector(".tile.has-picture")


@pytest.mark.long
def test_words(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    wait_for_title(page, "All images")
    page.keyboard.press("/")
    page.keyboard.type("teapot")
    page.keyboard.press("Enter")
    wait_for_title(page, "Class “teapot”")
    assert total(page) == ALL
    page.locator("#words").fill("photo_0031")
    page.locator("#words").press("Enter")
    wait_for_title(page, "Similar to photo_0031.jpg")
    page.locator("#words").fill("copy_")
    page.locator("#words").press("Enter")
    wait_for_count(page, ".tile", GROUPS)
    page.locator("#words").fill("nothing like this")
    page.locator("#words").press("Enter")
    page.wait_for_selector("#toast.alert:not([hidden])")


def test_keys_details_and_the_command(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address)
    page.wait_for_selector(".tile.has-picture")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    at = page.evaluate("document.activeElement.closest('.tile').ariaPosInSet")
    assert int(at) > 2
    name = page.evaluate("document.activeElement.querySelector('.name').textContent")
    page.keyboard.press("i")
    page.wait_for_selector("#details h2")
    assert page.locator("#details h2").text_content() == name
    assert page.locator("#details dt").all_text_contents()[:2] == ["size", "label"]
    command = page.locator("#details code").text_content()
    assert command.startswith("embedkit search photos.index ")
    page.locator("#details .picture").click()
    page.wait_for_function(
        "() => document.querySelector('dialog.original img')?.naturalWidth === 320"
    )
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("Escape")
    page.wait_for_selector("#details", state="hidden")
    page.keyboard.press("?")
    assert "Arrow keys" in page.locator("dialog.help").text_content()
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=id*")


@pytest.mark.long
def test_a_search_becomes_a_filter_of_every_command(
    site: Site, open_page: Callable[..., Page]
) -> None:
    page = open_page(f"{site.address}/?filter=label%3Ddog")
    page.wait_for_selector(".tile.has-picture")
    page.get_by_role("button", name="Save as selection").click()
    page.locator("#selection-name").fill("dogs")
    page.keyboard.press("Enter")
    page.wait_for_selector("#toast:not([hidden])")
    page.locator("#tabs a", has_text="Selections").click()
    page.wait_for_selector("tbody tr")
    assert "--filter selection:dogs" in page.locator("tbody").text_content()
    with page.expect_download() as started:
        page.get_by_label("Download dogs as CSV").click()
    lines = started.value.path().read_text("utf-8").splitlines()
    assert len(lines) == 1 + 27
    page.locator("tbody a", has_text="dogs").first.click()
    page.wait_for_selector(".chips button")
    wait_for_text(page, ".what .dim", "27 images")
    options = ("-k", ALL, "--filter", "selection:dogs", "--json")
    found = json.loads(run_cli("search", site.index, site.store, *options))
    assert {len(one["neighbors"]) for one in found["queries"]} == {27}
    page.locator("#tabs a", has_text="Selections").click()
    page.get_by_label("Delete the selection dogs").click()
    page.locator("dialog button.danger").click()
    page.get_by_label("Delete the selection dogs").wait_for(state="detached")


def test_a_name_that_is_markup_stays_text(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{site.address}/?sort=width")
    page.locator("#words").fill("onerror")
    page.locator("#words").press("Enter")
    wait_for_title(page, f"Similar to {HOSTILE_NAME}")
    page.wait_for_selector(".tile.has-picture")
    assert HOSTILE_NAME in names(page)
    page.locator(".query-picture button").click()
    page.wait_for_selector("#details h2")
    assert page.locator("#details h2").text_content() == HOSTILE_NAME
    assert page.locator("img[onerror], img[src=x]").count() == 0
    assert page.title() == "Search · embedkit"
