"""The HTTP door: posts become pipeline messages and wait for their commit."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic

from api.http.rate_limit import RateLimiter
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.fast import FastDecoder
from ingestor.decode.large import LargeDecoder
from ingestor.decode.strict import Items
from ingestor.pipeline import Pipeline
from runtime.errors import InvalidRequest, Overloaded
from schema.event import REJECTED, Event, Reason, Rejection, Verdict
from schema.instants import now_us

# A post without a commit answers 503 within 5 s: its outcome is unknown, retry with the same event_id.
RESPONSE_WITHIN_S = 4.5
BATCH_BYTES_MAX = 8 * 1024 * 1024
# Larger batches are decoded in threads, item by item, and never hold the event loop.
SMALL_BATCH_BYTES_MAX = 256 * 1024
LARGE_AT_ONCE = 2

_FAULTS_OF_THE_BODY = {
    Reason.MALFORMED_JSON,
    Reason.NO_ITEMS,
    Reason.TOO_MANY_ITEMS,
    Reason.TOO_LARGE,
    Reason.NOT_AN_ARRAY,
}


class HttpDoor:
    def __init__(self, pipeline: Pipeline, limiter: RateLimiter, limits: AcceptLimits) -> None:
        self._pipeline, self._limiter = pipeline, limiter
        self._one = FastDecoder(limits)
        self._many = FastDecoder(replace(limits, payload_bytes_max=BATCH_BYTES_MAX))
        self._small_bytes_max = min(limits.payload_bytes_max, SMALL_BATCH_BYTES_MAX)
        self._large = LargeDecoder(limits, BATCH_BYTES_MAX)
        self._threads = ThreadPoolExecutor(LARGE_AT_ONCE, "large batch")

    async def post_event(self, payload: bytes, device_id: str | None = None) -> Verdict:
        """Store one event. Raises InvalidRequest if it is rejected, TooManyRequests over the limit.

        `device_id`: the device whose secret was shown; an event that names another one is rejected.
        """
        deadline = _deadline()
        origin = Origin(now_us(), device_id)
        item = _one_object(self._one.decode(payload, origin), payload, device_id)
        now = monotonic()
        if item.device_id is not None:
            self._limiter.take(item.device_id, now)
        accepted = False
        try:
            (verdict,) = await self._submit(payload, origin, [item], deadline)
            accepted = verdict.status is not REJECTED
        finally:
            if not accepted and item.device_id is not None:
                self._limiter.give_back(item.device_id, now)
        if not accepted:
            raise InvalidRequest(verdict.detail or "Rejected.", reason=verdict.reason)
        return verdict

    async def post_batch(self, payload: bytes, device_id: str | None = None) -> list[Verdict]:
        """Store a batch; one verdict per item. Raises InvalidRequest if the body as a whole is rejected."""
        deadline = _deadline()
        origin = Origin(now_us(), device_id)
        source: Items | None = None
        if len(payload) <= self._small_bytes_max:
            items = self._many.decode(payload, origin)
        else:
            items, source = await self._decode_large(payload, origin, deadline)
        items = _an_array(items, payload, device_id)
        verdicts = await self._submit(payload, origin, items, deadline, source)
        if items[0].item is None:
            raise InvalidRequest(verdicts[0].detail or "Rejected.", reason=verdicts[0].reason)
        return verdicts

    async def _decode_large(
        self, payload: bytes, origin: Origin, deadline: float
    ) -> tuple[list[Event | Rejection], Items | None]:
        """In one of the threads; later batches wait for them, and answer 503 at the deadline."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(
                    self._threads, self._large.decode, payload, origin
                )
        except TimeoutError:
            raise Overloaded("Too many large batches are being read: retry later.") from None

    async def _submit(
        self,
        payload: bytes,
        origin: Origin,
        items: list[Event | Rejection],
        deadline: float,
        source: Items | None = None,
    ) -> list[Verdict]:
        """The deadline is a timer, because asyncio.timeout costs as much as decoding a post.

        Its items name the device, so the pipeline treats the posts of keys and of devices alike.
        """
        verdicts = self._pipeline.submit(payload, Origin(origin.received_us), items, source)
        deadline_passed = verdicts.get_loop().call_at(deadline, _time_out, verdicts)
        try:
            return await verdicts
        finally:
            deadline_passed.cancel()


def _deadline() -> float:
    """Counted from the start of a post, by the clock of the event loop."""
    return asyncio.get_running_loop().time() + RESPONSE_WITHIN_S


def _time_out(verdicts: asyncio.Future[list[Verdict]]) -> None:
    if not verdicts.done():
        verdicts.set_exception(
            Overloaded(
                "The database did not confirm in time; the outcome is unknown: retry with the same event_id."
            )
        )


def _one_object(
    items: list[Event | Rejection], payload: bytes, device_id: str | None
) -> Event | Rejection:
    if items[0].item is None:
        return items[0]
    detail = "the body must be a JSON object, one event; send arrays to /v1/events/batch"
    return Rejection(Reason.NOT_AN_OBJECT, detail, payload, items[0].received_at, device_id)


def _an_array(
    items: list[Event | Rejection], payload: bytes, device_id: str | None
) -> list[Event | Rejection]:
    first = items[0]
    if first.item is not None:
        return items
    if isinstance(first, Rejection) and first.reason in _FAULTS_OF_THE_BODY:
        return items
    detail = "the body must be a JSON array of events; send one event to /v1/events"
    return [Rejection(Reason.NOT_AN_ARRAY, detail, payload, first.received_at, device_id)]
