"""The HTTP door: posts become messages of the pipeline and wait for their commit."""

import asyncio
from dataclasses import replace
from time import monotonic

from api.ingest.rate_limit import RateLimiter
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.fast import FastDecoder
from ingestor.pipeline import Pipeline
from runtime.errors import InvalidRequest, Overloaded
from schema.event import Event, Reason, Rejection, Status, Verdict
from schema.instants import now_us

ANSWER_WITHIN_S = (
    4.5  # A 503 comes within 5 s; it means: unknown, send again with the same event_id.
)
BATCH_BYTES_MAX = 8 * 1024 * 1024

_FAULTS_OF_THE_TEXT = {
    Reason.MALFORMED_JSON,
    Reason.NO_ITEMS,
    Reason.TOO_MANY_ITEMS,
    Reason.TOO_LARGE,
}


class HttpDoor:
    def __init__(self, pipeline: Pipeline, limiter: RateLimiter, limits: AcceptLimits) -> None:
        self._pipeline, self._limiter = pipeline, limiter
        self._one = FastDecoder(limits)
        self._many = FastDecoder(replace(limits, payload_bytes_max=BATCH_BYTES_MAX))

    async def post_event(self, payload: bytes) -> Verdict:
        """Store one event. Raises InvalidRequest if it is rejected, TooManyRequests over the limit."""
        deadline = _deadline()
        origin = Origin(now_us())
        item = _one_object(self._one.decode(payload, origin), payload)
        now = monotonic()
        if item.device_id is not None:
            self._limiter.take(item.device_id, now)
        accepted = False
        try:
            (verdict,) = await self._submit(payload, origin, [item], deadline)
            accepted = verdict.status is not Status.REJECTED
        finally:
            if not accepted and item.device_id is not None:
                self._limiter.give_back(item.device_id, now)
        if not accepted:
            raise InvalidRequest(verdict.detail or "Rejected.", reason=verdict.reason)
        return verdict

    async def post_batch(self, payload: bytes) -> list[Verdict]:
        """One verdict per item. Raises InvalidRequest for a fault of the text as a whole."""
        deadline = _deadline()
        origin = Origin(now_us())
        items = _an_array(self._many.decode(payload, origin), payload)
        verdicts = await self._submit(payload, origin, items, deadline)
        if items[0].item is None:
            raise InvalidRequest(verdicts[0].detail or "Rejected.", reason=verdicts[0].reason)
        return verdicts

    async def _submit(
        self,
        payload: bytes,
        origin: Origin,
        items: list[Event | Rejection],
        deadline: float,
    ) -> list[Verdict]:
        """Not by asyncio.timeout, which costs a post as much as decoding it."""
        answer = self._pipeline.submit(payload, origin, items)
        deadline_passed = answer.get_loop().call_at(deadline, _give_up, answer)
        try:
            return await answer
        finally:
            deadline_passed.cancel()


def _deadline() -> float:
    """From the first look at a post on, by the clock of the event loop."""
    return asyncio.get_running_loop().time() + ANSWER_WITHIN_S


def _give_up(answer: asyncio.Future[list[Verdict]]) -> None:
    if not answer.done():
        answer.set_exception(
            Overloaded(
                "The database did not confirm in time: nothing is known of this request,"
                " send it again with the same event_id."
            )
        )


def _one_object(items: list[Event | Rejection], payload: bytes) -> Event | Rejection:
    if items[0].item is None:
        return items[0]
    detail = "one event is a JSON object; arrays go to /v1/events/batch"
    return Rejection(Reason.NOT_AN_OBJECT, detail, payload, items[0].received_at)


def _an_array(items: list[Event | Rejection], payload: bytes) -> list[Event | Rejection]:
    first = items[0]
    if first.item is not None:
        return items
    if isinstance(first, Rejection) and first.reason in _FAULTS_OF_THE_TEXT:
        return items
    detail = "a batch is a JSON array of events; one event goes to /v1/events"
    return [Rejection(Reason.NOT_AN_ARRAY, detail, payload, first.received_at)]
