"""What axe finds on the page, wide and on a phone, light and dark; and that it fits a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chromium import PHONE, WIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from server_process import Site

READY = {
    "": ".tile.has-picture",
    "tab=review": ".member img",
    "tab=map": ".legend li",
    "tab=clusters": ".cluster img",
    "tab=quality": ".choices a",
    "tab=outliers": ".tile, .message .notice",
    "tab=labels": ".tile, .message .notice",
    "tab=selections": "tbody tr",
}

_SELECT = """() => fetch('/v1/selections', {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', 'X-Embedkit': '1' },
  body: JSON.stringify({ name: 'a-name-of-some-length', rows: [1, 2] }),
})"""


def serious(page: Page) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:150]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", WIDE, id="light-wide"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("dark", WIDE, id="dark-wide", marks=pytest.mark.long),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.long),
    ],
)
def test_axe_finds_nothing_serious(
    site: Site, open_page: Callable[..., Page], size: tuple[int, int], scheme: str
) -> None:
    page = open_page(site.address, size, scheme)
    page.evaluate(_SELECT)
    for query, ready in READY.items():
        page.goto(f"{site.address}/?{query}")
        page.wait_for_selector(ready, timeout=60_000, state="attached")
        assert (query, serious(page)) == (query, [])
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert (query, wide) == (query, 0)
    page.goto(site.address)
    page.wait_for_selector(".tile.has-picture")
    page.locator(".tile .open").first.click()
    page.wait_for_selector(".query-picture img")
    page.locator(".query-picture button").click()
    page.wait_for_selector("#details h2")
    assert serious(page) == []
    page.get_by_label("Close the details").click()
    page.get_by_role("button", name="Keys and help").click()
    assert serious(page) == []


def test_a_phone_has_filters_and_details_over_the_whole_page(
    site: Site, open_page: Callable[..., Page]
) -> None:
    page = open_page(site.address, PHONE)
    page.wait_for_selector(".tile.has-picture")
    assert page.locator(".filters").is_hidden()
    page.get_by_role("button", name="Filters").click()
    page.locator(".filters .values button", has_text="cat").click()
    page.get_by_label("Close the filters").click()
    page.wait_for_selector(".chips button")
    page.locator(".tile .more").first.click()
    page.wait_for_selector("#details h2")
    assert page.locator("#details").bounding_box()["width"] == PHONE[0]


def test_the_theme_is_kept(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(site.address, scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for _ in range(2):  # light, then dark
        page.get_by_role("button", name="Colours").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    page.wait_for_selector(".tile.has-picture")
    assert page.evaluate(background) == dark
