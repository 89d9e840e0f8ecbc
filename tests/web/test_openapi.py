"""The OpenAPI document: four operations, all that each can answer, and nothing else."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2 as httpx
import pytest
import schemathesis
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from app.main import create_app
from app.settings import Settings
from app.web.openapi import describe

RECORD = "/repos/{repo_id}"
ANYWHERE = {400, 422, 500, 503}
# The table of the contract, and what can go wrong with any request.
STATUSES = {
    ("post", "/repos"): {201, 404, 409, 413, 415, 502, 504} | ANYWHERE,
    ("get", RECORD): {200, 304, 404} | ANYWHERE,
    ("put", RECORD): {200, 404, 409, 412, 502, 504} | ANYWHERE,
    ("delete", RECORD): {204, 404, 412} | ANYWHERE,
}
HEADERS = {
    ("post", "/repos", 201): {"Location", "ETag"},
    ("post", "/repos", 409): {"Location"},
    ("post", "/repos", 415): {"Accept", "Accept-Encoding"},
    ("get", RECORD, 200): {"ETag", "Cache-Control"},
    ("get", RECORD, 304): {"ETag", "Cache-Control"},
    ("get", RECORD, 503): {"Retry-After"},
    ("put", RECORD, 200): {"ETag"},
    ("put", RECORD, 412): {"ETag"},
    ("put", RECORD, 503): {"Retry-After"},
    ("delete", RECORD, 412): {"ETag"},
}
CONDITIONS = {
    "get": {"If-None-Match"},
    "put": {"If-Match", "If-None-Match"},
    "delete": {"If-Match", "If-None-Match"},
}
EVERY_RESPONSE = [
    (method, path, status)
    for (method, path), statuses in STATUSES.items()
    for status in sorted(statuses)
]

every_operation = pytest.mark.parametrize(("method", "path"), STATUSES)
every_response = pytest.mark.parametrize(("method", "path", "status"), EVERY_RESPONSE)
every_problem = pytest.mark.parametrize(
    ("method", "path", "status"), [row for row in EVERY_RESPONSE if row[2] >= 400]
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(create_app(Settings(database_url=None)))


def operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][method]
    return found


def response(document: dict[str, Any], method: str, path: str, status: int) -> dict[str, Any]:
    found: dict[str, Any] = operation(document, method, path)["responses"][str(status)]
    return found


def faults(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    """Return what is wrong with a value by a schema of the document."""
    whole = {**schema, "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


def example_of(content: dict[str, Any]) -> Any:
    """Return the example of a JSON body."""
    return content["application/json"]["example"]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the document."""
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from objects(member)
    elif isinstance(value, list):
        for member in value:
            yield from objects(member)


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_the_document_is_of_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")


def test_there_are_exactly_four_operations(document: dict[str, Any]) -> None:
    operations = {(method, path) for path, item in document["paths"].items() for method in item}
    assert operations == set(STATUSES)


def test_the_other_routes_are_the_documentation_and_its_files_only() -> None:
    paths = {getattr(route, "path", route) for route in create_app(Settings()).routes}
    pages = {"/docs", "/redoc", "/openapi.json"}
    files = {"/docs/{file}", "/redoc/{file}"}
    assert paths == {"/repos", RECORD} | pages | files


def test_each_of_the_four_has_a_route_of_its_own() -> None:
    routes = [
        (getattr(route, "path", ""), set(getattr(route, "methods", ())))
        for route in create_app(Settings()).routes
    ]
    assert [route for route in routes if route[0].startswith("/repos")] == [
        (RECORD, {"GET"}),
        ("/repos", {"POST"}),
        (RECORD, {"PUT"}),
        (RECORD, {"DELETE"}),
    ]


@every_operation
def test_an_operation_lists_each_status_that_it_answers_and_no_other(
    document: dict[str, Any], method: str, path: str
) -> None:
    listed = {int(status) for status in operation(document, method, path)["responses"]}
    assert listed == STATUSES[method, path]


@every_operation
def test_an_operation_has_a_summary_a_description_and_a_plain_name(
    document: dict[str, Any], method: str, path: str
) -> None:
    described = operation(document, method, path)
    assert described["summary"]
    assert described["description"]
    assert described["operationId"] in {
        "track_repository",
        "read_repository",
        "refresh_repository",
        "untrack_repository",
    }


@every_operation
def test_an_operation_lists_the_conditions_that_it_honours(
    document: dict[str, Any], method: str, path: str
) -> None:
    parameters = operation(document, method, path).get("parameters", [])
    headers = {parameter["name"] for parameter in parameters if parameter["in"] == "header"}
    assert headers == CONDITIONS.get(method, set())


