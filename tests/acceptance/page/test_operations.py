"""What an operator does on the page: alerts, silences, rules, channels, dead letters."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import base_url, running_up
from tests.support.http import plain_http
from tests.support.http.receivers import SECRET, webhook_receiver
from tests.support.page.browser import DESKTOP, PHONE, assert_accessible, assert_laid_out
from tests.support.processes.services import Process

VIEWS = {
    "alerts": "temp_c > 60",
    "alerts?show=silences": "device read-1",
    "rules": "read-1 too hot",
    "rules/new?metric=temp_c&threshold=60": "Back-test",
    "channels": "ntfys://ntfy.sh/…",
    "dead-letters": "out_of_range",
    "keys": "Audit",
}
CUT_STREAM = """async () => {
  const { app } = await import(document.querySelector("script[src$='/main.js']").src);
  app.live.connection.abort();
  app.live.lost(new Error("cut"));
}"""
ASK_IN_VAIN = """async () => {
  const { app } = await import(document.querySelector("script[src$='/main.js']").src);
  app.api.get("/v1/info");
}"""
AT_ONCE_MS = 6_000  # It takes a fraction of a second; a busy machine may be six times slower.


@pytest.fixture(scope="module")
def up(database: str) -> Iterator[Process]:
    with running_up(DATABASE_URL=database, NOTIFY_PRIVATE_ADDRESSES="true") as process:
        yield process


def post_json(up: Process, path: str, body: Any, *, accepted: bool = True) -> Any:
    response = plain_http.post(f"{base_url(up)}{path}", json=body, timeout=60)
    assert response.is_success is accepted, response.text
    return response.json()


def too_hot(up: Process, device_id: str, **rule: Any) -> None:
    """A rule of its own for a device."""
    body = {"name": f"{device_id} too hot", "device_id": device_id, "metric": "temp_c", "op": ">"}
    post_json(up, "/v1/alerts", body | {"threshold": 60, "notify": "change"} | rule)


def heat(up: Process, device_id: str, temp_c: float = 70) -> None:
    post_json(up, "/v1/events", {"device_id": device_id, "metrics": {"temp_c": temp_c}})


def test_an_alert_appears_and_goes_without_a_reload(page: Page, up: Process) -> None:
    too_hot(up, "live-1")
    page.goto("/#/alerts")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    heat(up, "live-1")
    row = page.get_by_role("row", name="live-1 too hot")
    expect(row).to_be_visible(timeout=AT_ONCE_MS)
    expect(row).to_contain_text("temp_c > 60")
    heat(up, "live-1", 20)
    expect(row).to_be_hidden(timeout=AT_ONCE_MS)
    page.get_by_role("button", name="Resolved").click()
    expect(row).to_contain_text("resolved")
    expect(page).to_have_url(re.compile("state=resolved"))


def test_rows_do_not_move_under_the_pointer(page: Page, up: Process) -> None:
    for device_id in ("held-1", "held-2"):
        too_hot(up, device_id)
    heat(up, "held-1")
    page.goto("/#/alerts")
    page.get_by_role("row", name="held-1 too hot").hover()
    heat(up, "held-2")
    expect(page.get_by_role("button", name="Show 1 new incident")).to_be_visible()
    expect(page.get_by_role("row", name="held-2 too hot")).to_be_hidden()
    page.mouse.move(0, 0)
    expect(page.get_by_role("row", name="held-2 too hot")).to_be_visible()


def test_an_alert_is_acknowledged_with_a_name_and_a_note_then_silenced(
    page: Page, up: Process
) -> None:
    too_hot(up, "seen-1")
    heat(up, "seen-1")
    page.goto("/#/alerts?device_id=seen-1")
    page.get_by_role("link", name="seen-1 too hot").click()
    page.get_by_role("button", name="Acknowledge").click()
    dialog = page.get_by_role("dialog", name="Acknowledge: seen-1 too hot")
    dialog.get_by_label("Your name").fill("ana")
    dialog.get_by_label("Note").fill("I am <b>on</b> my way.")
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("listitem").filter(has_text="by ana")).to_contain_text(
        "I am <b>on</b> my way."
    )
    page.get_by_role("button", name="Silence").click()
    page.get_by_label("Reason").fill("New battery")
    page.get_by_role("dialog").get_by_role("button", name="Silence").click()
    expect(page.get_by_text("A silence keeps this incident from channels.")).to_be_visible()
    page.get_by_role("link", name="See the silences").click()
    row = page.get_by_role("row", name="New battery")
    expect(row).to_contain_text("device seen-1, rule seen-1 too hot")
    row.get_by_role("button", name="End").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(row).to_be_hidden()


def test_a_rule_is_back_tested_corrected_created_switched_off_and_deleted(
    page: Page, up: Process
) -> None:
    hot = [
        {"device_id": "rule-1", "age_ms": 60_000 * n, "metrics": {"temp_c": n}} for n in range(9)
    ]
    post_json(up, "/v1/events/batch", hot)
    page.goto("/#/rules/new?device_id=rule-1")
    page.get_by_role("combobox", name="Metric").fill("temp_c")
    page.get_by_role("textbox", name="Threshold").fill("5")
    summary = page.get_by_role("region", name="Back-test").get_by_role("status")
    expect(summary).to_contain_text("1 incident, firing for 3 min in all: 9 events")
    expect(page.get_by_role("img", name="temp_c of rule-1")).to_be_visible()
    page.get_by_role("textbox", name="Clears at").fill("7")
    wrong = page.get_by_text("clear_threshold must not be on the violating side")
    expect(wrong).to_be_visible()
    page.get_by_role("textbox", name="Clears at").fill("4")
    expect(wrong).to_be_hidden()
    page.get_by_role("textbox", name="Name").fill("Oven")
    page.reload()
    expect(page.get_by_role("textbox", name="Clears at")).to_have_value("4")
    page.get_by_role("button", name="Create the rule").click()
    row = page.get_by_role("row", name="Oven")
    expect(row).to_contain_text("temp_c > 5, clears at 4")
    row.get_by_role("switch").click()
    expect(row.get_by_role("switch")).not_to_be_checked()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_be_hidden()


def test_what_was_typed_stays_when_another_time_zone_is_chosen(page: Page, up: Process) -> None:
    too_hot(up, "typed-1")
    heat(up, "typed-1", 20)
    (rule,) = [
        each for each in plain_http.get(f"{base_url(up)}/v1/alerts").json()
        if each["device_id"] == "typed-1"
    ]  # fmt: skip
    page.goto(f"/#/rules/{rule['id']}")
    page.get_by_role("textbox", name="Name").fill("Oven")
    page.get_by_role("radio", name="No data").check()
    page.get_by_role("spinbutton", name="Nothing for").fill("7")
    page.get_by_label("Nothing for: unit").select_option("hours")
    zone = page.get_by_role("banner").get_by_label("Time zone")
    zone.select_option("UTC")
    expect(page.get_by_role("textbox", name="Name")).to_have_value("Oven")
    expect(page.get_by_role("radio", name="No data")).to_be_checked()
    expect(page.get_by_role("spinbutton", name="Nothing for")).to_have_value("7")
    expect(page.get_by_label("Nothing for: unit")).to_have_value("3600")
    expect(page.get_by_role("textbox", name="Threshold")).to_be_hidden()
    page.goto("/#/devices/typed-1")
    page.get_by_role("textbox", name="Attributes").fill("not yet")
    zone.select_option("Europe/Berlin")
    expect(page.get_by_text("in Europe/Berlin")).to_be_visible()
    expect(page.get_by_role("textbox", name="Attributes")).to_have_value("not yet")


def test_a_view_that_could_not_be_read_appears_when_the_server_is_back(page: Page) -> None:
    page.goto("/#/rules")
    link = page.get_by_role("banner").get_by_role("status")
    expect(link).to_have_text("live")
    page.route(re.compile("/v1/"), lambda route: route.abort())
    page.evaluate(CUT_STREAM)
    expect(link).to_have_text("reconnecting…")
    page.evaluate(ASK_IN_VAIN)
    expect(page.locator(".toast")).to_contain_text("The server cannot be reached.")
    page.get_by_role("link", name="Dead letters").click()
    expect(page.get_by_role("heading", name="This cannot be shown now")).to_be_visible()
    page.unroute_all()
    expect(page.get_by_role("heading", name="Dead letters", exact=True)).to_be_visible()
    expect(link).to_have_text("live")


def test_a_channel_is_added_and_its_test_arrives(page: Page) -> None:
    with webhook_receiver() as receiver:
        page.goto("/#/channels")
        page.get_by_role("button", name="Add a channel").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("hook")
        dialog.get_by_label("Address").fill(receiver.url)
        dialog.get_by_label("Secret").fill(SECRET)
        dialog.get_by_role("button", name="Add", exact=True).click()
        card = page.get_by_role("article", name="Channel hook")
        card.get_by_role("button", name="Send a test").click()
        expect(card).to_contain_text("The test was delivered.")
        assert receiver.next()[1]["type"] == "test"
        receiver.statuses = [403]
        card.get_by_role("button", name="Send a test").click()
        expect(card).to_contain_text("The test failed: ")
        assert SECRET not in page.content()


def test_dead_letters_are_counted_shown_and_replayed(page: Page, up: Process) -> None:
    bad = {"device_id": "dead-1", "metrics": {"soc_percent": 130}}
    post_json(up, "/v1/events", bad, accepted=False)
    page.goto("/#/dead-letters?device_id=dead-1")
    page.get_by_role("button", name="out_of_range").click()
    page.get_by_role("button", name="Payload of").click()
    expect(page.get_by_role("dialog")).to_contain_text('"soc_percent":130')
    page.get_by_role("button", name="Hex").click()
    expect(page.get_by_role("dialog")).to_contain_text("00000000  7b 22")
    page.get_by_role("button", name="Close").click()
    post_json(up, "/v1/devices", {"device_id": "dead-1", "profile": "open"})
    page.get_by_role("button", name="Replay all with the reason out_of_range").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        "Done: 1 dead letter, 1 stored, 0 duplicate, 0 rejected again."
    )


def test_names_contrast_and_sizes_are_right_on_a_screen_and_on_a_phone(
    page: Page, up: Process
) -> None:
    too_hot(up, "read-1", severity="critical", channels=["gone"])
    heat(up, "read-1")
    bad = {"device_id": "read-1", "metrics": {"soc_percent": 130}}
    post_json(up, "/v1/events", bad, accepted=False)
    post_json(up, "/v1/silences", {"device_id": "read-1", "to_time": "2099-01-01T00:00:00Z"})
    post_json(up, "/v1/channels", {"name": "read-1", "url": "ntfys://ntfy.sh/read-1"})
    for view, text in VIEWS.items():
        page.set_viewport_size(DESKTOP)
        page.goto(f"/#/{view}")
        expect(page.get_by_text(text).first).to_be_visible()
        assert_accessible(page)
        page.set_viewport_size(PHONE)
        assert_laid_out(page)
