"""Problem details (RFC 9457): every error of the API is answered from here."""

from collections.abc import Sequence
from http.client import responses
from typing import Any

import orjson
import structlog
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.errors import Problem
from app.web.errors import HTTPProblem, InvalidRequest, MethodNotAllowed, RouteNotFound

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


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


def problem_response(problem: Problem, scope: Scope) -> Response:
    """Return the answer to a request that failed; no cache may keep it."""
    members = details(problem, request_path(scope))
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.path and (prefix := path_prefix(scope)):
        address = prefix + problem.path
        members["detail"] = problem.detail.replace(problem.path, address)
        if "Location" in headers:
            headers["Location"] = address
    return Response(
        orjson.dumps(members), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
    )


async def answer_problem(request: Request, problem: Any) -> Response:
    """Answer a request that failed with a Problem, for FastAPI's exception handling."""
    return problem_response(problem, request.scope)


async def answer_http_exception(request: Request, error: Any) -> Response:
    """Answer an HTTPException with its status and headers, for FastAPI's exception handling.

    Its detail is passed on below 500 only: above, it may tell about the inside of the service.
    """
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=error.headers)
    if error.status_code >= 500:
        log.error("request failed", status=error.status_code, exc_info=error)
    return problem_response(_problem(request, error), request.scope)


def path_prefix(scope: Scope) -> str:
    """Return the path below which a proxy serves this service, without a slash at its end."""
    prefix: str = scope.get("root_path", "")
    return prefix.rstrip("/")


def request_path(scope: Scope) -> str:
    """Return the path that the client asked for: ASCII, percent-encoded, without the query.

    A proxy may have removed the prefix.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw.decode("ascii", "backslashreplace")
    prefix = path_prefix(scope)
    return path if path.startswith(f"{prefix}/") else prefix + path


def invalid_request(errors: Sequence[Any], *, within: str) -> InvalidRequest:
    """Return the problem for Pydantic's errors in one part of the request: path or body.

    Nothing that the client sent is repeated, except the names of members, shortened.
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


def _problem(request: Request, error: HTTPException) -> Problem:
    detail: Any = error.detail  # FastAPI's may be any value.
    if detail == responses.get(error.status_code):
        # Without words of its own it is from the router, or says nothing.
        if error.status_code == 404:
            return RouteNotFound()
        if error.status_code == 405:
            return MethodNotAllowed(_allowed_methods(request))
        detail = ""
    is_safe = isinstance(detail, str) and error.status_code < 500
    return HTTPProblem(error.status_code, detail if is_safe else "", error.headers)


def _allowed_methods(request: Request) -> list[str]:
    allowed = {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)
