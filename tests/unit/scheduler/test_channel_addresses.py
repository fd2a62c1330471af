"""Which addresses a channel may reach, and which URLs it may have."""

import pytest

from scheduler.channels.addresses import checked_address, is_public
from scheduler.channels.errors import DeliveryFailed
from schema.channels.urls import check_channel, hosts_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1", "::", "::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::1"])
async def test_every_spelling_of_a_private_host_is_refused_for_good(host: str) -> None:
    with pytest.raises(DeliveryFailed, match="no public address") as refused:
        await checked_address(host, 80, private_addresses=False)
    assert not refused.value.retry
    assert await checked_address(host, 80, private_addresses=True)


async def test_an_unknown_name_is_retried() -> None:
    with pytest.raises(DeliveryFailed, match="not found") as failed:
        await checked_address("no-such-host.invalid", 80, private_addresses=False)
    assert failed.value.retry


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/T0KEN/x?key=1", "https://hooks.example.com/…"),
        ("https://[2606:4700::1111]:8443/", "https://[2606:4700::1111]:8443/"),
    ],
)
def test_a_webhook_is_shown_without_its_path(url: str, shown: str) -> None:
    assert check_channel(url, SECRET, private_addresses=False) == shown


def test_an_address_of_apprise_is_shown_without_its_secrets() -> None:
    shown = check_channel(
        "mailtos://me:pa55word@mail.example.org?to=you@example.org", None, private_addresses=False
    )
    assert "mail.example.org" in shown
    assert "pa55word" not in shown


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("https://a.example", None, "needs a secret"),
        ("https://a.example", "whsec_short", "24 to 64 bytes"),
        ("https://a.example", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must be whsec_"),
        ("http://a.example", SECRET, "NOTIFY_PRIVATE_ADDRESSES"),
        ("https://user:pw@a.example", SECRET, "no user and password"),
        ("https://", SECRET, "not a complete"),
        ("https://a.example:99999/", SECRET, "not a complete"),
        ("https://a.example/\r\nX: 1", SECRET, "not a complete"),
        ("mailto://", None, "not a complete mailto"),
        ("mailto://a:b@c.example", SECRET, "only a webhook"),
        ("json://a.example", None, "not one of the services"),
        ("syslog://", None, "not one of the services"),
        ("file:///etc/passwd", None, "not one of the services"),
        ("gopher://a.example", None, "not one of the services"),
        ("a.example", None, "without a scheme"),
    ],
)
def test_other_addresses_are_refused_with_what_to_change(
    url: str, secret: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_channel(url, secret, private_addresses=False)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("mailto://u:p@mail.example.org", ["mail.example.org"]),
        ("mailto://u:p@example.org?smtp=10.0.0.1", ["10.0.0.1", "example.org"]),
        ("ntfys://ntfy.example.org/topic", ["ntfy.example.org"]),
        ("ntfys://topic", []),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", []),
    ],
)
def test_hosts_that_an_address_names(url: str, hosts: list[str]) -> None:
    assert hosts_of(url) == hosts
