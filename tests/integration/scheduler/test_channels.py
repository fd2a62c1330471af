"""Alerts reach people and programs: in order, at least once, and a storm as one message."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler.channels import courier
from scheduler.channels.delivery import ChannelDelivery
from schema.alert import AlertState, Notification, alert
from schema.channels.urls import webhook_key
from schema.database import Connection
from schema.feed import commit
from tests.support.http.http_api import api_on
from tests.support.http.receivers import (
    SECRET,
    MailReceiver,
    WebhookReceiver,
    mail_receiver,
    webhook_receiver,
)

WITHIN_S = 60


@pytest.fixture
def hook() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with mail_receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "RETRY_FIRST_S", 0.05)


@asynccontextmanager
async def delivering(dsn: str, *, private: bool = True) -> AsyncIterator[None]:
    settings = Settings(
        database_url=SecretStr(dsn),
        notify_private_addresses=private,
        public_url="https://voltwire.example",
    )
    task = asyncio.create_task(ChannelDelivery(settings, Metrics()).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def add_channel(db: Connection, name: str, url: str, secret: str | None = SECRET) -> None:
    await db.execute(
        "insert into channel (name, url, shown_url, secret, delivered_id) values ($1, $2, '', $3, 0)",
        name, url, secret,
    )  # fmt: skip


def notification(
    number: int, state: AlertState = AlertState.FIRING, channels: Sequence[str] = ("ops",)
) -> Notification:
    return alert(
        device_id=f"d{number}",
        metrics={"soc_percent": 9.5},
        time=datetime(2026, 5, 1, tzinfo=UTC),
        incident_id=number,
        rule_id="r1",
        severity="critical",
        state=state,
        metric="soc_percent",
        value=9.5,
        op="<",
        threshold=20.0,
        channels=channels,
    )


async def tell(db: Connection, *notifications: Notification) -> None:
    await db.execute("begin")
    await commit(db, notifications)


async def received(queue_owner: Any) -> Any:
    return await asyncio.to_thread(queue_owner.next)


async def channel(db: Connection) -> asyncpg.Record:
    row = await db.fetchrow("select * from channel")
    assert row is not None
    return row


async def until(db: Connection, condition: str) -> asyncpg.Record:
    """The channel once the condition holds of it."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            row = await db.fetchrow(f"select * from channel where {condition}")
            if row is not None:
                return row
            await asyncio.sleep(0.02)


