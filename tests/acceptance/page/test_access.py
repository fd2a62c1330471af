"""Who reads the page by screen reader, by keyboard or on a phone."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page, Route, expect

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.page.browser import PHONE, assert_accessible, assert_laid_out, visited
from tests.support.processes.services import Process

Send = Callable[..., None]
LONG = "read-" + "long." * 20
VIEWS = {
    "#/fleet": "read-1",
    "#/devices/read-1?range=1h": "Registration",
    f"#/devices/{LONG}": "Registration",
}


def fill_in(send: Send, up: Process) -> None:
    with plain_http.Client(base_url=base_url(up), timeout=60) as http:
        registration = {"name": "Forklift 7", "tags": ["site:hamburg"]}
        http.put("/v1/devices/read-1", json=registration).raise_for_status()
    short = {"device_id": "read-1", "metrics": {"soc_percent": 15, "temp_c": 20}}
    long = {"device_id": LONG, "metrics": {"a.very.long.name.of.a.metric": 1}}
    send(*({**each, "seq": n, "tags": ["a:tag"]} for each in (short, long) for n in (1, 3)))


def test_names_contrast_and_headings_are_right_in_light_and_dark(
    page: Page, up: Process, send: Send
) -> None:
    fill_in(send, up)
    for view, text in VIEWS.items():
        page.goto(f"/{view}")
        expect(page.get_by_text(text).first).to_be_visible()
        assert_accessible(page)


def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Browser, up: Process, send: Send
) -> None:
    fill_in(send, up)
    with visited(browser, base_url(up), viewport=PHONE, has_touch=True, is_mobile=True) as page:
        for view, text in VIEWS.items():
            page.goto(f"/{view}")
            expect(page.get_by_text(text).first).to_be_visible()
            assert_laid_out(page)


def test_the_keyboard_reaches_the_content_and_a_device(page: Page, up: Process, send: Send) -> None:
    fill_in(send, up)
    page.goto("/")
    expect(page.get_by_role("link", name="Forklift 7")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_role("link", name="Forklift 7").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Forklift 7")).to_be_visible()
    expect(page.locator("main")).to_be_focused()


def test_a_view_has_the_focus_even_if_the_first_one_was_left_before_it_was_there(
    page: Page,
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/v1/devices\?"), hold)
    with page.expect_request(re.compile(r"/v1/devices\?")):
        page.goto("/")
    page.get_by_role("link", name="Channels").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Channels", level=1)).to_be_visible()
    expect(page.locator("main")).to_be_focused()
    for route in held:
        route.continue_()
