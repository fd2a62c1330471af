"""The fleet in a browser."""

from playwright.sync_api import Page, expect


def test_the_page_opens_with_the_fleet(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_title("Fleet · Voltwire")
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
