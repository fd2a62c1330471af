"""The HTTP side of a selftest: posts until they are answered, and reads back what is stored."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic
from typing import Any, TypeVar

import httpx

from broker.simulator.outbox import ReceiptBody, read_receipts
from cli.selftest.ledger import Ledger, Reading, StoredRow
from cli.selftest.plan import METRIC, Plan, Sending
from runtime.errors import StartError, VoltwireError
from schema.event import Door, Status
from schema.instants import parse_instant

ANSWER_S_MAX = 10.0  # A 503 comes within 5 s, a question takes up to 10 s.
POSTS_AT_ONCE = 4
PAUSE_S = 0.5  # Before it is sent again, unless Retry-After says otherwise.
PAGE_ROWS = 1000
NOT_NOW = {429, *range(500, 600)}
JSON = {"Content-Type": "application/json"}
SINGLE_STATUS = {"ok": Status.STORED, "duplicate": Status.DUPLICATE}

T = TypeVar("T")


class Api:
    """Of a running system. Raises VoltwireError for an answer that is not that of a Voltwire."""

    def __init__(self, client: httpx.AsyncClient, ledger: Ledger) -> None:
        self._client, self._ledger = client, ledger

    async def check(self) -> None:
        """Raises StartError if it cannot be reached, or says that it cannot do its job."""
        url = self._client.base_url.copy_with(userinfo=b"")
        try:
            answer = await self._client.get("/health")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise StartError(
                f"{url} does not answer ({_reason(error)}): start voltwire up or voltwire api there, or name"
                " another address with --url."
            ) from error
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            failing = "; ".join(_failing(answer))
            raise StartError(
                f"The system at {url} says that it cannot do its job ({failing}): mend that first."
            )
        if answer.status_code != HTTPStatus.OK:
            raise _strange(answer)

    async def post_all(self, plan: Plan) -> None:
        """Return when every post has its answer."""
        waiting = iter(plan.over(Door.HTTP))

        async def post_some() -> None:
            for sending in waiting:
                began = monotonic()
                answers = await self._post(sending)
                self._ledger.take(sending, answers, monotonic() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(POSTS_AT_ONCE):
                group.create_task(post_some())

    async def read(self, plan: Plan) -> dict[str, Reading]:
        """Every device, through all pages, and its aggregate. Asks again while there is no answer."""
        span = {"from_time": plan.start.isoformat(), "to_time": plan.end.isoformat()}
        return {device_id: await self._read(device_id, span) for device_id in plan.device_ids}

    async def _read(self, device_id: str, span: dict[str, str]) -> Reading:
        rows: list[StoredRow] = []
        page: str | None = f"/v1/devices/{device_id}/events"
        asked: dict[str, Any] | None = span | {"limit": PAGE_ROWS}
        while page is not None:
            answer = await self._get(page, asked)
            if answer.status_code == HTTPStatus.NOT_FOUND:  # None of its events was stored.
                break
            rows += _rows(answer)
            page, asked = answer.links.get("next", {}).get("url"), None
        question = span | {"metric": METRIC, "device_id": device_id, "interval": "1h"}
        return Reading(rows, *_totals(await self._get("/v1/metrics/aggregate", question)))

    async def _post(self, sending: Sending) -> list[ReceiptBody]:
        """No answer, 429 and 503 mean: again, with the same event ids."""
        single = len(sending.entries) == 1
        path = "/v1/events" if single else "/v1/events/batch"
        while True:
            try:
                answer = await self._client.post(path, content=sending.payload, headers=JSON)
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_S)
            else:
                if answer.status_code not in NOT_NOW:
                    return _verdicts(answer, sending, single=single)
                await asyncio.sleep(_retry_after_s(answer))
            self._ledger.resent += len(sending.entries)

    async def _get(self, path: str, asked: dict[str, Any] | None) -> httpx.Response:
        while True:
            try:
                answer = await self._client.get(path, params=asked)
            except httpx.TransportError:
                await asyncio.sleep(PAUSE_S)
            else:
                if answer.status_code not in NOT_NOW:
                    return answer
                await asyncio.sleep(_retry_after_s(answer))


@asynccontextmanager
async def connected(url: str, ledger: Ledger) -> AsyncIterator[Api]:
    """Straight to the API: HTTP_PROXY would also catch 127.0.0.1. Certificates as the machine trusts."""
    async with httpx.AsyncClient(
        base_url=url, timeout=ANSWER_S_MAX, trust_env=False, verify=ssl.create_default_context()
    ) as client:
        yield Api(client, ledger)


def _verdicts(answer: httpx.Response, sending: Sending, *, single: bool) -> list[ReceiptBody]:
    """One for each event, in order."""
    if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
        reason = str(_read(answer, dict).get("reason", "unprocessable"))
        return [
            ReceiptBody(event_id=event_id, status=Status.REJECTED, reason=reason)
            for event_id in sending.event_ids
        ]
    if answer.status_code != HTTPStatus.OK:
        raise _strange(answer)
    if single:
        status = SINGLE_STATUS.get(_read(answer, dict).get("status", ""))
        if status is None:
            raise _strange(answer)
        return [ReceiptBody(event_id=sending.event_ids[0], status=status)]
    verdicts = read_receipts(answer.content)
    if tuple(verdict["event_id"] for verdict in verdicts) != sending.event_ids:
        raise _strange(answer)
    return verdicts


def _rows(answer: httpx.Response) -> list[StoredRow]:
    try:
        return [
            StoredRow(
                item["event_id"], item["metrics"].get(METRIC), parse_instant(item["timestamp"])
            )
            for item in _read(answer, list)
        ]
    except (LookupError, TypeError, AttributeError, ValueError):
        raise _strange(answer) from None


def _totals(answer: httpx.Response) -> tuple[int, float]:
    """Count and sum of all buckets."""
    buckets = _read(answer, list)
    try:
        return sum(each["count"] for each in buckets), sum(each["sum"] for each in buckets)
    except (LookupError, TypeError):
        raise _strange(answer) from None


def _failing(answer: httpx.Response) -> list[str]:
    try:
        checks = _read(answer, dict)["checks"].items()
        return [f"{name}: {check['detail']}" for name, check in checks if check["status"] != "ok"]
    except (LookupError, TypeError, AttributeError):
        raise _strange(answer) from None


def _read(answer: httpx.Response, kind: type[T]) -> T:
    """The body of an answer that is a verdict or what was asked for."""
    try:
        found = answer.json()
    except ValueError:
        raise _strange(answer) from None
    if not isinstance(found, kind):
        raise _strange(answer)
    return found


def _retry_after_s(answer: httpx.Response) -> float:
    """Whole seconds, as Voltwire says it."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if re.fullmatch("[0-9]{1,6}", text) else PAUSE_S


def _strange(answer: httpx.Response) -> VoltwireError:
    return StartError(
        f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}, which this"
        " selftest does not understand: see that --url names a Voltwire of this version, and that it"
        " lets this caller in."
    )


def _reason(error: Exception) -> str:
    """The name of the error, where it says nothing else."""
    return str(error) or type(error).__name__
