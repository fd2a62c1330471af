"""Debian's Chromium, driven over the DevTools protocol; a page that reports errors fails its test."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from tests.support.processes.programs import require_program
from tests.support.processes.services import temporary_folder

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--js-flags=--expose-gc",
    "--enable-precise-memory-info", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
# The API refused, or a test cut the connection: errors for Chromium, but none of the page, which shows them.
EXPECTED = (
    "Failed to load resource: the server responded with a status of 4",
    "Failed to load resource: net::ERR_FAILED",
)
WAIT_MS_MAX = 60_000  # For anything to appear: a failure must not come from a machine that is busy.
NARROW_PX = 760
RULES: dict[Literal["light", "dark"], list[str]] = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "dark": ["color-contrast", "link-in-text-block"],
}
DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)


@contextmanager
def chromium() -> Iterator[str]:
    """A browser with an empty profile; the address under which it is driven."""
    program = require_program("chromium")
    with temporary_folder() as profile:
        log = profile / "chromium.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={profile / 'profile'}", "about:blank"],
                env=os.environ | {"TMPDIR": str(profile)},  # It leaves files there when it ends.
                stdin=subprocess.DEVNULL, stdout=written, stderr=written,
            )  # fmt: skip
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    while process.poll() is None:
        if found := LISTENING.search(log.read_text("utf-8", "replace")):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"Chromium has ended:\n{log.read_text('utf-8', 'replace')[-2000:]}")


@contextmanager
def driven(address: str) -> Iterator[Browser]:
    """While it is open, this thread runs an event loop, so nothing else may start one in it."""
    expect.set_options(timeout=WAIT_MS_MAX)
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(address)
        yield browser
        browser.close()


@contextmanager
def visited(browser: Browser, base_url: str, **options: Any) -> Iterator[Page]:
    """A page in a profile of its own; whatever its console calls an error fails the test at its end."""
    context = browser.new_context(
        base_url=base_url,
        timezone_id="Europe/Berlin",
        locale="en-GB",
        **{"viewport": DESKTOP} | options,
    )
    context.set_default_timeout(WAIT_MS_MAX)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.extend(_errors_of(message)))
    page.on("pageerror", lambda error: errors.append(f"{error.message}\n{error.stack}"))
    try:
        yield page
    finally:
        context.close()
    assert not errors, errors


def _errors_of(message: ConsoleMessage) -> list[str]:
    is_expected = message.text.startswith(EXPECTED)
    return [message.text] if message.type in {"error", "warning"} and not is_expected else []


def assert_accessible(page: Page) -> None:
    """The rules of axe-core, in dark those of colours alone, and what `assert_laid_out` looks at."""
    assert_laid_out(page)
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
        assert not found.response["violations"], f"{scheme}: {found.generate_report()}"


def assert_laid_out(page: Page) -> None:
    """Headings and captions are there, nothing is squeezed or scrolls sideways; phones get large targets."""
    checks = Path(__file__).with_name("layout_faults.js").read_text("utf-8")
    viewport = page.viewport_size
    is_phone = viewport is not None and viewport["width"] < NARROW_PX
    assert page.evaluate(checks, {"isPhone": is_phone}) == []
