"""The OpenAPI document."""

from typing import Any

from api.app import create_litestar
from api.openapi.document import described
from api.openapi.responses import RESPONSES
from api.services import Services
from runtime.settings import Settings


def document() -> dict[str, Any]:
    nothing: Any = None
    services = Services(**dict.fromkeys(Services.__slots__, nothing))
    return described(
        create_litestar(Settings(), services).openapi_schema.to_schema(), authenticated=True
    )


def test_every_operation_has_documented_answers_and_no_other_has() -> None:
    paths = document()["paths"]
    assert RESPONSES.keys() == {
        f"{method.upper()} {path}" for path, operations in paths.items() for method in operations
    }


def test_no_parameter_may_be_null() -> None:
    for operations in document()["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                assert {"type": "null"} not in parameter["schema"].get("oneOf", ()), parameter


def test_every_paged_list_documents_its_link_header() -> None:
    paged = [
        operation
        for operations in document()["paths"].values()
        for operation in operations.values()
        if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))
    ]
    assert paged
    assert all("Link" in operation["responses"]["200"]["headers"] for operation in paged)
