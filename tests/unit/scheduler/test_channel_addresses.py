"""Which addresses a channel may reach, and which URLs it may have."""

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

import pytest

from scheduler.channels.addresses import checked_address, is_public
from scheduler.channels.errors import DeliveryFailed
from scheduler.channels.people import send_to_people
from schema.channels.urls import apprise_service, check_channel, hosts_of
from tests.support.http.receivers import http_server

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
        "::127.0.0.1", "::a9fe:a9fe", "::ffff:0:127.0.0.1", "fec0::1", "64:ff9b:1::7f00:1",
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "mailtos://me:pa55word@mail.example.org?to=you@example.org",
            "mailtos://mail.example.org/…",
        ),
        ("ntfys://tk_T0KEN@ntfy.example.org/T0PIC", "ntfys://ntfy.example.org/…"),
        ("ntfy://T0PIC", "ntfy://…"),
        ("tgram://123456789:T0KENabcdefghijklmnop/12315544/", "tgram://…"),
    ],
)
def test_an_address_of_apprise_is_shown_as_its_service_and_host(url: str, shown: str) -> None:
    assert check_channel(url, None, private_addresses=False) == shown


@pytest.mark.parametrize(
    "parameter",
    [
        "template=http://127.0.0.1/",
        "TEMPLATE=/etc/passwd",
        "pgp=sign",
        "pgpprv=/etc/passwd",
        "wkd=yes",
        "redirect=yes",
        "discovery=yes",
        "cto=86400",
        "rto=86400",
    ],
)
def test_parameters_that_read_files_or_further_addresses_are_refused(parameter: str) -> None:
    for url in ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "mailto://u:p@example.org"):
        with pytest.raises(ValueError, match="is not available to channels; leave it out"):
            check_channel(f"{url}?{parameter}", None, private_addresses=False)


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("https://a.example", None, "needs one"),
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
        ("https:a.example", SECRET, "without a scheme"),
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
        ("zulip://bot@org/a6123456789012345678901234567890", ["org.zulipchat.com"]),
        ("zulip://bot@10.0.0.1/a6123456789012345678901234567890", ["10.0.0.1"]),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", []),
    ],
)
def test_hosts_that_an_address_names(url: str, hosts: list[str]) -> None:
    assert hosts_of(url) == hosts


@pytest.mark.parametrize(
    "service", ["ntfy://127.0.0.1:{port}/topic", "gotify://127.0.0.1:{port}/t0ken"]
)
async def test_no_service_is_led_to_another_address_by_a_redirect(service: str) -> None:
    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(HTTPStatus.TEMPORARY_REDIRECT)
            self.send_header("location", "/inside")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests are silent."""

    with http_server(Redirecting) as port:
        url = service.format(port=port)
        with pytest.raises(DeliveryFailed, match="did not take the message"):
            await send_to_people(url, "title", "text", private_addresses=True)
    assert len(asked) == 1
    assert asked != ["/inside"]


def test_a_matrix_server_names_no_other_host() -> None:
    service = apprise_service("matrixs://user:pa55word@matrix.example.org/#room")
    assert vars(service)["discovery"] is False


async def test_a_service_that_breaks_ends_no_delivery_and_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> bool:
        raise ValueError("http://me:pa55word@127.0.0.1")

    monkeypatch.setattr("apprise.plugins.ntfy.NotifyNtfy.notify", broken)
    with pytest.raises(DeliveryFailed, match="the service could not be used") as failed:
        await send_to_people("ntfy://127.0.0.1/topic", "title", "text", private_addresses=True)
    assert failed.value.retry
    assert "pa55word" not in str(failed.value)
