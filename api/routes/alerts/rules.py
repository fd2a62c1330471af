"""Alert rules."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import PathParameter
from pydantic import Field

from api.alerts.rules import RuleStore
from api.http.bodies import Instant, operation_with_body, read_body, require_same
from api.http.cursor import fingerprint, instant_of, read_cursor
from api.http.pages import page
from api.http.params import Cursor, PageLimit
from schema.event import json_form
from schema.instants import EARLIEST, rfc3339
from schema.rule import RuleBody

RuleIdPath = Annotated[
    str, PathParameter(description="Rule id", schema_extra={"pattern": r"^[A-Za-z0-9]{1,64}$"})
]


class ReplacingRule(RuleBody):
    """A rule in place of another; what only the server writes may be repeated."""

    id: str | None = Field(None, description="If given, the same as in the path")
    created_at: Instant | None = Field(None, description="Ignored")

    @property
    def written(self) -> RuleBody:
        return RuleBody.model_construct(**self.model_dump(exclude={"id", "created_at"}))


RuleOperation = operation_with_body(RuleBody.model_json_schema())


@post(
    "/v1/alerts",
    operation_class=RuleOperation,
    summary="Register a rule",
    description="It applies, in every process, to every event received after the response.",
    tags=["Alerts"],
)
async def add_rule(
    request: Request[Any, Any, Any], rules: NamedDependency[RuleStore]
) -> Response[dict[str, Any]]:
    rule = await read_body(request, RuleBody)
    return Response(_rule(await rules.add(rule)), status_code=201)


@get("/v1/alerts", summary="Rules, oldest first", tags=["Alerts"])
async def list_rules(
    request: Request[Any, Any, Any],
    rules: NamedDependency[RuleStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("rules")
    key = read_cursor(cursor, query_hash, 2)
    after = (EARLIEST, "") if key is None else (instant_of(key[0]), str(key[1]))
    rows = [
        {**row, "body": msgspec.json.encode(_rule(row)).decode()}
        for row in await rules.page(after, limit)
    ]
    return page(
        request, rows, limit, query_hash,
        lambda row: [row["created_at"].isoformat(), row["rule_id"]],
    )  # fmt: skip


@get("/v1/alerts/{rule_id:str}", summary="One rule", tags=["Alerts"])
async def one_rule(rules: NamedDependency[RuleStore], rule_id: RuleIdPath) -> dict[str, Any]:
    return _rule(await rules.one(rule_id))


@put(
    "/v1/alerts/{rule_id:str}",
    operation_class=operation_with_body(ReplacingRule.model_json_schema()),
    summary="Replace all of a rule",
    description="A rule as GET shows it may be sent back. If the change affects when the rule fires, its"
    " evaluation restarts and its open incidents are resolved.",
    tags=["Alerts"],
)
async def put_rule(
    request: Request[Any, Any, Any], rules: NamedDependency[RuleStore], rule_id: RuleIdPath
) -> dict[str, Any]:
    rule = await read_body(request, ReplacingRule)
    require_same("id", rule.id, rule_id)
    return _rule(await rules.replace(rule_id, rule.written))


@delete(
    "/v1/alerts/{rule_id:str}",
    summary="Delete a rule",
    description="Its open incidents are resolved.",
    tags=["Alerts"],
)
async def delete_rule(rules: NamedDependency[RuleStore], rule_id: RuleIdPath) -> None:
    await rules.delete(rule_id)


def _rule(row: Any) -> dict[str, Any]:
    numbers = ("threshold", "for_s", "max_gap_s", "clear_threshold", "cooldown_s")
    return {
        "id": row["rule_id"],
        "condition": row["condition"],
        "device_id": row["device_id"],
        "tag": row["tag"],
        "metric": row["metric"],
        "op": row["op"],
        **{name: None if row[name] is None else json_form(row[name]) for name in numbers},
        "name": row["name"],
        "severity": row["severity"],
        "notify": row["notify"],
        "channels": row["channels"],
        "enabled": row["enabled"],
        "created_at": rfc3339(row["created_at"]),
    }
