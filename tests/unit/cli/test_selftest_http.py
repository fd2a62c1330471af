"""Posts of a selftest: retried unchanged until the API answers with a verdict."""

from datetime import UTC, datetime

import httpx
import pytest

from cli.selftest.ledger import Ledger
from cli.selftest.over_http import Api
from cli.selftest.plan import Plan, make_plan
from runtime.errors import StartError
from schema.event import Door

NOW = datetime(2026, 2, 1, tzinfo=UTC)
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
def plan() -> Plan:
    return make_plan("x", NOW, events=1, devices=1, seed=1, payload_bytes_max=1024)


class Server:
    """Gives these responses in turn, then keeps giving the last one."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self._answers = list(responses)
        self.got: list[tuple[str, bytes]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.got.append((request.url.path, request.content))
        response = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(response, Exception):
            raise response
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            content=response.content,
            request=request,
        )


async def post(server: Server, plan: Plan) -> Ledger:
    ledger = Ledger(plan.entries)
    transport = httpx.MockTransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        await Api(client, ledger).post_all(plan)
    return ledger


async def test_without_an_answer_and_after_429_and_503_the_same_event_is_retried(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.selftest.over_http.RETRY_S", 0)
    monkeypatch.setattr("cli.selftest.over_http.CONCURRENT_POSTS", 1)
    server = Server(
        httpx.Response(429, headers=AT_ONCE),
        httpx.Response(503, headers=AT_ONCE),
        httpx.Response(502),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("refused"),
        httpx.Response(200, json={"status": "duplicate"}),
    )
    ledger = await post(server, plan)
    posts = plan.over(Door.HTTP)
    assert len(server.got) == len(posts) + 5
    assert len(set(server.got[:6])) == 1
    assert (ledger.resent, ledger.recognised) == (5, len(posts))
    assert not ledger.unanswered & {
        (entry.device_id, entry.event_id) for post in posts for entry in post.entries
    }


async def test_422_is_a_rejection_with_its_reason(plan: Plan) -> None:
    ledger = await post(Server(httpx.Response(422, json={"reason": "too_old"})), plan)
    assert set(ledger.rejected.values()) == {"too_old"}


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, text="no such page"),
        httpx.Response(401),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
    ],
)
async def test_a_response_that_voltwire_never_sends_ends_the_selftest(
    plan: Plan, response: httpx.Response
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await post(Server(response), plan)
    assert caught.group_contains(StartError, match="returned an unexpected")
