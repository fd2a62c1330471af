"""A sweep of 100,000 devices of which 1,000 change reads and writes only those."""

from time import process_time

import psutil
import pytest

from scheduler.silence import queries, sweep
from schema.database import Connection
from tests.support.oracle.plans import plan_of

pytestmark = pytest.mark.slow

DEVICES, SILENT = 100_000, 1000
OFFLINE_AFTER_S = 300
SWEEP_S_MAX = 0.2
# Every hundredth device has been silent for long enough. The others are due in the next five minutes.
FILL = f"""
insert into device (device_id) select 'd' || n from generate_series(1, {DEVICES}) n;
insert into presence (device_no, state, last_seen, check_at)
select device_no, 'online', now() - silence, now() - silence + interval '303 s'
from device, lateral (select case when device_no % ({DEVICES} / {SILENT}) = 0 then interval '400 s'
                                  else interval '1 s' * (device_no % 290) end as silence) s;
insert into canary values ('test', now() - interval '1 day', now() + interval '1 hour');
"""
AGAIN = f"""
update presence set state = 'online', last_seen = now() - interval '400 s', check_at = now()
where device_no % ({DEVICES} / {SILENT}) = 0;
"""


async def cpu_seconds(db: Connection) -> float:
    """Of this process and of the server's process for the connection: a busy machine changes little of it."""
    server = psutil.Process(await db.fetchval("select pg_backend_pid()")).cpu_times()
    return process_time() + server.user + server.system


async def test_a_sweep_of_100_000_devices_with_1000_changes_takes_less_than_200_ms(
    db: Connection,
) -> None:
    await db.execute(FILL)
    await db.execute("vacuum analyze device, presence")
    took = []
    for _ in range(4):
        began = await cpu_seconds(db)
        assert await sweep(db, OFFLINE_AFTER_S) == SILENT
        took.append(await cpu_seconds(db) - began)
        await db.execute(AGAIN)
    assert min(took) < SWEEP_S_MAX, took
    plan = await plan_of(db, queries.sweep_presence, float(OFFLINE_AFTER_S))
    assert not plan.read_whole & {"presence", "device"}
    assert plan.rows_most <= SILENT
    assert "presence_check_at" in plan.indexes
    plan = await plan_of(db, queries.end_flapping)
    assert not plan.read_whole & {"presence", "device", "incident"}
