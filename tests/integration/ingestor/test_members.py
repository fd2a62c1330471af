"""The check `members`: every role names the ingestor whose messages wait in the broker."""

from typing import Any

from runtime.health import Health
from schema.members import CHECK, MemberWatch


async def joined(db: Any, number: int, instance: str = "voltwire") -> None:
    await db.execute(
        "insert into ingest_member values ($1, $2, $3, '{}')",
        f"{instance}-{number}",
        instance,
        number,
    )


async def heard(db: Any, number: int, seconds_ago: float) -> None:
    await db.execute(
        "insert into canary values ($1, now() - interval '1 day', now() - make_interval(secs => $2))"
        " on conflict (client_id) do update set received_at = excluded.received_at",
        f"voltwire-{number}",
        seconds_ago,
    )


async def test_a_member_that_was_not_heard_for_ten_seconds_is_named_and_the_role_stays_healthy(
    db: Any,
) -> None:
    health, now = Health(()), 0.0
    members = MemberWatch("voltwire", health, clock=lambda: now)
    for number in (1, 2, 3):
        await joined(db, number)
        await heard(db, number, 0)
    await joined(db, 1, "another instance")
    await members.look(db)
    now = 60
    await members.look(db)
    assert CHECK not in health.checks, "nobody was ever silent"
    await heard(db, 2, 11)
    await members.look(db)
    assert health.checks[CHECK] == (False, "member 2: its messages wait in the broker")
    assert health.ok
    await db.execute("delete from ingest_member where number = 2")
    await heard(db, 3, 11)
    await members.look(db)
    assert health.checks[CHECK] == (False, "member 3: its messages wait in the broker")
    await heard(db, 3, 0)
    await members.look(db)
    assert health.checks[CHECK] == (True, "every member receives")


async def test_a_member_has_ten_seconds_to_start(db: Any) -> None:
    health, now = Health(()), 0.0
    members = MemberWatch("voltwire", health, clock=lambda: now)
    await joined(db, 1)
    for now in (0.0, 9.9):  # noqa: B007  # The clock reads it.
        await members.look(db)
        assert CHECK not in health.checks
    now = 10.0
    await members.look(db)
    assert not health.checks[CHECK][0]


async def test_a_role_may_look_before_the_tables_exist(db: Any) -> None:
    health = Health(())
    await db.execute("alter table ingest_member rename to elsewhere")
    await MemberWatch("voltwire", health).look(db)
    assert CHECK not in health.checks
