"""The API: whether it answers, what its /health says, and whether it accepts API_KEY."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx

from cli.api_client import api_client, error_text, key_header, without_credentials
from cli.doctor.check_result import GIVE_AUTH, CheckResult, failed, ok, skipped, warning
from runtime.settings import Settings
from runtime.version import VERSION

ANSWER_S_MAX = 10.0
KEY = "API_KEY"


async def check_api(settings: Settings, url: str) -> AsyncIterator[CheckResult]:
    shown = without_credentials(url)
    async with api_client(url, {}, ANSWER_S_MAX) as client:
        try:
            health = await client.get("/health", headers=key_header(settings))
            if health.status_code == HTTPStatus.UNAUTHORIZED:
                yield _wrong_key()
                health = await client.get("/health")
            info = await client.get("/v1/info")
        except httpx.HTTPError as error:
            yield failed(
                "API",
                f"{shown} does not respond ({error_text(error)})",
                "start voltwire up, or voltwire api; or name another address with --url",
            )
            return
        document = _document(health)
        if document is None or "authentication" not in (_document(info) or {}):
            yield failed(
                "API",
                f"what answers at {shown} is not Voltwire",
                "stop that program, change HTTP_PORT, or name another address with --url",
            )
            return
        for result in _health(shown, document):
            yield result
        needed = _document(info)["authentication"]
        if needed is not settings.authenticated:
            yield warning(
                "AUTH", "the running system and these settings differ about AUTH", GIVE_AUTH
            )
        if health.request.headers.get("Authorization") or not settings.api_key:
            yield _key(settings, needed=needed)


def _health(url: str, document: dict[str, Any]) -> list[CheckResult]:
    """Strangers see the status alone."""
    checks = document.get("checks", {})
    failing = {name: each["detail"] for name, each in checks.items() if each["status"] != "ok"}
    found = [
        failed(f"health: {name}", detail, "docs/operations.md#health explains this check")
        for name, detail in failing.items()
    ]
    version = document.get("version", VERSION)
    if document["status"] != "ok" and not found:
        found.append(
            failed(
                "API", f"{url} reports that it is failing", "set API_KEY to see which check fails"
            )
        )
    if version != VERSION:
        found.append(
            warning("API", f"{url} is Voltwire {version}, this is {VERSION}", "use one version")
        )
    return found or [ok("API", f"{url} answers, and its health is ok")]


def _key(settings: Settings, *, needed: bool) -> CheckResult:
    if settings.api_key is not None:
        return ok(KEY, "the API accepts it" if needed else "set; the API asks nobody for a key")
    if needed:
        return skipped(KEY, "not set: watch, selftest and simulate need one")
    return ok(KEY, "not set, and not needed")


def _wrong_key() -> CheckResult:
    return failed(
        KEY,
        "the API does not know this key",
        "see voltwire key list, or make one with voltwire key create NAME --scope admin",
    )


def _document(response: httpx.Response) -> Any:
    try:
        found = response.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
