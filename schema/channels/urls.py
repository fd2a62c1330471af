"""The addresses of channels: webhooks by HTTPS, and the services of Apprise that send over the network."""

import base64
import binascii
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from apprise import NotifyBase

# Not on the list: what runs programs, writes files or shows windows here (syslog, dbus, windows …), and what
# sends to any URL without a signature (json, xml, form): for programs there are webhooks.
APPRISE_SCHEMES = frozenset(
    {
        "bark", "barks", "brevo", "bulksms", "burstsms", "clickatell", "clicksend", "d7sms",
        "dingtalk", "discord", "feishu", "flock", "freemobile", "gchat", "gotify", "gotifys",
        "groupme", "ifttt", "ilert", "incidentio", "infobip", "join", "kavenegar", "lark", "line",
        "mailersend", "mailgun", "mailto", "mailtos", "mastodon", "mastodons", "matrix", "matrixs",
        "mmost", "mmosts", "msg91", "msgbird", "nctalk", "nctalks", "nexmo", "notifiarr", "ntfy",
        "ntfys", "o365", "octopush", "onesignal", "opsgenie", "pagerduty", "pagertree", "pbul",
        "plivo", "postmark", "pover", "prowl", "pushme", "pushy", "resend", "revolt", "rocket",
        "rockets", "ryver", "sendgrid", "ses", "seven", "signal", "signals", "signl4", "simplepush",
        "sinch", "slack", "smseagle", "smseagles", "smtp2go", "sns", "sparkpost", "spike", "splunk",
        "squadcast", "synology", "synologys", "tgram", "threema", "twilio", "twist", "victorops",
        "voipms", "vonage", "webex", "wecombot", "workflows", "xmatters", "zulip",
    }
)  # fmt: skip
# Services whose address names the host that we connect to; the others have the host of their vendor.
HOSTED_SCHEMES = frozenset(
    {
        "bark", "barks", "gotify", "gotifys", "infobip", "mailto", "mailtos", "mastodon",
        "mastodons", "matrix", "matrixs", "mmost", "mmosts", "nctalk", "nctalks", "ntfy", "ntfys",
        "rocket", "rockets", "signal", "signals", "smseagle", "smseagles", "synology", "synologys",
        "workflows", "xmatters", "zulip",
    }
)  # fmt: skip
# Parameters of Apprise that read files or further addresses, let a host name others, or wait longer than a
# delivery may.
REFUSED_PARAMETERS = frozenset(
    {"template", "pgp", "pgppub", "pgpprv", "wkd", "redirect", "discovery", "cto", "rto"}
)
WEBHOOK_SCHEMES = ("https", "http")
SECRET_PREFIX = "whsec_"  # noqa: S105  # The specification's prefix.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
NEW_SECRET_BYTES = 32


def is_webhook(url: str) -> bool:
    return _scheme(url) in WEBHOOK_SCHEMES


def check_channel(url: str, secret: str | None, *, private_addresses: bool) -> str:
    """Return the address without its secrets. Raises ValueError with what to change.

    It may take a second at the first call, which loads Apprise; call it in a thread.
    """
    if is_webhook(url):
        _check_webhook(url, private_addresses=private_addresses)
        if secret is None:
            raise ValueError("secret: a webhook is signed, so it needs one")
        webhook_key(secret)
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{port}/" + ("…" if parts.path.strip("/") else "")
    service = apprise_service(url)
    if secret is not None:
        raise ValueError("secret: only a webhook (https://) has one")
    host = ",".join(_hosts(url, service)[:1])
    return f"{_scheme(url)}://{host}" + ("/…" if host else "…")


def new_webhook_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode()


def webhook_key(secret: str) -> bytes:
    """The key of the signature. Raises ValueError."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(
            f"secret: it must be {SECRET_PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in"
            " Base64, as the Standard Webhooks specification says"
        )
    return key


def apprise_service(url: str) -> "NotifyBase":
    """Apprise's service for an address. Raises ValueError."""
    scheme = _scheme(url)
    if scheme not in APPRISE_SCHEMES:
        raise ValueError(
            f"url: {scheme or 'an address without a scheme'} is not one of the services that channels"
            " may use; use https:// for a webhook, mailtos://, ntfys://, slack:// and so on"
        )
    apprise, asset = _apprise()
    for name in apprise.utils.parse.parse_url(url, verify_host=False)["qsd"]:
        if name in REFUSED_PARAMETERS:
            raise ValueError(
                f"url: the parameter {name} is not available to channels; leave it out"
            )
    service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if service is None:
        raise ValueError(f"url: this is not a complete {scheme}:// address")
    if hasattr(service, "discovery"):  # A Matrix server may name a host that nobody checked.
        service.discovery = False
    return service  # type: ignore[no-any-return]


def hosts_of(url: str) -> list[str]:
    """The hosts that an address of Apprise makes us connect to, apart from those of vendors."""
    return _hosts(url, apprise_service(url)) if _scheme(url) in HOSTED_SCHEMES else []


def _hosts(url: str, service: "NotifyBase") -> list[str]:
    if _scheme(url) not in HOSTED_SCHEMES or getattr(service, "mode", None) == "cloud":
        return []  # ntfy://topic is ntfy.sh.
    if _scheme(url) == "zulip":
        return [f"{getattr(service, 'organization', '')}.{getattr(service, 'hostname', '')}"]
    named = (getattr(service, name, None) for name in ("smtp_host", "host"))
    return list(dict.fromkeys(str(host) for host in named if host))


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def _check_webhook(url: str, *, private_addresses: bool) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in url:
        raise ValueError("url: this is not a complete https:// address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: a webhook has no user and password; it is signed with its secret")
    if parts.scheme == "http" and not private_addresses:
        raise ValueError("url: http:// needs NOTIFY_PRIVATE_ADDRESSES=true; use https://")


@lru_cache(1)
def _apprise():  # type: ignore[no-untyped-def]  # noqa: ANN202  # A module and its settings.
    """Loading takes half a second and 30 MB, so only who has channels pays for it."""
    import apprise  # noqa: PLC0415

    return apprise, apprise.AppriseAsset(
        app_id="Voltwire",
        app_desc="Voltwire alerts",
        app_url="",
        async_mode=False,
        secure_logging=True,
        http_redirects=False,
        storage_mode=apprise.common.PersistentStoreMode.MEMORY,
    )
