"""Everything that can go wrong, as one tree.

TrackerError
├── StartError                    the service cannot start; the message says what to do
│   ├── SettingsError
│   └── EmbeddedPostgresError
└── Problem                       answered as RFC 9457 problem details
    ├── MalformedRequest          400
    ├── HostNotAllowed            400
    ├── RouteNotFound             404
    ├── MethodNotAllowed          405
    ├── BodyTooLarge              413
    ├── UnsupportedMediaType      415
    ├── InvalidRequest            422
    ├── InternalError             500
    ├── RepositoryNotFound        404
    ├── AlreadyTracked            409
    ├── NameHeld                  409
    ├── PreconditionFailed        412
    ├── DatabaseUnavailable       503
    └── GitHubError
        ├── NotOnGitHub           404
        ├── GoneFromGitHub        409
        ├── GitHubBadAnswer       502
        ├── GitHubRefused         502
        ├── GitHubUnavailable     502
        ├── GitHubRateLimited     503
        └── GitHubTimeout         504
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID


class TrackerError(Exception):
    """Whatever this project raises on purpose."""


class StartError(TrackerError):
    """The service cannot start; the message is a sentence for the person who starts it."""


class SettingsError(StartError):
    """A setting makes no sense."""


class EmbeddedPostgresError(StartError):
    """The embedded PostgreSQL cannot be started."""


class Problem(TrackerError):
    """A request that fails for a known reason; `members` extend the problem details.

    `usually` is the sentence for the person who reads it, where the case at hand has no better.
    """

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]
    usually: ClassVar[str] = ""

    def __init__(
        self,
        detail: str | None = None,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.usually
        super().__init__(self.detail)
        self.members = members or {}
        self.headers = headers or {}


class MalformedRequest(Problem):
    """What was sent is not HTTP; answered before there is a request."""

    status = 400
    slug = "malformed-request"
    title = "Malformed request"
    usually = "What was sent is not HTTP/1.1, or too much of it."


class HostNotAllowed(Problem):
    """The `Host` header names a host that this service does not answer for."""

    status = 400
    slug = "host-not-allowed"
    title = "Host not allowed"
    usually = (
        "This service does not answer for the host in the request's Host header. "
        "Its operator can add the host to ALLOWED_HOSTS."
    )


class RouteNotFound(Problem):
    """Nothing is served under this path."""

    status = 404
    slug = "route-not-found"
    title = "No such path"
    usually = "Nothing is served under this path. The API is described at /docs."


class MethodNotAllowed(Problem):
    """The path exists, but not for this method."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        names = ", ".join(allowed)
        super().__init__(f"This path answers to {names} only.", headers={"Allow": names})


class BodyTooLarge(Problem):
    """The request's body is larger than any that makes sense."""

    status = 413
    slug = "body-too-large"
    title = "Body too large"

    def __init__(self, limit: int) -> None:
        # The rest of the body is not read, so the connection cannot be used again.
        super().__init__(
            f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"}
        )


class UnsupportedMediaType(Problem):
    """The request's body is not declared to be JSON."""

    status = 415
    slug = "unsupported-media-type"
    title = "Body is not JSON"

    def __init__(self) -> None:
        super().__init__(
            "Send the body as JSON, with the header Content-Type: application/json.",
            headers={"Accept": "application/json"},
        )


class InvalidRequest(Problem):
    """The request does not have the form that the API describes; `errors` says where."""

    status = 422
    slug = "invalid-request"
    title = "Invalid request"

    # A body of 64 KiB has room for thousands of errors; nobody reads so many.
    most_errors = 20

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        errors = errors[: self.most_errors]
        where = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors
        )
        super().__init__(where[:1000], members={"errors": errors})


class InternalError(Problem):
    """Something that this service did not foresee; its log has the rest."""

    status = 500
    slug = "internal-error"
    title = "Internal error"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "Something went wrong that should not have. The service's log says more under "
            f"request id {request_id}."
        )


class RepositoryNotFound(Problem):
    """No record has this id."""

    status = 404
    slug = "repository-not-found"
    title = "No such record"

    def __init__(self, repository_id: UUID) -> None:
        super().__init__(f"There is no record with the id {repository_id}.")


