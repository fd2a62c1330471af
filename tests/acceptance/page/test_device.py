"""One device in a browser: charts, zoom, live values, registration."""

import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.acceptance.conftest import base_url
from tests.acceptance.page.conftest import publish_event
from tests.support.http import plain_http
from tests.support.processes.services import Process

Send = Callable[..., None]
MINUTE_MS = 60_000


def history(device_id: str, minutes: int) -> list[dict[str, object]]:
    now = time.time_ns() // 1_000_000
    return [
        {
            "device_id": device_id,
            "event_id": f"h{n}",
            "ts": now - n * MINUTE_MS,
            "seq": minutes - n,
            "metrics": {"soc_percent": 40 + n % 20, "voltage_v": 350 + n % 5},
        }
        for n in range(minutes)
    ]


def zoomed(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(urlsplit(page.url).fragment).query)


def test_a_zoomed_view_stays_under_live_data_and_in_the_address(
    page: Page, up: Process, send: Send
) -> None:
    send(*history("zoom", 60))
    page.goto("/#/devices/zoom?range=1h")
    chart = page.get_by_role("img", name=re.compile("^soc_percent"))
    plot = page.locator(".chart", has_text="soc_percent").locator("canvas")
    expect(page.get_by_text("mean and range per").first).to_be_visible()
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Back to live")).to_be_visible()
    shown = zoomed(page)
    assert set(shown) == {"range", "from", "to"}
    publish_event(up, "zoom", '{"metrics":{"soc_percent":99.5,"voltage_v":399.5}}')
    expect(page.locator(".tile", has_text="soc_percent")).to_contain_text("99.5 %")
    assert zoomed(page) == shown
    page.go_back()
    expect(page.get_by_role("button", name="Back to live")).to_be_hidden()
    page.go_forward()
    page.reload()
    expect(page.get_by_role("button", name="Back to live")).to_be_visible()
    assert zoomed(page) == shown
    expect(chart).not_to_have_attribute("aria-label", re.compile("no values"))
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(chart).to_have_attribute("aria-label", re.compile(r"^soc_percent: [\d.]+ % at "))
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Back to live")).to_be_hidden()
    assert set(zoomed(page)) == {"range"}
    expect(page.get_by_role("cell", name="soc_percent 99.5")).to_be_visible()


def test_a_registration_is_saved_and_a_wrong_field_says_what_is_wrong(
    page: Page, send: Send
) -> None:
    send({"device_id": "form", "metrics": {"temp": 20}})
    page.goto("/#/devices/form")
    page.get_by_label("Name").fill("North depot, truck 7")
    page.get_by_label("Tags").fill("fleet:south, model:e40")
    interval = page.get_by_label("Interval in seconds")
    interval.fill("-5")
    page.get_by_role("button", name="Register").click()
    expect(interval).to_have_attribute("aria-invalid", "true")
    expect(interval).to_be_focused()
    interval.fill("60")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", name="North depot, truck 7")).to_be_visible()
    expect(page.get_by_text("The registration is saved.")).to_be_visible()
    expect(page.get_by_role("link", name="model:e40")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Interval in seconds")).to_have_value("60")


def test_a_device_is_forgotten_after_a_question(page: Page, send: Send) -> None:
    send({"device_id": "gone", "metrics": {"temp": 20}})
    page.goto("/#/devices/gone")
    forget = page.get_by_role("button", name="Forget this device…")
    forget.click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(forget).to_be_focused()
    forget.click()
    page.get_by_label("Delete all its events, too.").check()
    page.get_by_role("button", name="Forget", exact=True).click()
    expect(page).to_have_title("Fleet · Voltwire")
    expect(page.get_by_text("gone is forgotten.")).to_be_visible()
    expect(page.get_by_role("link", name="gone", exact=True)).to_be_hidden()


def test_rejections_and_losses_of_a_device_are_shown(page: Page, up: Process, send: Send) -> None:
    kept = [each for each in history("lossy", 20) if each["seq"] not in {7, 8, 9}]
    send(*kept)
    publish_event(up, "lossy", '{"metrics":{"soc_percent":140}}')
    page.goto("/#/devices/lossy?range=1h")
    expect(page.get_by_role("row", name=re.compile("out_of_range.*soc_percent"))).to_be_visible()
    expect(page.get_by_role("table", name="Events that are missing")).to_contain_text("3")


def test_the_zone_changes_every_time_on_the_page(page: Page, send: Send) -> None:
    send({"device_id": "zone", "timestamp": "2026-07-01T12:00:00Z", "metrics": {"temp": 20}})
    page.goto("/#/devices/zone")
    expect(page.get_by_role("cell", name=re.compile("1 Jul, 14:00"))).to_be_visible()
    page.locator("#bar").get_by_label("Time zone").select_option("UTC")
    expect(page.get_by_role("cell", name=re.compile("1 Jul, 12:00"))).to_be_visible()
    expect(page.get_by_text("up to now, in UTC")).to_be_visible()


def test_what_does_not_exist_says_so(page: Page) -> None:
    for address in ("#/nothing/here", "#/devices/nothere"):
        page.goto(f"/{address}")
        expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
        expect(page.get_by_role("link", name="To the fleet")).to_be_visible()
        expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_texts_of_strangers_stay_text(page: Page, up: Process, send: Send) -> None:
    script = "<img src=x onerror=document.title='taken'>"
    send({"device_id": "script", "event_id": script, "metrics": {"temp": 20}, "tags": [script]})
    registration = {"name": script, "tags": [script]}
    with plain_http.Client(base_url=base_url(up), timeout=60) as http:
        http.put("/v1/devices/script", json=registration).raise_for_status()
    page.goto("/#/devices/script")
    expect(page.get_by_role("heading", name=script)).to_be_visible()
    expect(page.get_by_role("cell", name=script).first).to_be_visible()
    page.goto("/#/fleet?q=script")
    expect(page.get_by_role("link", name=script)).to_be_visible()
    expect(page).to_have_title("Fleet · Voltwire")
    assert page.locator("main img").count() == 0
