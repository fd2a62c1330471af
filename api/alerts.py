"""Alert rules."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import PathParameter

from api.bodies import inlined, json_body, read_body
from api.store import QueryStore
from schema.alert import RuleBody
from schema.event import plain_number, rfc3339

RuleIdPath = Annotated[
    str, PathParameter(description="Rule id", schema_extra={"pattern": r"^[A-Za-z0-9]{1,64}$"})
]


@dataclass
class RuleOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = json_body(inlined(RuleBody.model_json_schema()))


@post(
    "/v1/alerts",
    operation_class=RuleOperation,
    summary="Register a rule",
    description="In force, in every process, for each event received after the answer.",
    tags=["Alerts"],
)
async def add_rule(
    request: Request[Any, Any, Any], store: NamedDependency[QueryStore]
) -> Response[dict[str, Any]]:
    rule = await read_body(request, RuleBody)
    return Response(_rule(await store.add_rule(rule)), status_code=201)


@get("/v1/alerts", summary="All rules", tags=["Alerts"])
async def list_rules(store: NamedDependency[QueryStore]) -> list[dict[str, Any]]:
    return [_rule(row) for row in await store.rules()]


@get("/v1/alerts/{rule_id:str}", summary="One rule", tags=["Alerts"])
async def one_rule(store: NamedDependency[QueryStore], rule_id: RuleIdPath) -> dict[str, Any]:
    return _rule(await store.rule(rule_id))


def _rule(row: Any) -> dict[str, Any]:
    numbers = ("threshold", "for_s", "clear_threshold", "cooldown_s")
    return {
        "id": row["rule_id"],
        "device_id": row["device_id"],
        "tag": row["tag"],
        "metric": row["metric"],
        "op": row["op"],
        **{name: None if row[name] is None else plain_number(row[name]) for name in numbers},
        "name": row["name"],
        "severity": row["severity"],
        "notify": row["notify"],
        "enabled": row["enabled"],
        "created_at": rfc3339(row["created_at"]),
    }
