"""Debian's Chromium, and the sizes in which pages are looked at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["CHROMIUM", "FLAGS", "PHONE", "WIDE", "wait_for_count", "wait_for_text"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
WIDE, PHONE = (1400, 900), (390, 844)


def wait_for_text(page: Page, selector: str, text: str) -> None:
    """Waits until the first element of a selector has a text, or begins with it."""
    page.wait_for_function(
        "([one, text]) => document.querySelector(one)?.textContent.startsWith(text)",
        arg=[selector, text],
    )


def wait_for_count(page: Page, selector: str, count: int) -> None:
    """Waits until so many elements are there."""
    page.wait_for_function(
        "([one, count]) => document.querySelectorAll(one).length === count", arg=[selector, count]
    )
