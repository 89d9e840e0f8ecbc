"""The four endpoints: each takes the request apart, calls the tracker once, and answers."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import errors
from app.schemas import Repository, RepositoryReference, Representation
from app.services.tracker import Tracker
from app.web import openapi
from app.web.conditions import Conditions
from app.web.routing import LeanRoute

router = APIRouter(
    route_class=LeanRoute,
    tags=["repositories"],
    generate_unique_id_function=lambda route: route.name,
)

RECORD = "/repos/{repository_id}"


@router.get(
    RECORD,
    summary="Read a record",
    description="Answers from the database; GitHub is not asked.",
    response_model=Repository,
    response_description="The record",
    responses={
        200: {"headers": {"ETag": openapi.ETAG, "Cache-Control": openapi.CACHE_CONTROL}},
        304: {
            "description": "The record is the one that `If-None-Match` names",
            "headers": {"ETag": openapi.ETAG, "Cache-Control": openapi.CACHE_CONTROL},
        },
        **openapi.problems(RECORD, errors.RepositoryNotFound),
    },
    openapi_extra={"parameters": [openapi.IF_NONE_MATCH]},
)
async def read_repository(repository_id: UUID, request: Request) -> Response:
    record = await _tracker(request).read(repository_id)
    if _conditions(request).is_current(record.etag):
        return _not_modified(record)
    return _answer(record, headers={"Cache-Control": "no-cache"})


@router.post(
    "/repos",
    status_code=201,
    summary="Track a repository",
    description="Asks GitHub for the repository and keeps a record of it, spelled as GitHub does.",
    response_model=Repository,
    response_description="The new record",
    responses={
        201: {
            "headers": {"Location": openapi.LOCATION, "ETag": openapi.ETAG},
            "links": {
                name: {
                    "operationId": name,
                    "parameters": {"repository_id": "$response.body#/id"},
                }
                for name in ("read_repository", "refresh_repository", "untrack_repository")
            },
        },
        **openapi.problems(
            "/repos",
            errors.NotOnGitHub,
            errors.AlreadyTracked,
            errors.NameHeld,
            errors.BodyTooLarge,
            errors.UnsupportedMediaType,
            *openapi.FROM_GITHUB,
        ),
    },
)
async def track_repository(reference: RepositoryReference, request: Request) -> Response:
    created = await _tracker(request).track(reference)
    return _answer(created, status=201, headers={"Location": f"/repos/{created.id}"})


@router.put(
    RECORD,
    summary="Refresh a record",
    description=(
        "Asks GitHub for the repository again, by its number there, and stores the answer: the "
        "stars, and the name if it was renamed or transferred. Takes no body."
    ),
    response_model=Repository,
    response_description="The record as it is now",
    responses={
        200: {"headers": {"ETag": openapi.ETAG}},
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
async def refresh_repository(repository_id: UUID, request: Request) -> Response:
    return _answer(await _tracker(request).refresh(repository_id, _conditions(request)))


@router.delete(
    RECORD,
    status_code=204,
    summary="Stop tracking a repository",
    description="Deletes the record.",
    response_description="The record is gone",
    responses=openapi.problems(RECORD, errors.RepositoryNotFound, errors.PreconditionFailed),
    openapi_extra={"parameters": [openapi.IF_MATCH, openapi.IF_NONE_MATCH]},
)
async def untrack_repository(repository_id: UUID, request: Request) -> Response:
    await _tracker(request).untrack(repository_id, _conditions(request))
    return Response(status_code=204)


def _tracker(request: Request) -> Tracker:
    tracker: Tracker = request.scope["state"]["tracker"]
    return tracker


def _conditions(request: Request) -> Conditions:
    found: dict[bytes, str] = {}
    for name, value in request.scope["headers"]:
        if name in {b"if-match", b"if-none-match"}:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return Conditions(found.get(b"if-match"), found.get(b"if-none-match"))


def _not_modified(record: Representation) -> Response:
    response = Response(status_code=304)
    response.raw_headers = [(b"etag", record.etag.encode()), (b"cache-control", b"no-cache")]
    return response


def _answer(
    record: Representation, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(
        record.body,
        status_code=status,
        media_type="application/json",
        headers={"ETag": record.etag, **(headers or {})},
    )
