"""The HTTP side of a selftest: it posts until every post is answered, then reads back the events."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic
from typing import Any, TypeVar

import httpx

from broker.simulator.outbox import ReceiptBody, read_receipts
from cli.api_client import api_client, no_response, require_admitted
from cli.selftest.ledger import DeviceReading, Ledger, StoredRow
from cli.selftest.plan import METRIC, Plan, Submission
from runtime.errors import StartError, VoltwireError
from schema.event import Door, Status
from schema.instants import parse_instant

RESPONSE_S_MAX = 10.0  # A 503 arrives within 5 s; a query takes up to 10 s.
CONCURRENT_POSTS = 4
RETRY_S = 0.5  # Unless Retry-After gives another time.
PAGE_ROWS = 1000
RETRIED_STATUSES = {429, *range(500, 600)}
JSON = {"Content-Type": "application/json"}
SINGLE_STATUS = {"ok": Status.STORED, "duplicate": Status.DUPLICATE}

T = TypeVar("T")


class Api:
    """The API of a running system. Raises StartError for a response that Voltwire does not send."""

    def __init__(self, client: httpx.AsyncClient, ledger: Ledger) -> None:
        self._client, self._ledger = client, ledger

    async def check(self) -> None:
        """Raises StartError if the API cannot be reached or reports that the system is unhealthy."""
        url = self._client.base_url.copy_with(userinfo=b"")
        try:
            response = await self._client.get("/health")
            listing = await self._client.get("/v1/devices", params={"limit": 1})
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise no_response(str(url), error) from error
        for each in (response, listing):
            require_admitted(each.status_code, str(url), self._client.headers)
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            failing = "; ".join(_failing(response))
            raise StartError(
                f"The system at {url} reports that it is unhealthy ({failing}): fix that first."
            )
        if response.status_code != HTTPStatus.OK:
            raise _unexpected(response)

    async def post_all(self, plan: Plan) -> None:
        """Return when every post is answered."""
        waiting = iter(plan.over(Door.HTTP))

        async def post_some() -> None:
            for submission in waiting:
                began = monotonic()
                verdicts = await self._post(submission)
                self._ledger.record(submission, verdicts, monotonic() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT_POSTS):
                group.create_task(post_some())

    async def read(self, plan: Plan) -> dict[str, DeviceReading]:
        """Read all pages and the aggregate of every device; retry while there is no response."""
        span = {"from_time": plan.start.isoformat(), "to_time": plan.end.isoformat()}
        return {device_id: await self._read(device_id, span) for device_id in plan.device_ids}

    async def _read(self, device_id: str, span: dict[str, str]) -> DeviceReading:
        rows: list[StoredRow] = []
        page: str | None = f"/v1/devices/{device_id}/events"
        params: dict[str, Any] | None = span | {"limit": PAGE_ROWS}
        while page is not None:
            response = await self._get(page, params)
            if response.status_code == HTTPStatus.NOT_FOUND:  # None of its events is stored.
                break
            rows += _rows(response)
            page, params = response.links.get("next", {}).get("url"), None
        query = span | {"metric": METRIC, "device_id": device_id, "interval": "1h"}
        return DeviceReading(rows, *_totals(await self._get("/v1/metrics/aggregate", query)))

    async def _post(self, submission: Submission) -> list[ReceiptBody]:
        """Retry with the same event ids if there is no response, or on 429 and 5xx."""
        single = len(submission.entries) == 1
        path = "/v1/events" if single else "/v1/events/batch"
        while True:
            try:
                response = await self._client.post(path, content=submission.payload, headers=JSON)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_S)
            else:
                if response.status_code not in RETRIED_STATUSES:
                    return _verdicts(response, submission, single=single)
                await asyncio.sleep(_retry_after_s(response))
            self._ledger.resent += len(submission.entries)

    async def _get(self, path: str, params: dict[str, Any] | None) -> httpx.Response:
        while True:
            try:
                response = await self._client.get(path, params=params)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_S)
            else:
                if response.status_code not in RETRIED_STATUSES:
                    return response
                await asyncio.sleep(_retry_after_s(response))


@asynccontextmanager
async def connected(url: str, ledger: Ledger, headers: dict[str, str]) -> AsyncIterator[Api]:
    async with api_client(url, headers, RESPONSE_S_MAX) as client:
        yield Api(client, ledger)


def _verdicts(
    response: httpx.Response, submission: Submission, *, single: bool
) -> list[ReceiptBody]:
    """One verdict per event, in order."""
    if response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        reason = str(_read(response, dict).get("reason", "unprocessable"))
        return [
            ReceiptBody(event_id=event_id, status=Status.REJECTED, reason=reason)
            for event_id in submission.event_ids
        ]
    if response.status_code != HTTPStatus.OK:
        raise _unexpected(response)
    if single:
        status = SINGLE_STATUS.get(_read(response, dict).get("status", ""))
        if status is None:
            raise _unexpected(response)
        return [ReceiptBody(event_id=submission.event_ids[0], status=status)]
    verdicts = read_receipts(response.content)
    if tuple(verdict["event_id"] for verdict in verdicts) != submission.event_ids:
        raise _unexpected(response)
    return verdicts


def _rows(response: httpx.Response) -> list[StoredRow]:
    try:
        return [
            StoredRow(
                item["event_id"], item["metrics"].get(METRIC), parse_instant(item["timestamp"])
            )
            for item in _read(response, list)
        ]
    except (LookupError, TypeError, AttributeError, ValueError):
        raise _unexpected(response) from None


def _totals(response: httpx.Response) -> tuple[int, float]:
    """Count and sum over all buckets."""
    buckets = _read(response, list)
    try:
        return sum(each["count"] for each in buckets), sum(each["sum"] for each in buckets)
    except (LookupError, TypeError):
        raise _unexpected(response) from None


def _failing(response: httpx.Response) -> list[str]:
    try:
        checks = _read(response, dict)["checks"].items()
        return [f"{name}: {check['detail']}" for name, check in checks if check["status"] != "ok"]
    except (LookupError, TypeError, AttributeError):
        raise _unexpected(response) from None


def _read(response: httpx.Response, kind: type[T]) -> T:
    """The JSON body, which must be of this type."""
    try:
        found = response.json()
    except ValueError:
        raise _unexpected(response) from None
    if not isinstance(found, kind):
        raise _unexpected(response)
    return found


def _retry_after_s(response: httpx.Response) -> float:
    """Retry-After in whole seconds, as Voltwire sends it."""
    text = response.headers.get("Retry-After", "")
    return float(text) if re.fullmatch("[0-9]{1,6}", text) else RETRY_S


def _unexpected(response: httpx.Response) -> VoltwireError:
    return StartError(
        f"{response.request.method} {response.request.url.path} returned an unexpected {response.status_code}"
        " response: check that --url names a Voltwire of this version and that it accepts this caller."
    )
