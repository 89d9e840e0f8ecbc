"""The four endpoints: each parses its request, calls the tracker once, and answers."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from app import errors
from app.models import Record
from app.schemas import RepositoryReference, Representation
from app.services.tracker import Tracker
from app.web import openapi
from app.web.conditions import Conditions
from app.web.errors import BodyTooLarge, EncodedBody, UnsupportedMediaType
from app.web.problems import path_prefix
from app.web.routing import LeanRoute

router = APIRouter(
    route_class=LeanRoute,
    tags=["repositories"],
    generate_unique_id_function=lambda route: route.name,
)

RECORD = "/repos/{repo_id}"
RepoId = Annotated[UUID, Path(description="The `id` of the record.")]


@router.get(
    RECORD,
    summary="Read a record",
    description="Answers from the database, without asking GitHub.",
    response_model=Record,
    response_description="The record",
    responses={
        200: {"headers": openapi.headers("ETag", "Cache-Control")},
        304: {
            "description": "The record is the one that `If-None-Match` names",
            "headers": openapi.headers("ETag", "Cache-Control"),
        },
        **openapi.problems(RECORD, errors.RepositoryNotFound),
    },
    openapi_extra={"parameters": [openapi.IF_NONE_MATCH]},
)
async def read_repository(repo_id: RepoId, request: Request) -> Response:
    record = await _tracker(request).find(repo_id)
    headers = {"Cache-Control": "no-cache"}
    if _conditions(request).is_current(record.etag):
        return Response(status_code=304, headers={"ETag": record.etag, **headers})
    return _answer(record, headers=headers)


@router.post(
    "/repos",
    status_code=201,
    summary="Track a repository",
    description="Asks GitHub for the repository and keeps a record of it, spelled as GitHub does.",
    response_model=Record,
    response_description="The new record",
    responses={
        201: {
            "headers": openapi.headers("Location", "ETag"),
            "links": {
                name: {
                    "operationId": name,
                    "parameters": {"repo_id": "$response.body#/id"},
                }
                for name in ("read_repository", "refresh_repository", "untrack_repository")
            },
        },
        **openapi.problems(
            "/repos",
            errors.NotOnGitHub,
            errors.AlreadyTracked,
            errors.NameHeld,
            BodyTooLarge,
            UnsupportedMediaType,
            EncodedBody,
            *openapi.FROM_GITHUB,
        ),
    },
)
async def track_repository(reference: RepositoryReference, request: Request) -> Response:
    created = await _tracker(request).track(reference)
    location = f"{path_prefix(request.scope)}/repos/{created.id}"
    return _answer(created, status=201, headers={"Location": location})


@router.put(
    RECORD,
    summary="Refresh a record",
    description=(
        "Asks GitHub for the repository again, by its number there, and stores the answer: the "
        "stars, and the name if it was renamed or transferred. Takes no body."
    ),
    response_model=Record,
    response_description="The record as it is now",
    responses={
        200: {"headers": openapi.headers("ETag")},
        **openapi.problems(
            RECORD,
            errors.RepositoryNotFound,
            errors.GoneFromGitHub,
            errors.NameHeld,
            errors.PreconditionFailed,
            *openapi.FROM_GITHUB,
        ),
    },
    openapi_extra={"parameters": [openapi.IF_MATCH, openapi.IF_NONE_MATCH]},
)
async def refresh_repository(repo_id: RepoId, request: Request) -> Response:
    return _answer(await _tracker(request).refresh(repo_id, _conditions(request)))


@router.delete(
    RECORD,
    status_code=204,
    summary="Stop tracking a repository",
    description="Deletes the record.",
    response_description="The record is gone",
    responses=openapi.problems(RECORD, errors.RepositoryNotFound, errors.PreconditionFailed),
    openapi_extra={"parameters": [openapi.IF_MATCH, openapi.IF_NONE_MATCH]},
)
async def untrack_repository(repo_id: RepoId, request: Request) -> Response:
    await _tracker(request).untrack(repo_id, _conditions(request))
    return Response(status_code=204)


def _tracker(request: Request) -> Tracker:
    tracker: Tracker = request.state.tracker
    return tracker


def _conditions(request: Request) -> Conditions:
    return Conditions.of(request.scope["headers"])


def _answer(
    record: Representation, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(
        record.body,
        status_code=status,
        media_type="application/json",
        headers={"ETag": record.etag, **(headers or {})},
    )
