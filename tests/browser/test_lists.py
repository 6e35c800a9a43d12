"""Clusters, quality lists, outliers and label doubts in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from server_process import Site


@pytest.mark.long
def test_clusters_lead_to_their_images(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{site.address}/?tab=clusters")
    page.wait_for_selector(".cluster img")
    assert page.locator(".cluster").count() == 3
    size = page.locator(".cluster .dim").first.text_content()
    page.locator(".cluster").first.click()
    page.wait_for_selector(".tile.has-picture")
    assert page.locator(".what .dim").text_content() == size
    page.go_back()
    page.wait_for_selector(".cluster img")


@pytest.mark.long
def test_quality_lists(site: Site, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{site.address}/?tab=quality")
    page.wait_for_selector(".choices a", timeout=60_000)
    page.locator(".choices a", has_text="Same bytes").click()
    page.wait_for_selector(".tile.has-picture")
    page.locator(".tile .open").first.click()
    page.wait_for_url("**q=id*")
    page.go_back()
    page.wait_for_selector(".choices a[aria-current]")
    assert "Same bytes" in page.locator(".choices a[aria-current]").text_content()


@pytest.mark.long
@pytest.mark.parametrize("tab", ["outliers", "labels"])
def test_lists_come_with_their_reasons(
    site: Site, open_page: Callable[..., Page], tab: str
) -> None:
    page = open_page(f"{site.address}/?tab={tab}")
    page.wait_for_selector(".tile.has-picture, .message .notice", timeout=60_000)
    if page.locator(".tile").count():
        label = page.locator(".tile .open").first.get_attribute("aria-label")
        assert "neighbors" in label
