"""The problems of a request itself, whatever it asks for: a branch of the tree in app/errors.py."""

import re
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import Any

from app.errors import Problem


class RequestProblem(Problem):
    """A request that does not get as far as an endpoint, or an endpoint that fails."""


class MalformedRequest(RequestProblem):
    """The bytes of the request are not HTTP; answered before there is a request."""

    status = 400
    slug = "malformed-request"
    title = "Malformed request"
    default_detail = "The request is not HTTP/1.1, or it is too large."


class HostNotAllowed(RequestProblem):
    """The `Host` header is missing, or names a host that is not in ALLOWED_HOSTS."""

    status = 400
    slug = "host-not-allowed"
    title = "Host not allowed"
    default_detail = (
        "This service does not answer for the host in the request's Host header. "
        "Its operator can add the host to ALLOWED_HOSTS."
    )


class RouteNotFound(RequestProblem):
    """Nothing is served under this path."""

    status = 404
    slug = "route-not-found"
    title = "No such path"

    def __init__(self) -> None:
        path = "/docs"
        super().__init__(
            f"Nothing is served under this path. The API is described at {path}.", path=path
        )


class MethodNotAllowed(RequestProblem):
    """The path exists, but not for this method."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"
    example_arguments = (["GET", "HEAD"],)

    def __init__(self, allowed: Sequence[str]) -> None:
        names = ", ".join(allowed)
        super().__init__(f"This path answers to {names} only.", headers={"Allow": names})


class BodyTooLarge(RequestProblem):
    """The request's body is larger than the limit, in bytes."""

    status = 413
    slug = "body-too-large"
    title = "Body too large"
    example_arguments = (64 * 1024,)

    def __init__(self, limit: int) -> None:
        # The rest of the body is not read, so the connection cannot be used again.
        super().__init__(
            f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"}
        )


class UnsupportedMediaType(RequestProblem):
    """The request does not declare its body to be JSON."""

    status = 415
    slug = "unsupported-media-type"
    title = "Body is not JSON"

    def __init__(self) -> None:
        super().__init__(
            "Send the body as JSON, with the header Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )


class EncodedBody(RequestProblem):
    """The request declares its body to be compressed, or encoded in another way."""

    status = 415
    slug = "encoded-body"
    title = "Body is encoded"

    def __init__(self) -> None:
        super().__init__(
            "Send the body as plain JSON, without compression and the header Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )


class InvalidRequest(RequestProblem):
    """The request does not have the form that the API describes; `errors` lists what is wrong."""

    status = 422
    slug = "invalid-request"
    title = "Invalid request"
    example_arguments = ([{"loc": ["body", "owner"], "msg": "Field required", "type": "missing"}],)

    # A body of 64 KiB has room for thousands of errors; nobody reads so many.
    most_errors = 20

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        errors = errors[: self.most_errors]
        sentence = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors
        )
        super().__init__(sentence[:1000], members={"errors": errors})


class InternalError(RequestProblem):
    """An error that nobody foresaw; the log has its traceback."""

    status = 500
    slug = "internal-error"
    title = "Internal error"
    example_arguments = ("3c1f7a0e9b2d4c56a8e1f0b3d2c4a596",)

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "The service failed for a reason that it did not foresee. "
            f"Its log says more under the request id {request_id}."
        )


class HTTPProblem(RequestProblem):
    """An HTTPException of the framework or of a library, named after its status."""

    example_arguments = (429, "")

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.title = responses.get(status, f"Status {status}")
        self.slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        super().__init__(
            detail or f"The answer to this request is {status}, {self.title}.", headers=headers
        )
