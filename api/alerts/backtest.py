"""Back-tests: the incidents that a rule would have raised on stored events.

Events are read in pieces and evaluated between them, so the event loop is never held for more than a few
milliseconds, and memory stays flat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec
from pydantic import BaseModel, ConfigDict, model_validator

from api.alerts.backtest_run import Findings, FoundIncident, NoDataRun, RuleRun
from api.alerts.readings import CopyReader
from api.http.bodies import Instant
from api.store.database import QUERY_S_MAX, Database
from api.store.retention import require_kept
from runtime.errors import InvalidRequest
from schema.database import Connection, fetch_row
from schema.event import DeviceId, json_form
from schema.instants import EARLIEST, epoch_us, from_epoch_us, rfc3339
from schema.queries import load_queries
from schema.rule import Condition, Rule, RuleBody, max_gap_s, rule_of

READINGS_MAX = 5_000_000  # About as many as are read and evaluated within QUERY_S_MAX.
# A back-test of `no_data` leaves out events that reached us later than this after their time.
DELAY_MAX = timedelta(days=7)
AHEAD_MAX = timedelta(days=1)
SECOND_US = 1_000_000

queries = load_queries("api.alerts", "backtest.sql")


class BacktestBody(BaseModel):
    """Which rule, and over which stored events: those of [from_time, to_time)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: RuleBody
    from_time: Instant
    to_time: Instant
    device_id: DeviceId | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.from_time >= self.to_time:
            raise ValueError("from_time must be before to_time")
        if (
            None not in {self.device_id, self.rule.device_id}
            and self.device_id != self.rule.device_id
        ):
            raise ValueError(f"device_id differs from the rule's, {self.rule.device_id!r}")
        return self


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is read: readings of [start, end) of a device (None: all). The response begins at `shown_from`.

    Without a later event an incident fires until `now`, at most.
    """

    rule: Rule
    start: datetime
    shown_from: datetime
    end: datetime
    now: datetime
    device_no: int | None

    @property
    def by_receipt(self) -> bool:
        return self.rule.condition is Condition.NO_DATA

    @property
    def event_times(self) -> tuple[datetime, datetime]:
        if self.by_receipt:
            return self.start - DELAY_MAX, self.end + AHEAD_MAX
        return self.start, self.end


@dataclass(slots=True)
class Progress:
    """How many events were read, and about how many there are; None until it is known."""

    events: int = 0
    expected: float | None = None

    def members(self) -> dict[str, Any]:
        expected = None if self.expected is None else max(round(self.expected), self.events)
        return {"events": self.events, "expected": expected}


class BacktestStore:
    def __init__(self, database: Database, default_profile: str) -> None:
        self._database, self._default_profile = database, default_profile

    async def respond(self, body: BacktestBody, progress: Progress) -> bytes:
        """The incidents as JSON; `progress` is kept current.

        Raises RawEventsDropped if retention has dropped events of the range, InvalidRequest if there are too
        many events for one response.
        """
        async with self._database.heavy_query_slot():
            try:
                async with self._database.connection(QUERY_S_MAX) as connection:
                    return await self._respond(connection, body, progress)
            except TimeoutError as error:
                raise InvalidRequest(
                    "The back-test takes too long; request a shorter range or one device."
                ) from error

    async def _respond(
        self, connection: Connection, body: BacktestBody, progress: Progress
    ) -> bytes:
        device_id = body.device_id or body.rule.device_id
        facts = await fetch_row(
            connection, queries.backtest_facts, device_id, self._default_profile
        )
        require_kept(body.from_time, facts["floor"])
        plan = _plan(body, facts)
        until = min(plan.end, max(plan.now, plan.shown_from))
        findings = Findings(epoch_us(plan.shown_from), epoch_us(plan.end), epoch_us(until))
        known = device_id is None or plan.device_no is not None
        if known and plan.start < plan.end:
            progress.expected = await _estimate(connection, plan)
            await self._read(connection, plan, findings, progress)
        return await _encoded(connection, plan, findings, progress.events)

    async def _read(
        self, connection: Connection, plan: _Plan, findings: Findings, progress: Progress
    ) -> None:
        run, reader = await self._run_of(connection, plan, findings), CopyReader()

        async def evaluate(piece: bytes) -> None:
            for device_no, readings in reader.devices(piece):
                run.read(device_no, readings)
            progress.events = reader.rows

        first, after = plan.event_times
        arguments = [plan.rule.metric, plan.start, plan.end, plan.device_no, plan.rule.tag]
        query = queries.readings
        if plan.by_receipt:
            query, arguments = queries.receipts, [*arguments, first, after]
        await connection.execute(queries.begin_reading)
        await connection.copy_from_query(query, *arguments, output=evaluate, format="binary")
        await connection.execute("commit")
        run.finish()

    async def _run_of(
        self, connection: Connection, plan: _Plan, findings: Findings
    ) -> RuleRun | NoDataRun:
        if plan.by_receipt:
            return NoDataRun(plan.rule, findings, epoch_us(min(plan.end, plan.now)))
        rows = await connection.fetch(
            queries.device_intervals, plan.device_no, self._default_profile
        )
        intervals = {row["device_no"]: row["interval_s"] for row in rows}
        return RuleRun(plan.rule, intervals, findings)


def _plan(body: BacktestBody, facts: Any) -> _Plan:
    """The reading starts earlier by what a run may have lasted, as far as events are kept."""
    rule = rule_of(body.rule, "", EARLIEST)
    gap_s = max_gap_s(rule.max_gap_s, facts["interval_s_max"])
    if rule.condition is Condition.NO_DATA:
        gap_s = 0
    earlier = timedelta(seconds=rule.for_s + (gap_s or 0))
    start = max(body.from_time - earlier, facts["floor"], EARLIEST)
    return _Plan(rule, start, body.from_time, body.to_time, facts["now"], facts["device_no"])


async def _estimate(connection: Connection, plan: _Plan) -> float:
    """How many events the planner expects. Raises InvalidRequest if there are too many."""
    estimate = await connection.fetchval(
        queries.estimate_events, *plan.event_times, plan.device_no, plan.rule.tag
    )
    events = float(msgspec.json.decode(estimate)[0]["Plan"]["Plan Rows"])
    if events > READINGS_MAX:
        raise InvalidRequest(
            f"The back-test would read about {events:,.0f} events; the limit is {READINGS_MAX:,}."
            " Request a shorter range or one device."
        )
    return events


async def _encoded(connection: Connection, plan: _Plan, findings: Findings, events: int) -> bytes:
    numbers = sorted(findings.counts)
    rows = await connection.fetch(queries.device_ids, numbers)
    names = {row["device_no"]: row["device_id"] for row in rows}
    event_ids = {} if plan.by_receipt else await _event_ids(connection, plan.rule, findings.shown)
    body = {
        "from_time": rfc3339(plan.shown_from),
        "to_time": rfc3339(plan.end),
        "time": "received_at" if plan.by_receipt else "timestamp",
        "events": events,
        "incidents_total": findings.total,
        "firing_s": _seconds(sum(firing_us for _, firing_us in findings.counts.values())),
        "devices": [
            {
                "device_id": names[device_no],
                "incidents": incidents,
                "firing_s": _seconds(firing_us),
            }
            for device_no, (incidents, firing_us) in sorted(findings.counts.items())
            if device_no in names
        ],
        "incidents": [
            _incident(found, names[found.device_no], event_ids)
            for found in findings.shown
            if found.device_no in names
        ],
        "truncated": findings.total > len(findings.shown),
    }
    return msgspec.json.encode(body)


_EventKey = tuple[int, int, int | None]


async def _event_ids(
    connection: Connection, rule: Rule, shown: Sequence[FoundIncident]
) -> dict[_EventKey, str]:
    keys: list[_EventKey] = [
        (found.device_no, found.opened_us, found.opened_rank) for found in shown
    ]
    keys += [
        (found.device_no, found.resolved_us, found.resolved_rank)
        for found in shown
        if found.resolved_us is not None
    ]
    rows = await connection.fetch(
        queries.event_ids,
        [device_no for device_no, _, _ in keys],
        [from_epoch_us(at) for _, at, _ in keys],
        [rank for _, _, rank in keys],
        rule.metric,
        rule.tag,
    )
    return {(row["device_no"], epoch_us(row["at"]), row["rank"]): row["event_id"] for row in rows}


def _incident(
    found: FoundIncident, device_id: str, event_ids: dict[_EventKey, str]
) -> dict[str, Any]:
    resolved = found.resolved_us
    return {
        "device_id": device_id,
        "opened_at": rfc3339(from_epoch_us(found.opened_us)),
        "opened_by": event_ids.get((found.device_no, found.opened_us, found.opened_rank)),
        "opened_value": None if found.opened_value is None else json_form(found.opened_value),
        "resolved_at": None if resolved is None else rfc3339(from_epoch_us(resolved)),
        "resolved_by": None
        if resolved is None
        else event_ids.get((found.device_no, resolved, found.resolved_rank)),
    }


def _seconds(us: int) -> Any:
    return json_form(us / SECOND_US)
