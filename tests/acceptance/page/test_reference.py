"""`/docs` in a browser: Try it out, Execute. tests/acceptance/http/test_openapi.py calls every operation."""

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import base_url
from tests.support.processes.services import Process


@pytest.mark.chaos  # Swagger UI takes seconds of CPU to draw every operation.
def test_the_first_click_on_execute_succeeds(up: Process, page: Page) -> None:
    page.goto(f"{base_url(up)}/docs")
    for method, path, shown in (
        ("post", "/v1/events", '"status": "ok"'),
        ("get", "/v1/metrics/aggregate", '"avg": 34.2'),
    ):
        of_path = page.locator(f'[data-path="{path}"]')
        operation = page.locator(f".opblock-{method}").filter(has=of_path)
        operation.locator(".opblock-summary").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table")).to_contain_text(shown)
