"""Writes the history of the demo: ordinary posts to the API, with the secrets of the devices if needed."""

import asyncio
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

import httpx
from pydantic_core import to_json

from broker.simulator.device import BatteryDevice
from broker.simulator.history import DAY_S, HOUR_S, history
from cli.device_logins.lifecycle import AddressOf
from runtime.errors import StartError
from schema.event import MAX_ITEMS

ANSWER_S_MAX = 30.0
AT_ONCE = 4
# Ages at which all devices have come equally far: incidents get their ids in the order in which they began.
ROUNDS_S = (7 * DAY_S, DAY_S, HOUR_S, HOUR_S / 4, 0)
RETRIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
RETRY_S = 1.0
TRIES_MAX = (
    8  # The API may not know the secrets yet; it stands more wrong ones than these in a minute.
)


class HistoryWriter:
    def __init__(self, client: httpx.AsyncClient, address_of: AddressOf | None) -> None:
        """`address_of` knows the secret of a device; None: nobody is asked for one."""
        self._client, self._address_of = client, address_of
        self.stored = 0

    async def write(self, devices: Sequence[BatteryDevice], age_s_max: float) -> None:
        """The first device alone: once the API knows its secret, it knows them all. Raises StartError."""
        oldest_s = age_s_max
        for newest_s in ROUNDS_S:
            await self._write_one(devices[0], oldest_s, newest_s)
            await self._write_round(devices[1:], oldest_s, newest_s)
            oldest_s = min(oldest_s, newest_s)

    async def _write_round(
        self, devices: Sequence[BatteryDevice], oldest_s: float, newest_s: float
    ) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def write(device: BatteryDevice) -> None:
            async with gate:
                await self._write_one(device, oldest_s, newest_s)

        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(write(device))

    async def _write_one(self, device: BatteryDevice, oldest_s: float, newest_s: float) -> None:
        events = history(device, oldest_s, newest_s)
        while payload := await asyncio.to_thread(_next_array, events):
            await self._post(device.device_id, payload)

    async def _post(self, device_id: str, payload: bytes) -> None:
        for _ in range(TRIES_MAX):
            response = await self._client.post(
                "/v1/events/batch", content=payload, headers=self._headers(device_id)
            )
            if response.status_code == HTTPStatus.OK:
                self.stored += sum(each["status"] == "stored" for each in response.json())
                return
            if response.status_code not in RETRIED:
                break
            await asyncio.sleep(RETRY_S)
        raise StartError(
            f"The history of {device_id} is not complete: POST /v1/events/batch was answered"
            f" {response.status_code}."
        )

    def _headers(self, device_id: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._address_of is not None:
            headers["Authorization"] = f"Bearer {self._address_of(device_id).password}"
        return headers


def _next_array(events: Iterator[dict[str, Any]]) -> bytes | None:
    """Call it in a thread: a thousand events take 20 ms, in which the event loop serves others."""
    items = list(islice(events, MAX_ITEMS))
    return to_json(items) if items else None
