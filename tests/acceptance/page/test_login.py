"""Login and keys on the page, with authentication on."""

import asyncio
from collections.abc import Iterator, Mapping

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import running_up
from tests.support.http.access import make_secrets
from tests.support.processes.services import Process

# Each with a text that it shows when it is complete.
VIEWS = {
    "alerts": "There is no rule yet",
    "alerts?show=silences": "No silences",
    "rules": "There is no rule yet",
    "channels": "There is no channel yet",
    "dead-letters": "There are no dead letters",
    "keys": "login.failed",
    "rules/new": "Your key only reads",
}
# Buttons that read only; a read key sees no others.
READING = {
    "Copy",
    "Open",
    "Firing",
    "Acknowledged",
    "Resolved",
    "All",
    "1 h",
    "24 h",
    "7 d",
    "30 d",
}
CHANGES = [
    ("POST", "/v1/alerts"), ("POST", "/v1/silences"), ("POST", "/v1/channels"), ("POST", "/v1/keys"),
    ("POST", "/v1/rejected/replay"), ("POST", "/v1/devices/d1/credentials"), ("DELETE", "/v1/devices/d1"),
]  # fmt: skip

ASK = """async () => {
  const { app } = await import(document.querySelector("script[src$='/main.js']").src);
  await app.api.get("/v1/devices").catch(() => {});
}"""


@pytest.fixture(scope="module", autouse=True)
def secrets(database: str) -> Mapping[str, str]:
    """Made before the browser is driven, which runs an event loop in this thread."""
    return asyncio.run(make_secrets(database))


@pytest.fixture(scope="module")
def up(database: str) -> Iterator[Process]:
    with running_up(DATABASE_URL=database, AUTH="on") as process:
        yield process


def log_in(page: Page, secret: str) -> None:
    page.get_by_label("Key").fill(secret)
    page.get_by_role("button", name="Log in").click()


def test_who_logs_in_comes_to_where_they_wanted_to_be(
    page: Page, secrets: Mapping[str, str]
) -> None:
    page.goto("/#/rules")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    log_in(page, "vwk_wrong")
    expect(page.get_by_role("alert")).to_have_text(
        "This is not a whole key: it is mistyped, or a part of it is missing."
    )
    log_in(page, secrets["admin"])
    expect(page.get_by_role("heading", name="Rules")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Rules")).to_be_visible()
    assert secrets["admin"] not in page.evaluate("document.cookie + JSON.stringify(localStorage)")


def test_an_ended_session_leads_to_the_login_and_back(
    page: Page, secrets: Mapping[str, str]
) -> None:
    page.goto("/#/alerts")
    log_in(page, secrets["read"])
    expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
    page.context.clear_cookies()
    page.goto("/#/dead-letters")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    log_in(page, secrets["read"])
    expect(page.get_by_role("heading", name="Dead letters", exact=True)).to_be_visible()
    page.goto("/#/rules/new?metric=temp&threshold=5")
    quiet = page.get_by_role("spinbutton", name="Then be quiet for")
    quiet.fill("7")
    page.context.clear_cookies()
    page.evaluate(ASK)
    page.get_by_label("Key").wait_for()
    page.evaluate(ASK)  # Another request learns of it behind the login.
    log_in(page, secrets["read"])
    expect(quiet).to_have_value("7")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert page.evaluate("fetch('/v1/devices').then((response) => response.status)") == 401


def test_a_read_key_sees_no_button_that_changes_anything_and_may_not(
    page: Page, secrets: Mapping[str, str]
) -> None:
    page.goto("/#/fleet")
    log_in(page, secrets["read"])
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    for view, text in VIEWS.items():
        page.goto(f"/#/{view}")
        expect(page.get_by_text(text).last).to_be_visible()
        names = page.locator("main button:visible, main a.button:visible").all_inner_texts()
        assert {name.split("\n")[0] for name in names} <= READING, view
    for method, path in CHANGES:
        body = {"method": method, "headers": {"Content-Type": "application/json"}, "body": "{}"}
        script = "([path, options]) => fetch(path, options).then((response) => response.status)"
        assert page.evaluate(script, [path, body]) == 403, path


def test_a_key_is_shown_once_and_revoked(page: Page, secrets: Mapping[str, str]) -> None:
    page.goto("/#/keys")
    log_in(page, secrets["admin"])
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").fill("grafana")
    page.get_by_role("button", name="Make the key").click()
    dialog = page.get_by_role("dialog", name="The key grafana")
    expect(dialog).to_contain_text("vwk_")
    secret = dialog.locator(".secret code").inner_text()
    dialog.get_by_role("button", name="I have copied it").click()
    row = page.get_by_role("row", name="grafana", exact=False).first
    expect(row).to_contain_text("read")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke the key grafana").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("button", name="Revoke the key grafana")).to_be_hidden()
    expect(page.get_by_role("cell", name="key.revoke")).to_be_visible()


def test_a_device_gets_a_secret_and_a_new_one(page: Page, secrets: Mapping[str, str]) -> None:
    page.goto("/#/keys")
    log_in(page, secrets["admin"])
    page.get_by_role("button", name="Make a secret").click()
    page.get_by_role("combobox", name="Device").fill("sensor:1")
    page.get_by_role("button", name="Make it").click()
    first = page.get_by_role("dialog", name="The secret of sensor:1")
    expect(first).to_contain_text("-u sensor%3A1 -P vwd_")
    first.get_by_role("button", name="I have copied it").click()
    page.get_by_role("button", name="New secret for sensor:1").click()
    page.get_by_role("button", name="Make it").click()
    second = page.get_by_role("dialog", name="The new secret of sensor:1")
    expect(second).to_contain_text("vwd_")
    second.get_by_role("button", name="I have copied it").click()
