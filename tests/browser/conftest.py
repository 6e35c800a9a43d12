"""A real browser (Debian's Chromium, driven by Playwright) on a real ``embedkit serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chromium import CHROMIUM, FLAGS, PHONE, WIDE
from server_process import Site, build_site, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

_HARMLESS = ("GPU stall due to ReadPixels",)  # of drawing without a graphics card


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages; the test fails if one of them logs an error, or throws one."""
    contexts, problems = [], []

    def open_one(
        address: str, size: tuple[int, int] = WIDE, scheme: str = "light", *, may_fail: bool = False
    ) -> Page:
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, has_touch=size == PHONE, reduced_motion="reduce"
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        if not may_fail:
            page.on("console", lambda message: problems.extend(_problem(message)))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def _problem(message: object) -> list[str]:
    text = message.text  # type: ignore[attr-defined]
    is_bad = message.type in {"error", "warning"}  # type: ignore[attr-defined]
    return [text] if is_bad and not any(part in text for part in _HARMLESS) else []


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Photos, a store with labels and clusters, an index, and near-duplicate groups."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    return build_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def site(built: Site) -> Iterator[Site]:
    """The photos, served; tests of this one write nothing but selections."""
    with serving(built.index, "--dups", built.dups) as address:
        yield built.at(address)