async def test_a_webhook_is_signed_and_holds_the_alert_object(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    await add_channel(db, "ops", hook.url)
    async with delivering(dsn):
        await tell(db, notification(1), notification(2, channels=["other"]))
        await tell(db, notification(3, AlertState.RESOLVED))
        first_id, first = await received(hook)
        second_id, second = await received(hook)
    assert (first["type"], second["type"]) == ("alert.firing", "alert.resolved")
    assert (first["data"]["device_id"], second["data"]["device_id"]) == ("d1", "d3")
    assert first["data"]["incident_id"] == 1
    assert first_id == f"alert-{first['data']['id']}"
    assert second_id != first_id


async def test_a_mail_says_what_a_person_needs(
    dsn: str, db: Connection, mail: MailReceiver
) -> None:
    await db.execute("insert into device (device_id, name) values ('d1', 'Pump 7')")
    await db.execute("insert into device (device_id, profile) values ('d2', 'battery')")
    await add_channel(db, "ops", mail.url, None)
    async with delivering(dsn):
        await tell(db, notification(1))
        message = await received(mail)
    text = message.as_string()
    assert "Critical: Pump 7: soc_percent < 20" in text.replace("=3C", "<")
    assert "Pump 7 (d1): soc_percent is 9.5 % (rule: soc_percent < 20)." in text
    assert "Since 2026-05-01T00:00:00Z, severity critical." in text
    assert "https://voltwire.example/#/alerts/1" in text


async def test_a_mail_says_since_when_although_a_silence_kept_it_back(
    dsn: str, db: Connection, mail: MailReceiver
) -> None:
    await db.execute("insert into device (device_id) values ('d1')")
    await db.execute(
        "insert into incident (incident_id, device_no, rule_id, severity, opened_at)"
        " select 1, device_no, 'r1', 'critical', '2026-04-30T12:00:00Z' from device"
    )
    await add_channel(db, "ops", mail.url, None)
    async with delivering(dsn):
        await tell(db, notification(1), notification(1, AlertState.RESOLVED))
        firing, resolved = await received(mail), await received(mail)
    assert "Since 2026-04-30T12:00:00Z, severity critical." in firing.as_string()
    assert "From 2026-04-30T12:00:00Z to 2026-05-01T00:00:00Z" in resolved.as_string()


async def test_a_failure_is_retried_with_the_same_id_and_the_order_stays(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    hook.statuses = [503, 429, 500]
    await add_channel(db, "ops", hook.url)
    async with delivering(dsn):
        await tell(db, notification(1), notification(2))
        seen = [await received(hook) for _ in range(5)]
        await until(db, "failure is null and delivered_at is not null and attempts = 0")
    assert [body["data"]["device_id"] for _, body in seen] == ["d1"] * 4 + ["d2"]
    assert len({message_id for message_id, _ in seen[:4]}) == 1


async def test_a_refusal_is_not_repeated_and_shows_on_the_channel(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    hook.statuses, hook.location = [302], hook.url
    await add_channel(db, "ops", hook.url)
    async with delivering(dsn):
        await tell(db, notification(1))
        await until(db, "given_up = 1 and failure = 'the response was 302'")
        await tell(db, notification(2))
        await until(db, "failure is null")
    assert [hook.next()[1]["data"]["device_id"] for _ in range(2)] == ["d1", "d2"]


async def test_a_notification_that_is_committed_while_a_courier_reads_is_not_passed_over(
    dsn: str, db: Connection, hook: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = courier.Courier._pending

    async def commit_after_reading(*arguments: Any) -> Any:
        found = await read(*arguments)
        if await db.fetchval("select count(*) from feed") == 1:
            await tell(db, notification(1))
        return found

    monkeypatch.setattr(courier.Courier, "_pending", commit_after_reading)
    await add_channel(db, "ops", hook.url)
    await tell(db, notification(2, channels=["other"]))
    async with delivering(dsn):
        _, body = await received(hook)
    assert body["data"]["device_id"] == "d1"


async def test_a_mail_server_that_is_busy_gets_the_mail_later(
    dsn: str, db: Connection, mail: MailReceiver
) -> None:
    mail.refusals = 2
    await add_channel(db, "ops", mail.url, None)
    async with delivering(dsn):
        await tell(db, notification(1))
        await received(mail)
        await until(db, "failure is null and delivered_at is not null")


async def test_what_failed_for_a_day_is_given_up(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    await add_channel(db, "ops", hook.url)
    await tell(db, notification(1))
    await db.execute("update feed set committed_at = committed_at - interval '25 hours'")
    await tell(db, notification(2))
    await db.execute("update channel set attempts = 7, failing_since = now() - interval '1 day'")
    async with delivering(dsn):
        _, body = await received(hook)
        row = await until(db, "delivered_at is not null")
    assert body["data"]["device_id"] == "d2"
    assert row["given_up"] == 1


async def test_a_storm_is_one_message(dsn: str, db: Connection, hook: WebhookReceiver) -> None:
    await add_channel(db, "ops", hook.url)
    await tell(db, *(notification(n) for n in range(44)))
    async with delivering(dsn):
        _, body = await received(hook)
        await until(db, "delivered_at is not null")
    assert body["type"] == "alert.group"
    data = body["data"]
    assert (data["count"], data["firing"], data["resolved"]) == (44, 44, 0)
    assert [each["device_id"] for each in data["alerts"]] == [f"d{n}" for n in range(44)]
    assert hook.received.empty()


async def test_private_addresses_are_refused_at_each_attempt(
    dsn: str, db: Connection, hook: WebhookReceiver, mail: MailReceiver
) -> None:
    await add_channel(db, "ops", hook.url)
    await add_channel(db, "people", mail.url, None)
    async with delivering(dsn, private=False):
        await tell(db, notification(1, channels=["ops", "people"]))
        row = await until(db, "name = 'ops' and given_up = 1")
        other = await until(db, "name = 'people' and given_up = 1")
    for each in (row, other):
        assert "127.0.0.1, which is no public address" in each["failure"]
    assert hook.received.empty()
    assert mail.received.empty()


async def test_a_crash_between_sending_and_saving_repeats_the_message_with_its_id(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    await add_channel(db, "ops", hook.url)
    await tell(db, notification(1))
    response = threading.Event()
    hook.before_response = response.wait
    async with delivering(dsn):
        first, _ = await received(
            hook
        )  # The message is there, its response is not: then we are gone.
    response.set()
    async with delivering(dsn):
        second, _ = await received(hook)
        await until(db, "delivered_at is not null")
    assert first == second


async def test_two_schedulers_deliver_once(dsn: str, db: Connection, hook: WebhookReceiver) -> None:
    await add_channel(db, "ops", hook.url)
    async with delivering(dsn), delivering(dsn):
        await tell(db, notification(1))
        await tell(db, notification(2))
        seen = [(await received(hook))[1]["data"]["device_id"] for _ in range(2)]
        await until(db, f"delivered_id = {await db.fetchval('select max(last_id) from feed')}")
    assert seen == ["d1", "d2"]
    assert hook.received.empty()


async def test_channels_over_http(dsn: str, db: Connection, hook: WebhookReceiver) -> None:
    async with api_on(dsn) as client:
        body = {"name": "ops", "url": "https://hooks.example.com/T0KEN", "secret": SECRET}
        made = await client.post("/v1/channels", json=body)
        assert made.status_code == 201
        assert (await client.post("/v1/channels", json=body)).status_code == 409
        [listed] = (await client.get("/v1/channels")).json()
        assert listed == made.json()
        assert listed["url"] == "https://hooks.example.com/…"
        for text in (made.text, (await client.get("/v1/channels/ops")).text):
            assert "T0KEN" not in text
            assert SECRET not in text
        kept = await client.put("/v1/channels/ops", json={"url": "https://hooks.example.com/b"})
        assert kept.status_code == 200
        row = await channel(db)
        assert (row["url"], row["secret"]) == ("https://hooks.example.com/b", SECRET)
        for name in ("%C2%84", "a%20b", "ops%0A", "x" * 65):
            response = await client.put(f"/v1/channels/{name}", json={"url": body["url"]})
            assert (response.status_code, "letter or digit" in response.text) == (422, True), name
        assert (await client.delete("/v1/channels/ops")).status_code == 204
        for method in ("GET", "PUT", "DELETE"):
            response = await client.request(method, "/v1/channels/ops", json={})
            assert response.status_code == 404, method


async def test_a_webhook_without_a_secret_gets_one_that_is_shown_once(
    dsn: str, db: Connection
) -> None:
    async with api_on(dsn) as client:
        url = "https://hooks.example.com/a"
        for made in (
            await client.post("/v1/channels", json={"name": "ops", "url": url}),
            await client.put("/v1/channels/new", json={"url": url}),
        ):
            assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
            secret, name = made.json().pop("secret"), made.json()["name"]
            webhook_key(secret)
            assert secret not in (await client.get(f"/v1/channels/{name}")).text
            kept = await client.put(f"/v1/channels/{name}", json={"silent": True})
            assert secret not in kept.text
            stored = await db.fetchval("select secret from channel where name = $1", name)
            assert stored == secret
        mail = {"name": "mail", "url": "mailtos://me:p@mail.example.org?to=a@example.org"}
        assert "secret" not in (await client.post("/v1/channels", json=mail)).json()


async def test_the_test_button_says_whether_it_worked(
    dsn: str, db: Connection, hook: WebhookReceiver
) -> None:
    await add_channel(db, "ops", hook.url)
    async with delivering(dsn), api_on(dsn) as client:
        assert (await client.post("/v1/channels/none/test")).status_code == 404
        response = await client.post("/v1/channels/ops/test")
        assert response.json() == {"status": "delivered"}
        _, body = hook.next()
        assert body["type"] == "test"
        hook.statuses = [500]
        response = await client.post("/v1/channels/ops/test")
        assert response.json() == {"status": "failed", "failure": "the response was 500"}
