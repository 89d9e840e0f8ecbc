"""Problem details (RFC 9457): every error of the API is answered from here."""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import InternalError, InvalidRequest, MethodNotAllowed, Problem, RouteNotFound
from app.logs import request_id

MEDIA_TYPE = "application/problem+json"


def details(problem: Problem, instance: str) -> dict[str, Any]:
    """Return the members of the problem; `instance` is the path of the request."""
    return {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        **problem.members,
    }


def problem_response(problem: Problem, instance: str) -> Response:
    """Return the answer to a request that failed; no cache may keep it."""
    return Response(
        orjson.dumps(details(problem, instance)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer for FastAPI's exception handling, whatever the error."""
    return problem_response(_problem(request, error), request_path(request.scope))


def request_path(scope: Any) -> str:
    """Return the request's path as it was sent: ASCII, percent-encoded, without the query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("ascii", "backslashreplace")


def invalid_request(errors: Sequence[Any], *, within: str) -> InvalidRequest:
    """Return the problem for Pydantic's errors in one part of the request: path or body.

    What the client sent is not repeated, but for the names of members, and those not at length.
    """
    return InvalidRequest(
        [
            {
                "loc": [within, *(_shortened(part) for part in error["loc"])],
                "msg": error["msg"],
                "type": error["type"],
            }
            for error in errors[: InvalidRequest.most_errors]
        ]
    )


def _shortened(part: str | int) -> str | int:
    return part[:100] if isinstance(part, str) else part


def _problem(request: Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return RouteNotFound()
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed(_allowed_methods(request))
    return InternalError(request_id.get() or "-")


def _allowed_methods(request: Request) -> list[str]:
    return sorted(
        {
            method
            for route in request.app.routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
    )
