"""Wrong credentials are counted per address and listed for the audit, within bounds."""

import pytest

from api.auth import failed_logins
from api.auth.failed_logins import LISTED_MAX, PER_ADDRESS_MAX, FailedLogins, network_of
from runtime.errors import TooManyRequests


@pytest.fixture
async def failed() -> FailedLogins:
    return FailedLogins()


async def test_an_address_may_be_wrong_ten_times_in_a_minute(failed: FailedLogins) -> None:
    for _ in range(PER_ADDRESS_MAX):
        failed.note("192.0.2.1", "/v1/devices")
    with pytest.raises(TooManyRequests):
        failed.note("192.0.2.1", "/v1/devices")
    failed.note("192.0.2.2", "/v1/devices")
    assert len(failed.take()) == PER_ADDRESS_MAX + 1
    assert failed.take() == []


async def test_the_addresses_of_one_ipv6_network_count_together(failed: FailedLogins) -> None:
    for n in range(PER_ADDRESS_MAX):
        failed.note(f"2001:db8::{n:x}", "/")
    with pytest.raises(TooManyRequests):
        failed.note("2001:db8::ffff:1", "/")
    failed.note("2001:db8:0:1::1", "/")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (None, "an unknown address"),
        ("a socket", "a socket"),
    ],
)
def test_an_address_is_counted_under_its_network(address: str | None, name: str) -> None:
    assert network_of(address) == name


async def test_a_flood_is_counted_but_not_listed(failed: FailedLogins) -> None:
    for n in range(LISTED_MAX + 50):
        failed.note(f"10.0.{n >> 8}.{n & 255}", "/")
    rows = failed.take()
    assert len(rows) == LISTED_MAX + 1
    assert rows[-1].unlisted == 50


async def test_rows_that_could_not_be_written_wait_within_the_bound(
    failed: FailedLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "LISTED_MAX", 3)
    for n in range(3):
        failed.note(f"192.0.2.{n}", "/")
    rows = failed.take()
    failed.put_back(rows)
    assert failed.take() == rows
    failed.put_back([*rows, *rows])
    kept = failed.take()
    assert len(kept) == 4
    assert kept[-1].unlisted == 3
