"""The OpenAPI document: what each operation can answer, problems and headers included."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from app import errors
from app.errors import Problem
from app.web.problems import MEDIA_TYPE, details

_ID = UUID("5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a")
_ETAG = '"0d1c7f5a2b9e4c68a3f0b1d2c3e4f5a6"'

# One problem of each kind, from which the examples are made as the answers are.
SAMPLES: tuple[Problem, ...] = (
    errors.HostNotAllowed(),
    errors.RepositoryNotFound(_ID),
    errors.NotOnGitHub(),
    errors.AlreadyTracked(_ID, "fastapi/fastapi"),
    errors.NameHeld(_ID, "fastapi/fastapi"),
    errors.GoneFromGitHub("fastapi/fastapi"),
    errors.PreconditionFailed(_ETAG),
    errors.BodyTooLarge(64 * 1024),
    errors.UnsupportedMediaType(),
    errors.InvalidRequest([{"loc": ["body", "owner"], "msg": "Field required", "type": "missing"}]),
    errors.InternalError("3c1f7a0e9b2d4c56a8e1f0b3d2c4a596"),
    errors.GitHubBadAnswer(),
    errors.GitHubRefused(),
    errors.GitHubUnavailable(),
    errors.DatabaseUnavailable(),
    errors.GitHubRateLimited(1260, authorized=False),
    errors.GitHubTimeout(),
)

# What any operation answers when the service itself is at fault, or not the one that was meant.
EVERYWHERE = (
    errors.HostNotAllowed,
    errors.InvalidRequest,
    errors.InternalError,
    errors.DatabaseUnavailable,
)
FROM_GITHUB = (
    errors.GitHubBadAnswer,
    errors.GitHubRefused,
    errors.GitHubUnavailable,
    errors.GitHubRateLimited,
    errors.GitHubTimeout,
)


class InvalidPart(BaseModel):
    """A part of the request that is not as it should be."""

    loc: Annotated[list[str | int], Field(description="Where it is, from the outside in.")]
    msg: Annotated[str, Field(description="What is wrong with it.")]
    type: Annotated[str, Field(description="A name for this kind of error.")]


class ProblemDetails(BaseModel):
    """Why a request failed, as RFC 9457 has it."""

    type: Annotated[str, Field(description="Names the kind of problem: `/problems/…`.")]
    title: Annotated[str, Field(description="The kind of problem in words.")]
    status: Annotated[int, Field(description="The HTTP status, once more.", ge=400, le=599)]
    detail: Annotated[str, Field(description="What happened, and what can be done.")]
    instance: Annotated[str, Field(description="The path of the request.")]
    errors: Annotated[list[InvalidPart], Field(description="On a 422: each error.")] = []
    repository_id: Annotated[
        UUID, Field(description="On a 409: the record that stands in the way.")
    ] = _ID
    retry_after: Annotated[
        int, Field(description="On a 503: seconds to wait, as in `Retry-After`.", ge=1)
    ] = 1


def header(description: str, **schema: Any) -> dict[str, Any]:
    """Return the description of a response header."""
    return {"description": description, "schema": {"type": "string", **schema}}


ETAG = header("The version of the record, for `If-Match` and `If-None-Match`.")
LOCATION = header("The path of the record.")
CACHE_CONTROL = header("`no-cache`: ask again with `If-None-Match` before reuse.")
REQUEST_ID = header("The request's `X-Request-ID`, or one made for it.")

PROBLEM_HEADERS: dict[type[Problem], dict[str, Any]] = {
    errors.AlreadyTracked: {"Location": LOCATION},
    errors.PreconditionFailed: {"ETag": ETAG},
    errors.DatabaseUnavailable: {"Retry-After": header("Seconds to wait.", type="integer")},
    errors.GitHubRateLimited: {"Retry-After": header("Seconds to wait.", type="integer")},
}

IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Only if the record is in one of these versions (ETags, or `*`).",
    "schema": {"type": "string"},
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Only if the record is in none of these versions (ETags, or `*`).",
    "schema": {"type": "string"},
}


def problems(path: str, *kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation under `path` that can fail in these ways."""
    responses: dict[int | str, dict[str, Any]] = {}
    for sample in SAMPLES:
        if type(sample) not in {*kinds, *EVERYWHERE}:
            continue
        response = responses.setdefault(
            sample.status,
            {
                "description": sample.title,
                "headers": {},
                "content": {
                    MEDIA_TYPE: {
                        "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                        "examples": {},
                    }
                },
            },
        )
        if sample.title not in response["description"]:
            response["description"] += f", or: {sample.title}"
        response["headers"] |= PROBLEM_HEADERS.get(type(sample), {})
        response["content"][MEDIA_TYPE]["examples"][sample.slug] = {
            "summary": sample.title,
            "value": details(sample, path.replace("{repository_id}", str(_ID))),
        }
    return dict(sorted(responses.items(), key=lambda item: str(item[0])))


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document; made once, as FastAPI does it."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


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
    schemas = document["components"]["schemas"]
    schema = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs")
    for optional in ("errors", "repository_id", "retry_after"):
        schema["properties"][optional].pop("default")
    schemas["ProblemDetails"] = schema
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-ID"] = REQUEST_ID
    return document
