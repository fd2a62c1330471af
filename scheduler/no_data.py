"""Rules of `no_data`: metrics that did not arrive for `for_s` seconds, by time of receipt.

1. A new rule begins with the devices that sent its metric before; writers add the others (`save_receipts`).
2. While no canary arrives, no pair of rule and device is checked; silence counts from when canaries arrive
   without a gap. Announced sleep does not count.
3. A pair whose silence reached `for_s` opens its incident. The next value resolves it, in the transaction of
   the writer.
4. What a cooldown kept from subscribers, or a silence from channels, is notified when that ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schema.alert import SILENT_RULE, AlertState, Notification, alert
from schema.database import Connection
from schema.feed import commit
from schema.locks import take_lanes
from schema.presence import TIMES
from schema.queries import load_queries
from schema.rule import receipt_step_s

PIECES_MAX = 10  # of 1,000 pairs each; the next run checks the rest.
MUTED_CHECK_S = 5  # How often a muted incident is checked for the end of its silence.

queries = load_queries("scheduler", "no_data.sql", TIMES)


@dataclass(frozen=True, slots=True)
class DuePair:
    """A rule and device that is due, as stored; `opened_at` is set if the check opens an incident."""

    device_no: int
    rule_id: str
    incident_id: int | None
    incident_notified: bool
    incident_told: bool
    notified_at: datetime | None
    check_at: datetime | None = None
    opened_at: datetime | None = None

    @property
    def key(self) -> tuple[int, str]:
        return self.device_no, self.rule_id


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about a pair. `silent_since` leaves out time in which we could not receive."""

    now: datetime
    silent_since: datetime
    slept_s: float
    for_s: float
    cooldown_s: float
    muted: bool


def check(pair: DuePair, facts: Facts) -> DuePair:
    """The pair after its check: it waits, opens its incident, or notifies what is owed."""
    if pair.incident_id is None:
        silence = facts.now - facts.silent_since - timedelta(seconds=facts.slept_s)
        # Writers skip small steps of received_at; silence begins later by the largest step they skip.
        missing = timedelta(seconds=facts.for_s + receipt_step_s(facts.for_s)) - silence
        if missing > timedelta(0):
            return replace(pair, check_at=facts.now + missing)
        excess = silence - timedelta(seconds=facts.for_s)
        pair = replace(pair, opened_at=facts.now - excess)
    return _notified(pair, facts)


def _notified(pair: DuePair, facts: Facts) -> DuePair:
    """Within the cooldown nothing is notified; under a silence only subscribers are."""
    if pair.notified_at is not None and facts.cooldown_s > 0:
        ends_at = pair.notified_at + timedelta(seconds=facts.cooldown_s)
        if facts.now < ends_at:
            return replace(pair, check_at=ends_at)
    if facts.muted:
        check_at = facts.now + timedelta(seconds=MUTED_CHECK_S)
        return replace(pair, incident_notified=True, check_at=check_at)
    return replace(
        pair, incident_notified=True, incident_told=True, notified_at=facts.now, check_at=None
    )


async def sweep_no_data(connection: Connection) -> int:
    """Prepare new rules, then check the pairs that are due. Returns how many incidents opened."""
    for row in await connection.fetch(queries.unseeded_rules):
        await _seed(connection, row["rule_id"])
    opened = 0
    for _ in range(PIECES_MAX):
        checked, new = await _check_piece(connection)
        opened += new
        if not checked:
            break
    return opened


async def _seed(connection: Connection, rule_id: str) -> None:
    """Give the rule its devices. All writers that do not know the rule end first, so no device is missed."""
    async with connection.transaction():
        await take_lanes(connection)
    async with connection.transaction():
        if await connection.fetchval(queries.lock_unseeded_rule, rule_id) is not None:
            await connection.execute(queries.seed_rule, rule_id)
            await connection.execute(queries.mark_seeded, rule_id)


async def _check_piece(connection: Connection) -> tuple[int, int]:
    """Check up to 1,000 pairs. Returns how many there were, and how many incidents opened."""
    await connection.execute("begin")
    try:
        since = await connection.fetchval(queries.receiving_since)
        rows = [] if since is None else await connection.fetch(queries.due_pairs, since)
        checked = [(row, _checked(row)) for row in rows]
        numbers = await _open_incidents(connection, checked)
        checked = [(row, _numbered(pair, numbers)) for row, pair in checked]
        if checked:
            await _save(connection, [pair for _, pair in checked])
        await commit(connection, [_alert(row, pair) for row, pair in checked if _sends(row, pair)])
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise
    return len(rows), len(numbers)


def _checked(row: Any) -> DuePair:
    pair = DuePair(
        row["device_no"], row["rule_id"], row["incident_id"], row["incident_notified"],
        row["incident_told"], row["notified_at"],
    )  # fmt: skip
    if row["metric"] is None and row["rule_id"] != SILENT_RULE:
        return pair  # Its rule is gone, so it is not due again.
    return check(
        pair,
        Facts(
            row["now"],
            row["silent_since"],
            row["slept_s"],
            row["for_s"],
            row["cooldown_s"],
            row["muted"],
        ),
    )


async def _open_incidents(
    connection: Connection, checked: Sequence[tuple[Any, DuePair]]
) -> dict[tuple[int, str], int]:
    """The numbers of the new incidents. One that is open already stays as it is."""
    new = [(row, pair) for row, pair in checked if pair.opened_at is not None]
    if not new:
        return {}
    opened = await connection.fetch(
        queries.open_no_data_incidents,
        [pair.device_no for _, pair in new],
        [pair.rule_id for _, pair in new],
        [row["severity"] for row, _ in new],
        [pair.opened_at for _, pair in new],
        [row["metric"] for row, _ in new],
    )
    return {(row["device_no"], row["rule_id"]): row["incident_id"] for row in opened}


def _numbered(pair: DuePair, numbers: dict[tuple[int, str], int]) -> DuePair:
    if pair.opened_at is None:
        return pair
    return replace(pair, incident_id=numbers.get(pair.key))


async def _save(connection: Connection, pairs: Sequence[DuePair]) -> None:
    await connection.execute(
        queries.save_pairs,
        [pair.device_no for pair in pairs],
        [pair.rule_id for pair in pairs],
        [pair.check_at for pair in pairs],
        [pair.incident_id for pair in pairs],
        [pair.notified_at for pair in pairs],
        [pair.incident_notified for pair in pairs],
        [pair.incident_told for pair in pairs],
    )


def _sends(row: Any, pair: DuePair) -> bool:
    """Whether the check made an incident known to subscribers or channels."""
    before = row["incident_notified"], row["incident_told"]
    return pair.incident_id is not None and before != (pair.incident_notified, pair.incident_told)


def _alert(row: Any, pair: DuePair) -> Notification:
    return alert(
        device_id=row["device_id"],
        metrics={},
        time=pair.opened_at or row["now"],
        incident_id=pair.incident_id,
        rule_id=pair.rule_id,
        rule_name=row["rule_name"],
        severity=row["severity"],
        state=AlertState.FIRING,
        metric=row["metric"],
        muted=row["muted"],
        channels=(row["channels"] or ()) if pair.incident_told else (),
    )
