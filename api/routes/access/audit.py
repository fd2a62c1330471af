"""The audit: who did what."""

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.http.cursor import fingerprint, number_of, read_cursor
from api.http.pages import page
from api.http.params import Cursor, FromTime, PageLimit, ToTime, require_no_nul, time_range
from api.store.audit import AuditFilter, AuditStore

NUMBER_MAX = 2**63 - 1


@get(
    "/v1/audit",
    summary="Administrative acts and failed logins, newest first",
    description="It holds no secret.",
    tags=["Access"],
)
async def list_audit(
    request: Request[Any, Any, Any],
    audit: NamedDependency[AuditStore],
    actor: Annotated[
        str | None,
        QueryParameter(description="Only acts of this actor, such as key:NAME or command"),
    ] = None,
    action: Annotated[
        str | None, QueryParameter(description="Only this act, such as rule.update or login.failed")
    ] = None,
    target: Annotated[
        str | None, QueryParameter(description="Only on this device, rule, key or profile")
    ] = None,
    address: Annotated[str | None, QueryParameter(description="Only from this address")] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    require_no_nul("actor, action, target, address", actor, action, target, address)
    wanted = AuditFilter(actor, action, target, address, *time_range(from_time, to_time))
    query_hash = fingerprint("audit", wanted)
    key = read_cursor(cursor, query_hash, 1)
    before = NUMBER_MAX if key is None else number_of(key[0], NUMBER_MAX)
    rows = await audit.page(before, wanted, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["audit_id"]])
