"""The fleet in a browser: empty, live, filtered, with a thousand devices, under a storm of alerts."""

import re
import shlex
import subprocess
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from tests.acceptance.page.conftest import execute, publish_event
from tests.support.processes.programs import require_program
from tests.support.processes.services import Process

Send = Callable[..., None]
ALERTS = 44_000
HEAP_MB_MAX = 40.0
KEYSTROKE_MS_MAX = 50 * 6  # Promised are 50; a busy machine may be six times slower.
ROWS_MAX = 60
SLOWEST_KEYSTROKE = """() => {
  const input = document.querySelector("input[type=search]");
  return Math.max(...["u", "un", "unit-07", "unit-077", "", "x"].map((text) => {
    const start = performance.now();
    input.value = text;
    input.dispatchEvent(new Event("input"));
    document.body.offsetHeight;
    return performance.now() - start;
  }));
}"""
# How much of the width of the list no cell fills.
UNUSED_PX = """() => {
  const right = (element) => element.getBoundingClientRect().right;
  const cells = [...document.querySelectorAll(".fleet-list tbody tr:not(.space) td")];
  return Math.abs(right(document.querySelector(".fleet-list").parentNode) - Math.max(...cells.map(right)));
}"""
STORM = f"""
insert into outbox (block, n, kind, device_id, rule_id, state, body)
select 9000000000, n, 'alert', 'storm-' || n % 200, 'r', 'firing', json_build_object(
    'device_id', 'storm-' || n % 200, 'metrics', json_build_object('temp', n), 'time', '2026-01-15 11:01:00',
    'timestamp', '2026-01-15T11:01:00Z', 'id', n, 'incident_id', n % 200, 'rule_id', 'r',
    'rule_name', 'Storm',
    'metric', 'temp', 'value', n, 'op', '>', 'threshold', 1, 'severity', 'warning', 'state', 'firing',
    'late', false, 'muted', false, 'event_id', 'e' || n)
from generate_series(0, {ALERTS - 1}) n
"""
NUMBERED = f"""
insert into feed (last_id, first_id, block)
select last, last - {ALERTS} + 1, 9000000000
from (select setval('feed_no', nextval('feed_no') + {ALERTS} - 1) as last) numbered
"""


def rows(page: Page) -> list[str]:
    return page.locator(".fleet-list tbody td.device a").all_inner_texts()


def test_an_empty_fleet_shows_lines_that_work_and_then_the_devices_without_a_reload(
    page: Page, up: Process
) -> None:
    page.goto("/")
    expect(page).to_have_title("Fleet · Voltwire")
    expect(page.get_by_role("heading", name="No device yet")).to_be_visible()
    mqtt, curl = page.locator(".copyable code").all_inner_texts()
    assert up.settings["MQTT_PORT"] in mqtt
    require_program("mosquitto_pub")
    require_program("curl")
    for line in (mqtt, curl):
        subprocess.run(shlex.split(line), check=True, capture_output=True, timeout=60)
        expect(page.get_by_role("link", name="my-device")).to_be_visible()
    publish_event(up, "later", '{"metrics":{"soc_percent":12.5}}')
    expect(page.get_by_role("row", name=re.compile("later.*just now.*12.5 %"))).to_be_visible()
    publish_event(up, "later", '{"metrics":{"soc_percent":11.25}}')
    expect(page.get_by_role("row", name=re.compile("later.*11.3 %"))).to_be_visible()


