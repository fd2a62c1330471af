"""The pictures of docs/images/, from the demo in a real browser: `make screenshots`."""

import time
from typing import Literal, NamedTuple

from playwright.sync_api import Page, expect

from tests.acceptance.conftest import base_url, running_up
from tests.support.page.browser import DESKTOP, PHONE, chromium, driven, visited
from tests.support.processes.services import ROOT

FOLDER = ROOT / "docs" / "images"
FIRST_ALERTS_S = 75  # The rules of the demo fire within a minute.
SETTLED_MS = 1_500  # Values, lines and fonts are there.


class Shot(NamedTuple):
    """`shows`: the text that says that the view is complete."""

    name: str
    address: str
    shows: str
    scheme: Literal["light", "dark"] = "light"
    phone: bool = False


RULE = (
    "#/rules/new?device_id=demo-007&metric=soc_percent&op=%3C&threshold=25&clear_threshold=40"
    "&name=Battery%20low"
)
SHOTS = (
    Shot("fleet-light", "#/fleet", "just now"),
    Shot("fleet-dark", "#/fleet", "just now", "dark"),
    Shot("fleet-phone", "#/fleet", "just now", "dark", phone=True),
    Shot("device-light", "#/devices/demo-007?range=7d", "mean and range"),
    Shot("device-dark", "#/devices/demo-004?range=24h", "mean and range", "dark"),
    Shot("device-phone", "#/devices/demo-007?range=7d", "mean and range", phone=True),
    Shot("alerts-light", "#/alerts?state=all", "Began"),
    Shot("alerts-phone", "#/alerts?state=all", "temp_c >", phone=True),
    Shot("rule-light", RULE, "firing for"),
)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with running_up("--demo") as demo, chromium() as address, driven(address) as browser:
        time.sleep(FIRST_ALERTS_S)
        for shot in SHOTS:
            size = PHONE if shot.phone else DESKTOP
            with visited(
                browser, base_url(demo), viewport=size, color_scheme=shot.scheme,
                has_touch=shot.phone, is_mobile=shot.phone,
            ) as page:  # fmt: skip
                take(page, shot)


def take(page: Page, shot: Shot) -> None:
    page.goto(f"/{shot.address}")
    expect(page.get_by_text(shot.shows).first).to_be_visible()
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=FOLDER / f"{shot.name}.png")


if __name__ == "__main__":
    main()
