"""The page in a real browser: one Chromium per test process, one `voltwire up` and one driver per file."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.acceptance.conftest import base_url
from tests.support.browser import chromium, driven, visited
from tests.support.services import Process


@pytest.fixture(scope="session")
def browser_address() -> Iterator[str]:
    with chromium() as address:
        yield address


@pytest.fixture(scope="module")
def browser(database: str, browser_address: str) -> Iterator[Browser]:
    """It ends before the file's database, which is dropped in an event loop."""
    with driven(browser_address) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, up: Process) -> Iterator[Page]:
    with visited(browser, base_url(up)) as page:
        yield page
