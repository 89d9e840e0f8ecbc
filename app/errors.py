"""Everything that can go wrong, as one tree.

TrackerError
├── StartError                    the service cannot start; the message says what to do
│   └── SettingsError
└── Problem                       answered as RFC 9457 problem details
    ├── RequestProblem            what HTTP itself can do wrong: app/web/errors.py
    │   ├── MalformedRequest      400
    │   ├── HostNotAllowed        400
    │   ├── RouteNotFound         404
    │   ├── MethodNotAllowed      405
    │   ├── BodyTooLarge          413
    │   ├── UnsupportedMediaType  415
    │   ├── EncodedBody           415
    │   ├── InvalidRequest        422
    │   ├── InternalError         500
    │   └── HTTPProblem           the status of an HTTPException
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

A new problem is a class, a line of this tree and a row of docs/api.md. An operation that can end
with it names the class in app/api.py; the OpenAPI document takes the rest from the class.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self
from uuid import UUID

# What the examples in the OpenAPI document are about.
EXAMPLE_ID = UUID("5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a")
EXAMPLE_NAME = "fastapi/fastapi"
EXAMPLE_ETAG = '"0d1c7f5a2b9e4c68a3f0b1d2c3e4f5a6"'


class TrackerError(Exception):
    """Whatever this project raises on purpose."""


class StartError(TrackerError):
    """The service cannot start; the message is a sentence for the person who starts it."""


class SettingsError(StartError):
    """A setting makes no sense."""


class Problem(TrackerError):
    """A request that fails for a known reason.

    `detail` is a sentence for the person who reads the answer; `path` is the path of this service
    that `detail` and the header `Location` name, if they do, told there without the prefix below
    which the service is reached; `members` extend the problem details.
    """

    status: int
    slug: str
    title: str
    default_detail: ClassVar[str] = ""
    # What the documentation's example of this problem is made of.
    example_arguments: ClassVar[tuple[Any, ...]] = ()

    def __init__(
        self,
        detail: str = "",
        *,
        path: str = "",
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.default_detail
        super().__init__(self.detail)
        self.path = path
        self.members = members or {}
        self.headers = headers or {}

    @classmethod
    def example(cls) -> Self:
        """Return a problem of this kind for the documentation."""
        return cls(*cls.example_arguments)


class RepositoryNotFound(Problem):
    """No record has this id."""

    status = 404
    slug = "repository-not-found"
    title = "No such record"
    example_arguments = (EXAMPLE_ID,)

    def __init__(self, repository_id: UUID) -> None:
        super().__init__(f"There is no record with the id {repository_id}.")


class AlreadyTracked(Problem):
    """The repository is tracked already; `repository_id` is its record."""

    status = 409
    slug = "already-tracked"
    title = "Repository already tracked"
    example_arguments = (EXAMPLE_ID, EXAMPLE_NAME)

    def __init__(self, repository_id: UUID, full_name: str) -> None:
        path = f"/repos/{repository_id}"
        super().__init__(
            f"{full_name} is tracked already: see {path}.",
            path=path,
            members={"repository_id": str(repository_id)},
            headers={"Location": path},
        )


class NameHeld(Problem):
    """Another record, `repository_id`, has this name, and its own repository is gone."""

    status = 409
    slug = "name-held"
    title = "Name held by another record"
    example_arguments = (EXAMPLE_ID, EXAMPLE_NAME)

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
    example_arguments = (EXAMPLE_ETAG,)

    def __init__(self, etag: str) -> None:
        super().__init__(
            "The record is not in the state that the request's conditions ask for, and was not "
            "changed. Read it again for its current ETag; a weak one (W/…) never matches If-Match.",
            headers={"ETag": etag},
        )


class DatabaseUnavailable(Problem):
    """PostgreSQL did not answer, or not in time."""

    status = 503
    slug = "database-unavailable"
    title = "Database unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The database does not answer at the moment. Try again in a second.", **_wait(1)
        )


class GitHubError(Problem):
    """GitHub did not answer with the repository."""


class NotOnGitHub(GitHubError):
    """GitHub has no such repository, or does not show it."""

    status = 404
    slug = "not-on-github"
    title = "Not on GitHub"
    default_detail = (
        "GitHub has no public repository of this name. Check the spelling of both parts."
    )


class GoneFromGitHub(GitHubError):
    """GitHub no longer has the repository of this record, which stays as it was."""

    status = 409
    slug = "gone-from-github"
    title = "Gone from GitHub"
    example_arguments = (EXAMPLE_NAME,)

    def __init__(self, full_name: str) -> None:
        super().__init__(
            f"GitHub no longer shows {full_name}: it was deleted, made private or taken down. "
            "The record stays as it was; delete it if you no longer need it."
        )


class GitHubBadAnswer(GitHubError):
    """GitHub's answer cannot be understood."""

    status = 502
    slug = "github-bad-answer"
    title = "GitHub answered badly"
    default_detail = "GitHub's answer is not the description of a repository. Try again later."


class GitHubRefused(GitHubError):
    """GitHub refused this service's credentials or request."""

    status = 502
    slug = "github-refused"
    title = "GitHub refused the request"
    default_detail = (
        "GitHub refused this service's credentials. "
        "Its operator has to renew GITHUB_TOKEN, or remove it."
    )


class GitHubUnavailable(GitHubError):
    """GitHub cannot be reached, or reports an error of its own."""

    status = 502
    slug = "github-unavailable"
    title = "GitHub unavailable"
    default_detail = "GitHub cannot be reached. Try again later."


class GitHubRateLimited(GitHubError):
    """GitHub's rate limit is exhausted; `retry_after` says when it allows more requests."""

    status = 503
    slug = "github-rate-limited"
    title = "GitHub's rate limit is exhausted"

    def __init__(self, retry_after: int, *, authorized: bool) -> None:
        advice = (
            "" if authorized else " Set GITHUB_TOKEN to raise the limit from 60 to 5,000 an hour."
        )
        super().__init__(
            "GitHub allows this service no more requests for now. "
            f"Try again in {retry_after} s.{advice}",
            **_wait(retry_after),
        )
        self.retry_after = retry_after

    @classmethod
    def example(cls) -> Self:
        """Return a problem of this kind for the documentation."""
        return cls(1260, authorized=False)


class GitHubTimeout(GitHubError):
    """GitHub did not answer within the deadline."""

    status = 504
    slug = "github-timeout"
    title = "GitHub did not answer in time"
    default_detail = "GitHub did not answer within 5 seconds. Try again later."


def _wait(seconds: int) -> dict[str, Any]:
    """Return the member and the header that say when the same request may succeed."""
    return {
        "members": {"retry_after": seconds},
        "headers": {"Retry-After": str(seconds)},
    }
