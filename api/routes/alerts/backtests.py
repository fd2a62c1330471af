"""Back-tests of rules, with their progress for those who ask for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.di import NamedDependency
from litestar.response import Stream

from api.alerts.backtest import BacktestBody, BacktestStore, Progress
from api.alerts.backtest_run import INCIDENTS_SHOWN_MAX
from api.http.bodies import operation_with_body, read_body
from api.http.problems import problem_of

NDJSON = "application/x-ndjson"
PROGRESS_S = 0.5  # Between two lines of progress.


@post(
    "/v1/alerts/backtest",
    operation_class=operation_with_body(BacktestBody.model_json_schema()),
    summary="The incidents that a rule would have raised on stored events",
    description="It notifies nobody and stores nothing. Events are evaluated in the order of (timestamp,"
    f" event_id). The first {INCIDENTS_SHOWN_MAX:,} incidents are listed, all are counted. With"
    f" `Accept: {NDJSON}` the response is a line of JSON with the `progress` twice a second, and at last the"
    " `result` or the `problem`.",
    status_code=200,
    tags=["Alerts"],
)
async def backtest(
    request: Request[Any, Any, Any], backtests: NamedDependency[BacktestStore]
) -> Response[bytes] | Stream:
    body, progress = await read_body(request, BacktestBody), Progress()
    if request.accept.best_match([MediaType.JSON, NDJSON]) == NDJSON:
        return Stream(
            _lines(request, backtests, body, progress), media_type=NDJSON, status_code=200
        )
    found = await backtests.respond(body, progress)
    return Response(found, media_type=MediaType.JSON, status_code=200)


async def _lines(
    request: Request[Any, Any, Any],
    backtests: BacktestStore,
    body: BacktestBody,
    progress: Progress,
) -> AsyncIterator[bytes]:
    """The work ends with the lines: a client that leaves cancels it."""
    work = asyncio.ensure_future(backtests.respond(body, progress))
    try:
        while not (await asyncio.wait((work,), timeout=PROGRESS_S))[0]:
            yield msgspec.json.encode({"progress": progress.members()}) + b"\n"
        yield b'{"result":%b}\n' % work.result()
    except Exception as error:  # noqa: BLE001  # Whatever fails: the status is sent already.
        yield msgspec.json.encode({"problem": problem_of(request, error).content}) + b"\n"
    finally:
        work.cancel()
        await asyncio.wait((work,))
