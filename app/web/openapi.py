"""The OpenAPI document: what each operation can answer, problems and headers included."""

from typing import Annotated, Any, NotRequired
from uuid import UUID

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # Pydantic takes no other before Python 3.12.

from app import errors
from app.errors import EXAMPLE_ID, Problem
from app.web.errors import HostNotAllowed, InternalError, InvalidRequest
from app.web.problems import MEDIA_TYPE, details

# What every operation can end with: bad Host, invalid input, unforeseen error, no database.
EVERYWHERE: tuple[type[Problem], ...] = (
    HostNotAllowed,
    InvalidRequest,
    InternalError,
    errors.DatabaseUnavailable,
)
# What an operation that asks GitHub can end with besides.
FROM_GITHUB = (
    errors.GitHubBadAnswer,
    errors.GitHubRefused,
    errors.GitHubUnavailable,
    errors.GitHubRateLimited,
    errors.GitHubTimeout,
)
SCHEMAS = "#/components/schemas/"


class InvalidPart(TypedDict):
    """A part of the request that is not valid."""

    loc: Annotated[
        list[str | int], Field(description="Path to the invalid value, outermost part first.")
    ]
    msg: Annotated[str, Field(description="What is wrong with it.")]
    type: Annotated[str, Field(description="A name for this kind of error.")]


class ProblemDetails(TypedDict):
    """Why a request failed (RFC 9457)."""

    type: Annotated[str, Field(description="The kind of problem: `/problems/…`.")]
    title: Annotated[str, Field(description="The kind of problem in words.")]
    status: Annotated[int, Field(description="The HTTP status of the answer.", ge=400, le=599)]
    detail: Annotated[str, Field(description="What happened, and what can be done.")]
    instance: Annotated[str, Field(description="The path of the request.")]
    errors: NotRequired[Annotated[list[InvalidPart], Field(description="On a 422: each error.")]]
    repository_id: NotRequired[
        Annotated[UUID, Field(description="On a 409: the record that is in the way.")]
    ]
    retry_after: NotRequired[
        Annotated[int, Field(description="On a 503: seconds to wait, as in `Retry-After`.", ge=1)]
    ]


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


# The headers of answers, each with its one description.
HEADERS = {
    "Accept": _header("The media type that the operation takes."),
    "Accept-Encoding": _header("`identity`: the operation takes no encoded body."),
    "Cache-Control": _header("`no-cache`: ask again with `If-None-Match` before reuse."),
    "ETag": _header("The version of the record, for `If-Match` and `If-None-Match`."),
    "Location": _header("The path of the record."),
    "Retry-After": _header("Seconds to wait.", type="integer"),
    "X-Request-ID": _header("The request's `X-Request-ID`, or one made for it."),
}


def _condition(name: str, which: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": f"Only if the record is in {which} of these versions (ETags, or `*`).",
        "schema": {"type": "string"},
    }


IF_MATCH = _condition("If-Match", "one")
IF_NONE_MATCH = _condition("If-None-Match", "none")


def headers(*names: str) -> dict[str, Any]:
    """Return the descriptions of these headers of a response."""
    return {name: HEADERS[name] for name in names}


def problems(path: str, *kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation under `path` that can fail in these ways."""
    instance = path.format(repo_id=EXAMPLE_ID)
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in (*EVERYWHERE, *kinds):
        example: Problem = kind.example()
        response = responses.setdefault(
            example.status,
            {
                "description": example.title,
                "headers": {},
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}ProblemDetails"}, "examples": {}}
                },
            },
        )
        if example.title not in response["description"]:
            response["description"] += f", or: {example.title}"
        response["headers"] |= headers(*(name for name in example.headers if name in HEADERS))
        response["content"][MEDIA_TYPE]["examples"][example.slug] = {
            "summary": example.title,
            "value": details(example, instance),
        }
    return dict(sorted(responses.items(), key=lambda item: str(item[0])))


def describe(app: FastAPI, prefix: str = "") -> dict[str, Any]:
    """Return the document of an application that is served below this prefix."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return {**app.openapi_schema, "servers": [{"url": prefix or "/"}]}


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        license_info=app.license_info,
        tags=app.openapi_tags,
        routes=app.routes,
    )
    document["security"] = []  # Said to be open, as linters want it said.
    schema = TypeAdapter(ProblemDetails).json_schema(ref_template=f"{SCHEMAS}{{model}}")
    document["components"]["schemas"] |= {**schema.pop("$defs"), "ProblemDetails": schema}
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, document["components"]["schemas"])
    return document


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add what every operation has: the request's id, and examples where OpenAPI 3.0 has them."""
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "repo_id":
            parameter["example"] = str(EXAMPLE_ID)
    responses = operation["responses"].values()
    for response in responses:
        response.setdefault("headers", {}).update(headers("X-Request-ID"))
    for body in (operation.get("requestBody", {}), *responses):
        for content in body.get("content", {}).values():
            schema = schemas[content["schema"]["$ref"].removeprefix(SCHEMAS)]
            if "examples" in schema:
                content["example"] = schema["examples"][0]
