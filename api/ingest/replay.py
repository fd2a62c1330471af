"""Replays over HTTP: one at a time per process, and each request is answered in time."""

import asyncio
from dataclasses import replace
from time import monotonic

from api.ingest.door import RESPONSE_WITHIN_S
from ingestor.decode.acceptance import AcceptLimits
from ingestor.pipeline import Pipeline
from ingestor.replay import Replay, ReplayOutcome, ReplaySelection
from runtime.errors import Overloaded
from schema.database import API_SESSION, connect

LAST_PAGE_AFTER_S = 2.5  # No page begins later; the next request continues.


class ReplayRunner:
    """`pipeline` is the one of the posts, so replayed events share their batches."""

    def __init__(self, dsn: str, name: str, pipeline: Pipeline, limits: AcceptLimits) -> None:
        self._dsn, self._name = dsn, name
        self._pipeline, self._limits = pipeline, limits
        self._lock = asyncio.Lock()

    async def run(self, selection: ReplaySelection, dead_letters_max: int) -> ReplayOutcome:
        """Replay as many dead letters as the time allows. Raises Overloaded; a retry is harmless."""
        last_page_at = monotonic() + LAST_PAGE_AFTER_S
        try:
            async with asyncio.timeout(RESPONSE_WITHIN_S), self._lock:
                return await self._pages(selection, dead_letters_max, last_page_at)
        except TimeoutError:
            raise Overloaded(
                "The database did not confirm in time, or another replay is running; the outcome is"
                " unknown: retry. Events that are already stored will be duplicates."
            ) from None

    async def _pages(
        self, selection: ReplaySelection, dead_letters_max: int, last_page_at: float
    ) -> ReplayOutcome:
        connection = await connect(self._dsn, self._name, API_SESSION)
        try:
            replay, outcome = Replay(connection, self._pipeline, self._limits), ReplayOutcome()
            while True:
                await replay.page(selection, outcome, dead_letters_max - outcome.dead_letters)
                if (
                    outcome.next is None
                    or outcome.dead_letters >= dead_letters_max
                    or (monotonic() >= last_page_at)
                ):
                    return outcome
                selection = replace(selection, after=outcome.next)
        finally:
            connection.terminate()
