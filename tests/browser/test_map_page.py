"""The map in a real browser: points by WebGL, lasso, colours, pictures, a named selection."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chromium import wait_for_text
from PIL import Image
from server_process import GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page
    from server_process import Site

ALL = 60 + GROUPS + 1


@pytest.fixture
def page(site: Site, open_page: Callable[..., Page]) -> Page:
    opened = open_page(f"{site.address}/?tab=map")
    opened.wait_for_selector(".map-frame canvas.layer", timeout=60_000)
    opened.wait_for_selector(".legend:not([hidden]) li")
    return opened


def lasso(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    """Draws around a part of the map, in shares of its size."""
    box = page.locator(".map-frame canvas:not(.layer)").bounding_box()
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def chosen(page: Page) -> int:
    return int(page.locator(".chosen b").text_content().split()[0].replace(",", ""))


def test_a_lasso_becomes_a_named_selection(page: Page) -> None:
    assert page.locator(".legend .value").all_text_contents() == ["cat", "dog", "teapot"]
    page.keyboard.press("l")
    lasso(page, 0.01, 0.01, 0.5, 0.99)
    page.wait_for_selector(".chosen:not([hidden])")
    half = chosen(page)
    assert 0 < half < ALL
    page.wait_for_selector(".strip img")
    page.locator(".chosen").get_by_role("button", name="Save as selection").click()
    page.locator("#selection-name").fill("left_half")
    page.keyboard.press("Enter")
    wait_for_text(page, "#toast", f"Saved {half} images as “left_half”")
    lasso(page, 0.01, 0.01, 0.99, 0.99)
    assert chosen(page) == ALL
    page.keyboard.press("Escape")
    page.wait_for_selector(".chosen", state="hidden")
    page.goto(page.url.replace("tab=map", "filter=selection:left_half"))
    page.wait_for_selector(".tile.has-picture")
    assert page.locator(".what .dim").text_content() == f"{half} images"


@pytest.mark.long
def test_a_colour_selects_and_an_image_opens(page: Page) -> None:
    page.locator(".legend button", has_text="dog").click()
    assert chosen(page) == 27
    page.locator(".chosen").get_by_role("button", name="Clear").click()
    page.get_by_label("Colour by").select_option("width")
    wait_for_text(page, ".legend .value", "320")
    canvas = page.locator(".map-frame canvas:not(.layer)")
    canvas.focus()
    for key in ("+", "+", "ArrowLeft", "-", "0"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#details h2")
    page.keyboard.press("Escape")
    page.wait_for_selector("#details", state="hidden")


def coloured_pixels(page: Page) -> int:
    """Pixels of the map that are neither background nor writing."""
    picture = Image.open(io.BytesIO(page.locator(".map-frame").screenshot())).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    return int((np.ptp(pixels, axis=2) > 60).sum())


def test_points_are_drawn_and_pictures_are_asked_for_if_they_are_shown(page: Page) -> None:
    page.get_by_label("pictures").uncheck()
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(".map-frame canvas:not(.layer)").focus()
    page.keyboard.press("0")  # from now on the canvas has a coloured ring
    whole = coloured_pixels(page)
    assert whole > 10 * ALL  # a point is some nine pixels wide
    for key in ("-", "-", "+", "+", "+", "0"):
        page.keyboard.press(key)
    assert coloured_pixels(page) == pytest.approx(whole, rel=0.05)
    assert not [url for url in asked if "/thumb/" in url]
    page.get_by_label("pictures").check()
    page.locator(".map-frame canvas:not(.layer)").focus()
    with page.expect_request("**/thumb/**"):  # those that are known already aren't asked for again
        for _ in range(6):
            page.keyboard.press("+")
