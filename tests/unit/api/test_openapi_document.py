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


def test_every_parameter_and_body_has_an_example() -> None:
    without = []
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            for each in operation.get("parameters", ()):
                of_schema = None if each["required"] else each["schema"].get("examples")
                if "example" not in each and not of_schema:
                    without.append((method, path, each["name"]))
            bodies = operation.get("requestBody", {}).get("content", {})
            without += [(method, path, kind) for kind in bodies if "example" not in bodies[kind]]
    assert without == []
