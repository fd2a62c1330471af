"""Forgetting devices of our own commands, over the API."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from time import monotonic

import httpx
import typer

from cli.api_client import api_client, error_text, key_header, without_credentials
from runtime.settings import Settings
from schema.presence import PresenceState

RESPONSE_S_MAX = 10.0
# For the last messages of all devices: one after the deletion makes its device again.
ASLEEP_S_MAX = 3.0
POLL_S = 0.05
AT_ONCE = 8


async def forget_devices(
    settings: Settings, url: str, device_ids: Sequence[str], *, events: bool
) -> bool:
    """Delete devices that have said that they sleep, with their events if asked to.

    Returns whether all are deleted; if not, standard error says so.
    """
    deadline, gate = monotonic() + ASLEEP_S_MAX, asyncio.Semaphore(AT_ONCE)
    errors: list[httpx.HTTPError] = []

    async def forget(device_id: str) -> None:
        try:
            async with gate:
                if errors and isinstance(errors[-1], httpx.TransportError):
                    raise errors[-1]  # Each device would wait as long for the same API.
                await _until_asleep(api, device_id, deadline)
                await _delete(api, device_id, events=events)
        except httpx.HTTPError as error:
            errors.append(error)

    async with (
        api_client(url, key_header(settings), RESPONSE_S_MAX) as api,
        asyncio.TaskGroup() as group,
    ):
        for device_id in device_ids:
            group.create_task(forget(device_id))
    if errors:
        typer.echo(
            f"{len(errors)} of {len(device_ids)} devices are not forgotten, because the API at"
            f" {without_credentials(url)} did not do it ({_reason(errors[0])}): send"
            " DELETE /v1/devices/{device_id}?events=true for each later.",
            err=True,
        )
    return not errors


async def _until_asleep(api: httpx.AsyncClient, device_id: str, deadline: float) -> None:
    """Until its last message has arrived, or the deadline."""
    while monotonic() < deadline:
        response = await api.get(f"/v1/devices/{device_id}/presence")
        if response.status_code == HTTPStatus.NOT_FOUND:  # Nothing of it arrived.
            return
        response.raise_for_status()
        if response.json()["state"] == PresenceState.ASLEEP:
            return
        await asyncio.sleep(POLL_S)


async def _delete(api: httpx.AsyncClient, device_id: str, *, events: bool) -> None:
    response = await api.delete(f"/v1/devices/{device_id}", params={"events": events})
    if response.status_code != HTTPStatus.NOT_FOUND:  # Nothing of it arrived.
        response.raise_for_status()


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it returned {error.response.status_code}"
    return error_text(error)
