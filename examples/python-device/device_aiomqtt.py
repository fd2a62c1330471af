"""A device with an outbox, on aiomqtt."""

import asyncio
import json
import ssl
from contextlib import suppress
from itertools import count

import aiomqtt
from device import RECONNECT_S, RESEND_S, Device, from_command_line, measure, statuses
from outbox import Outbox


def connection(device: Device, will: object) -> aiomqtt.Client:
    return aiomqtt.Client(
        *device.address,
        identifier=device.device_id,
        clean_session=False,
        will=aiomqtt.Will(device.topic("status"), json.dumps(will), qos=1, retain=True),
        tls_context=ssl.create_default_context() if device.broker.scheme == "mqtts" else None,
        **device.login,
    )


class Work:
    """The outbox, and what one task tells the other about it."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.added, self.emptied = outbox, asyncio.Event(), asyncio.Event()

    def add(self) -> None:
        self.outbox.add(*measure())
        self.emptied.clear()
        self.added.set()


async def take_measurements(device: Device, work: Work) -> None:
    for number in count() if device.count is None else range(device.count):
        if number:
            await asyncio.sleep(device.interval_s)
        work.add()


async def send(client: aiomqtt.Client, device: Device, work: Work) -> None:
    """One message at a time: the oldest events, until their receipt has come."""
    await client.subscribe(device.topic("receipts"), qos=1)
    receipts = aiter(client.messages)
    while True:
        work.added.clear()
        while work.outbox:
            await client.publish(device.topic("telemetry"), json.dumps(work.outbox.oldest()), qos=1)
            try:
                async with asyncio.timeout(RESEND_S):
                    message = await anext(receipts)
            except TimeoutError:
                continue
            work.outbox.settle(json.loads(message.payload))
        work.emptied.set()
        await work.added.wait()


async def stay_connected(device: Device, work: Work) -> None:
    while True:
        birth, will = statuses()
        try:
            async with connection(device, will) as client:
                await client.publish(device.topic("status"), json.dumps(birth), qos=1, retain=True)
                await send(client, device, work)
        except aiomqtt.MqttError as error:
            print(f"not connected: {error}")
            await asyncio.sleep(RECONNECT_S)


async def run(device: Device) -> None:
    work = Work(Outbox(device.outbox))
    connected = asyncio.create_task(stay_connected(device, work))
    await take_measurements(device, work)
    await work.emptied.wait()
    connected.cancel()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(run(from_command_line()))