class AlreadyTracked(Problem):
    """The repository is tracked already; `repository_id` is its record."""

    status = 409
    slug = "already-tracked"
    title = "Repository already tracked"

    def __init__(self, repository_id: UUID, full_name: str) -> None:
        location = f"/repos/{repository_id}"
        super().__init__(
            f"{full_name} is tracked already: see {location}.",
            members={"repository_id": str(repository_id)},
            headers={"Location": location},
        )


class NameHeld(Problem):
    """The repository's name is still held by `repository_id`, whose repository is gone."""

    status = 409
    slug = "name-held"
    title = "Name held by another record"

    def __init__(self, repository_id: UUID, full_name: str) -> None:
        super().__init__(
            f"The name {full_name} is still held by record {repository_id}, whose own repository "
            "is gone from GitHub. Delete that record and try again.",
            members={"repository_id": str(repository_id)},
        )


class PreconditionFailed(Problem):
    """`If-Match` or `If-None-Match` does not fit the record as it is now."""

    status = 412
    slug = "precondition-failed"
    title = "Precondition failed"

    def __init__(self, etag: str) -> None:
        super().__init__(
            "The record is not in the state that the request's conditions ask for, and was left "
            "as it is. Read it again for its current ETag.",
            headers={"ETag": etag},
        )


class _TryLater(Problem):
    """A failure that passes: `retry_after` says in how many seconds."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(
            detail,
            members={"retry_after": retry_after},
            headers={"Retry-After": str(retry_after)},
        )
        self.retry_after = retry_after


class DatabaseUnavailable(_TryLater):
    """PostgreSQL did not answer, or not in time."""

    status = 503
    slug = "database-unavailable"
    title = "Database unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The database does not answer at the moment. Try again in a second.", retry_after=1
        )


class GitHubError(Problem):
    """GitHub did not answer with the repository."""


class NotOnGitHub(GitHubError):
    """GitHub has no such repository, or does not show it."""

    status = 404
    slug = "not-on-github"
    title = "Not on GitHub"
    usually = "GitHub has no public repository of this name. Check the spelling of both parts."


class GoneFromGitHub(GitHubError):
    """GitHub no longer has the repository of this record, which stays as it was."""

    status = 409
    slug = "gone-from-github"
    title = "Gone from GitHub"

    def __init__(self, full_name: str) -> None:
        super().__init__(
            f"GitHub no longer shows {full_name}: it was deleted, made private or taken down. "
            "The record stays as it was; delete it if you no longer need it."
        )


class GitHubBadAnswer(GitHubError):
    """GitHub answered with something that this service does not understand."""

    status = 502
    slug = "github-bad-answer"
    title = "GitHub answered badly"
    usually = "GitHub's answer is not the description of a repository. Try again later."


class GitHubRefused(GitHubError):
    """GitHub refused this service's credentials or request."""

    status = 502
    slug = "github-refused"
    title = "GitHub refused the request"
    usually = (
        "GitHub refused this service's credentials. "
        "Its operator has to renew GITHUB_TOKEN, or remove it."
    )


class GitHubUnavailable(GitHubError):
    """GitHub cannot be reached, or says that it is ill."""

    status = 502
    slug = "github-unavailable"
    title = "GitHub unavailable"
    usually = "GitHub cannot be reached. Try again later."


class GitHubRateLimited(_TryLater, GitHubError):
    """GitHub's rate limit is spent; `retry_after` says when it allows more requests."""

    status = 503
    slug = "github-rate-limited"
    title = "GitHub's rate limit is spent"

    def __init__(self, retry_after: int, *, authorized: bool) -> None:
        advice = (
            "" if authorized else " Set GITHUB_TOKEN to raise the limit from 60 to 5,000 an hour."
        )
        super().__init__(
            f"GitHub allows this service no more requests for now. "
            f"Try again in {retry_after} s.{advice}",
            retry_after=retry_after,
        )


class GitHubTimeout(GitHubError):
    """GitHub did not answer within the deadline."""

    status = 504
    slug = "github-timeout"
    title = "GitHub did not answer in time"
    usually = "GitHub did not answer within 5 seconds. Try again later."