def test_the_document_says_that_nobody_has_to_log_in(document: dict[str, Any]) -> None:
    assert document["security"] == []


def test_the_document_says_that_the_api_is_beside_it(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_a_record_is_addressed_by_a_uuid(document: dict[str, Any], method: str) -> None:
    (parameter,) = (
        parameter
        for parameter in operation(document, method, RECORD)["parameters"]
        if parameter["in"] == "path"
    )
    assert (parameter["name"], parameter["required"]) == ("repo_id", True)
    assert parameter["schema"]["format"] == "uuid"
    assert str(UUID(parameter["example"])) == parameter["example"]


@every_operation
def test_only_a_post_has_a_body(document: dict[str, Any], method: str, path: str) -> None:
    assert ("requestBody" in operation(document, method, path)) == (method == "post")


@every_response
def test_a_response_is_described(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    assert response(document, method, path, status)["description"]


@every_response
def test_a_response_has_a_request_id(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    assert "X-Request-ID" in response(document, method, path, status)["headers"]


@pytest.mark.parametrize(("method", "path", "status"), HEADERS)
def test_a_response_lists_its_headers(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    headers = set(response(document, method, path, status)["headers"])
    assert headers - {"X-Request-ID"} == HEADERS[method, path, status]


@every_problem
def test_a_problem_has_the_media_type_and_the_schema_of_problems(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    content = response(document, method, path, status)["content"]
    assert list(content) == ["application/problem+json"]
    assert content["application/problem+json"]["schema"] == {
        "$ref": "#/components/schemas/ProblemDetails"
    }


@every_problem
def test_a_problem_has_examples_that_are_valid(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    content = response(document, method, path, status)["content"]["application/problem+json"]
    values = [example["value"] for example in content["examples"].values()]
    assert values
    assert [faults(document, content["schema"], value) for value in values] == [[]] * len(values)


@every_problem
def test_the_examples_of_a_problem_are_of_this_status_and_path(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    content = response(document, method, path, status)["content"]["application/problem+json"]
    begins = path.partition("{")[0]
    for slug, example in content["examples"].items():
        value = example["value"]
        assert (value["status"], value["type"]) == (status, f"/problems/{slug}")
        assert value["instance"].startswith(begins)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("post", "/repos", 201), ("get", RECORD, 200), ("put", RECORD, 200)],
)
def test_a_record_is_described_as_such(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    content = response(document, method, path, status)["content"]
    assert list(content) == ["application/json"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Record"}
    assert faults(document, content["application/json"]["schema"], example_of(content)) == []


def test_the_body_of_a_post_has_an_example_that_is_valid(document: dict[str, Any]) -> None:
    content = operation(document, "post", "/repos")["requestBody"]["content"]
    assert faults(document, content["application/json"]["schema"], example_of(content)) == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("get", RECORD, 304), ("delete", RECORD, 204)]
)
def test_a_response_without_a_body_has_no_content(
    document: dict[str, Any], method: str, path: str, status: int
) -> None:
    assert "content" not in response(document, method, path, status)


@pytest.mark.parametrize("name", ["Record", "RepositoryReference"])
def test_a_schema_has_examples_that_are_valid(document: dict[str, Any], name: str) -> None:
    examples = document["components"]["schemas"][name]["examples"]
    schema = {"$ref": f"#/components/schemas/{name}"}
    assert examples
    assert [faults(document, schema, example) for example in examples] == [[]] * len(examples)


def test_a_record_has_exactly_four_members_all_of_them_required(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["Record"]
    members = ["id", "owner", "repo_name", "stars"]
    assert (sorted(schema["properties"]), sorted(schema["required"])) == (members, members)


def test_a_reference_has_exactly_two_members_and_allows_no_other(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["RepositoryReference"]
    assert sorted(schema["required"]) == ["owner", "repo_name"]
    assert schema["additionalProperties"] is False


def test_every_schema_is_used(document: dict[str, Any]) -> None:
    used = {found["$ref"].rpartition("/")[2] for found in objects(document) if "$ref" in found}
    assert used == set(document["components"]["schemas"])


def test_there_is_no_error_of_fastapis_own_making(document: dict[str, Any]) -> None:
    assert "ValidationError" not in str(document)


def test_every_link_leads_to_an_operation(document: dict[str, Any]) -> None:
    ids = {found["operationId"] for item in document["paths"].values() for found in item.values()}
    links = response(document, "post", "/repos", 201)["links"]
    assert {link["operationId"] for link in links.values()} <= ids


async def test_the_document_that_is_served_is_this_one(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    assert (await client.get("/openapi.json")).json() == document
