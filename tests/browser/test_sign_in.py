"""A service with a token, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chromium import wait_for_text
from server_process import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page
    from server_process import Site

TOKEN = "a long and secret token of forty letters"


def test_the_page_asks_for_the_token(
    built: Site, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with serving(built.index, "--token-file", tmp_path / "token") as address:
        page = open_page(address, may_fail=True)
        page.wait_for_selector("dialog #token")
        assert page.locator(".tile").count() == 0
        page.locator("#token").fill("another")
        page.keyboard.press("Enter")
        wait_for_text(page, "dialog .problem", "That is not the token of this server.")
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".tile.has-picture")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in str(cookie)
        page.reload()
        page.wait_for_selector(".tile.has-picture")
        page.context.clear_cookies()
        page.locator(".filters .values button").first.click()  # the session ended meanwhile
        page.wait_for_selector("dialog #token")
        page.locator("#token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".chips button")
        page.wait_for_selector(".tile.has-picture")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("dialog #token")