def test_filters_and_search_are_in_the_address_and_survive_a_reload(page: Page, send: Send) -> None:
    send(*({"device_id": f"filter-{n}", "metrics": {"temp": n}} for n in range(3)))
    page.goto("/#/fleet?q=filter-&sort=name")
    expect(page.locator(".fleet-list tbody td.device a")).to_have_text(
        ["filter-0", "filter-1", "filter-2"]
    )
    page.keyboard.press("/")
    page.keyboard.press("End")
    page.keyboard.type("2")
    expect(page.locator(".fleet-list tbody td.device a")).to_have_text(["filter-2"])
    page.get_by_role("button", name="online").click()
    assert urlsplit(page.url).fragment == "/fleet?state=online&q=filter-2&sort=name"
    page.reload()
    expect(page.locator(".fleet-list tbody td.device a")).to_have_text(["filter-2"])
    expect(page.get_by_role("button", name="online")).to_have_attribute("aria-pressed", "true")
    for width in (1280, 1000, 800):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(UNUSED_PX) < 2, width
    page.get_by_role("button", name="offline").click()
    expect(page.get_by_role("heading", name="No device matches")).to_be_visible()
    page.get_by_role("button", name="Show all devices").click()
    expect(page.get_by_role("link", name="filter-1")).to_be_visible()


def test_of_a_thousand_devices_only_the_rows_on_the_screen_exist_and_are_followed(
    page: Page, send: Send
) -> None:
    send(*({"device_id": f"unit-{n:04}", "metrics": {"soc_percent": n / 10}} for n in range(1000)))
    streams: list[int] = []

    def note(request: Request) -> None:
        if "/v1/live" in request.url:
            devices = parse_qs(urlsplit(request.url).query).get("latest_device_id", [])
            streams.append(len(devices))

    page.on("request", note)
    page.goto("/#/fleet?sort=name&q=unit-")
    expect(page.locator(".find").get_by_role("status")).to_have_text(re.compile("^1,000 (of|dev)"))
    assert rows(page)[0] == "unit-0000"
    assert len(rows(page)) < ROWS_MAX
    with page.expect_request(lambda request: "latest_device_id=unit-0999" in request.url):
        page.keyboard.press("End")
    expect(page.get_by_role("link", name="unit-0999")).to_be_in_viewport()
    assert len(rows(page)) < ROWS_MAX
    expect(page.get_by_role("row", name=re.compile("unit-0999.*99.9 %"))).to_be_visible()
    assert max(streams) < ROWS_MAX
    worst = min(
        page.evaluate(SLOWEST_KEYSTROKE) for _ in range(3)
    )  # Not what else the machine does.
    assert worst < KEYSTROKE_MS_MAX


@pytest.mark.chaos
def test_a_storm_of_alerts_neither_freezes_nor_grows_the_page(
    page: Page, send: Send, database: str
) -> None:
    send(*({"device_id": f"storm-{n}", "metrics": {"temp": n}} for n in range(200)))
    page.goto("/#/fleet?q=storm-&sort=name")
    expect(page.locator(".find").get_by_role("status")).to_have_text(re.compile("^200 (of|dev)"))
    expect(page.locator(".link")).to_have_text("live")
    page.evaluate("""async () => {
      const { app } = await import(document.querySelector("script[src$='/main.js']").src);
      window.heard = 0;
      window.slowest = 0;
      app.live.on("alert", () => (window.heard += 1));
      let before = performance.now();
      setInterval(() => {
        window.slowest = Math.max(window.slowest, performance.now() - before);
        before = performance.now();
      }, 20);
    }""")
    execute(database, f"begin; {STORM}; {NUMBERED}; notify voltwire_feed; commit")
    assert (
        page.evaluate(
            """async (expected) => {
      while (window.heard < expected) await new Promise((resolve) => setTimeout(resolve, 50));
      return window.heard;
    }""",
            ALERTS,
        )
        == ALERTS
    )
    expect(page.get_by_role("row", name=re.compile("storm-0 Storm"))).to_be_visible()
    assert page.evaluate("window.slowest") < 6_000
    assert page.evaluate("(gc(), performance.memory.usedJSHeapSize / 1e6)") < HEAP_MB_MAX
    page.get_by_role("searchbox").fill("storm-19")
    expect(page.get_by_text("11 of")).to_be_visible()
