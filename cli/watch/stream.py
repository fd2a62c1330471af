"""The stream of a running system, connected again whenever it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse

from cli.api_client import error_text, no_response, not_voltwire, require_admitted
from runtime.errors import StartError

PAGE_ROWS = 1000
CONNECT_S_MAX, SILENT_S_MAX = 10.0, 45.0  # The API sends a comment every 15 s.
TIMEOUT = httpx.Timeout(CONNECT_S_MAX, read=SILENT_S_MAX)
RETRY_S_MIN, RETRY_S_MAX = 1.0, 15.0
LIVE, PROBLEM = "/v1/live", "application/problem+json"

T = TypeVar("T")


class Unavailable(Exception):
    """The API answers that it cannot do its job for now."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the API knows when a stream begins. `complete`: there are no further devices."""

    devices: list[dict[str, Any]]
    incidents: list[dict[str, Any]]
    complete: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """An item of the stream: its type, and the JSON value that it carries."""

    kind: str
    data: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no stream for now, and why."""

    reason: str


@dataclass(slots=True)
class LiveStream:
    """What happens to these devices, or to the fleet."""

    client: httpx.AsyncClient
    device_ids: Sequence[str]
    _last_id: str = ""
    _was_connected: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        return str(self.client.base_url.copy_with(userinfo=b""))

    async def items(self) -> AsyncIterator[Snapshot | Frame | Lost]:
        """A snapshot at each connection, then frames. Raises StartError for what waiting cannot mend.

        Before the first connection a system that does not respond is such an error, too.
        """
        retry_s = RETRY_S_MIN
        while True:
            try:
                snapshot = await self._snapshot()
                yield snapshot
                async for frame in self._frames(with_values=snapshot.complete):
                    retry_s = RETRY_S_MIN
                    yield frame
                reason = "the stream ended"
            except (httpx.TransportError, SSEError, Unavailable) as error:
                if not self._was_connected:
                    raise self._without_a_start(error) from error
                reason = error_text(error)
            yield Lost(reason)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_S_MAX)

    def _without_a_start(self, error: Exception) -> StartError:
        if isinstance(error, Unavailable):
            return StartError(f"{self.url} cannot answer now ({error}): voltwire doctor says why.")
        return no_response(self.url, error)

    async def _snapshot(self) -> Snapshot:
        devices, complete = await self._devices()
        incidents = await self._list("/v1/incidents", {"state": "open", "limit": PAGE_ROWS})
        if self.device_ids:
            incidents = [each for each in incidents if each["device_id"] in self.device_ids]
        return Snapshot(devices, incidents, complete)

    async def _devices(self) -> tuple[list[dict[str, Any]], bool]:
        """Devices that nobody has heard of yet are left out."""
        if not self.device_ids:
            found = await self._list("/v1/devices", {"limit": PAGE_ROWS})
            return found, len(found) < PAGE_ROWS
        responses = [await self.client.get(f"/v1/devices/{each}") for each in self.device_ids]
        known = [each for each in responses if each.status_code != HTTPStatus.NOT_FOUND]
        return [self._document(each, dict) for each in known], True

    async def _list(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return self._document(await self.client.get(path, params=params), list)

    def _document(self, response: httpx.Response, kind: type[T]) -> T:
        self._require_ok(response)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise not_voltwire(self.url)
        return found

    async def _frames(self, *, with_values: bool) -> AsyncIterator[Frame]:
        topics = ["presence", "alerts", *(["latest"] if with_values else [])]
        params = httpx.QueryParams({"topics": ",".join(topics), "device_id": list(self.device_ids)})
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        async with aconnect_sse(self.client, "GET", LIVE, params=params, headers=headers) as source:
            if source.response.status_code != HTTPStatus.OK:
                await source.response.aread()
                self._require_ok(source.response)
            self._was_connected = True
            async for event in source.aiter_sse():
                yield self._frame(event)

    def _frame(self, event: ServerSentEvent) -> Frame:
        self._last_id = event.id or self._last_id
        return Frame(event.event, json.loads(event.data))

    def _require_ok(self, response: httpx.Response) -> None:
        """Raises Unavailable for what may pass, such as a database that is away, and StartError."""
        require_admitted(response.status_code, self.url, self.client.headers, "read")
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"it answers {response.status_code}")
        if response.headers.get("Content-Type", "").startswith(PROBLEM):
            raise StartError(f"{self.url} answers: {response.json()['detail']}")
        if response.status_code != HTTPStatus.OK:
            raise not_voltwire(self.url)
