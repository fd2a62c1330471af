"""ReplayRunner that callers asked for: one at a time in a process, and each request answered in time."""

import asyncio
from dataclasses import replace
from time import monotonic

from api.ingest.door import ANSWER_WITHIN_S
from ingestor.decode.acceptance import AcceptLimits
from ingestor.pipeline import Pipeline
from ingestor.replay import Replay, ReplayOutcome, ReplaySelection
from runtime.errors import Overloaded
from schema.database import READER_LIMITS, connect

TAKE_WITHIN_S = 2.5  # What is left then is the next request's.


class ReplayRunner:
    """`pipeline` is the one that posts go through: replayed events share their batches."""

    def __init__(self, dsn: str, name: str, pipeline: Pipeline, limits: AcceptLimits) -> None:
        self._dsn, self._name = dsn, name
        self._pipeline, self._limits = pipeline, limits
        self._turn = asyncio.Lock()

    async def run(self, selection: ReplaySelection, letters_max: int) -> ReplayOutcome:
        """As many letters as the time allows. Raises Overloaded; the same request again is harmless."""
        last_page_at = monotonic() + TAKE_WITHIN_S
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self._turn:
                return await self._pages(selection, letters_max, last_page_at)
        except TimeoutError:
            raise Overloaded(
                "The database did not confirm in time, or another replay runs: nothing is known of"
                " this one, send it again. What it stored is a duplicate then."
            ) from None

    async def _pages(
        self, selection: ReplaySelection, letters_max: int, last_page_at: float
    ) -> ReplayOutcome:
        connection = await connect(self._dsn, self._name, READER_LIMITS)
        try:
            replay, outcome = Replay(connection, self._pipeline, self._limits), ReplayOutcome()
            while True:
                await replay.page(selection, outcome, letters_max - outcome.dead_letters)
                if (
                    outcome.next is None
                    or outcome.dead_letters >= letters_max
                    or (monotonic() >= last_page_at)
                ):
                    return outcome
                selection = replace(selection, after=outcome.next)
        finally:
            connection.terminate()
