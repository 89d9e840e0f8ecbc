"""What GitHub's answers mean. Pure functions: no I/O, and the time is an argument.

The rules follow docs.github.com, "Rate limits for the REST API", "Troubleshooting the REST API"
and "Best practices for using the REST API", and recorded answers of api.github.com.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictInt, StrictStr

from app.errors import (
    GitHubBadAnswer,
    GitHubRateLimited,
    GitHubRefused,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.models import MOST_STARS, GitHubRepository
from app.schemas import RepositoryReference

# Seconds. A reset in the far future is an error of the sender, and no reason to stop for years.
LONGEST_WAIT = 3600
# "Otherwise, wait for at least one minute before retrying."
DEFAULT_WAIT = 60

_NOT_ALLOWED = (
    "GitHub does not allow this service to read the repository. "
    "Its operator can check what GITHUB_TOKEN is allowed to do."
)
_ANONYMOUS = (
    "GitHub refused the request of this service, which has no token. "
    "Its operator can set GITHUB_TOKEN, or check GITHUB_API_URL."
)

_SECONDARY_LIMIT = re.compile(r"secondary rate|abuse detection|rate limit", re.IGNORECASE)
_SECONDARY_LIMIT_PAGES = ("secondary-rate-limits", "#abuse-rate-limits")


@dataclass(frozen=True, slots=True)
class GitHubAnswer:
    """An answer of GitHub, with header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _RepositoryBody(BaseModel):
    id: Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]
    full_name: StrictStr
    stargazers_count: Annotated[StrictInt, Field(ge=0, le=MOST_STARS)]


class _ErrorBody(BaseModel):
    """The body of a refusal; each member may be missing or of any type."""

    message: object = ""
    documentation_url: object = ""
    block: object = None


def interpret(
    answer: GitHubAnswer, *, unchanged: GitHubRepository | None, authorized: bool, now: float
) -> GitHubRepository:
    """Return the repository that the answer describes: `unchanged` if that is what it says.

    `unchanged` is the repository whose ETag was sent, `now` the time in seconds since 1970.
    Raises a GitHubError for every other answer. Redirects are not for this function.
    """
    if answer.status == 200:
        return _repository(answer)
    if answer.status == 304 and unchanged is not None:
        return unchanged
    if answer.status in {403, 429, 451}:
        raise _refusal(answer, authorized=authorized, now=now)
    if answer.status == 401:
        raise GitHubRefused if authorized else GitHubRefused(_ANONYMOUS)
    if answer.status == 404:
        raise NotOnGitHub
    if answer.status >= 500:
        raise GitHubUnavailable(
            f"GitHub reports a server error ({answer.status}). Try again later."
        )
    raise GitHubBadAnswer(
        f"GitHub answered {answer.status}, which this service did not expect. Try again later."
    )


def seconds_to_wait(answer: GitHubAnswer, *, now: float) -> int | None:
    """Return for how many seconds GitHub allows no more requests, or None if it does.

    The order is GitHub's: the time that a refusal gives, then the reset of an exhausted quota,
    which a good answer may report too, then a minute.
    """
    refusal = answer.status in {403, 429}
    retry_after = answer.headers.get("retry-after")
    if refusal and retry_after is not None:
        return _retry_after(retry_after, answer, now)
    if answer.headers.get("x-ratelimit-remaining") == "0":
        return _until_reset(answer, now)
    if answer.status == 429 or (refusal and _names_a_limit(answer)):
        return DEFAULT_WAIT
    return None


def _repository(answer: GitHubAnswer) -> GitHubRepository:
    try:
        body = _RepositoryBody.model_validate(_json(answer.body))
        owner, _, name = body.full_name.partition("/")
        reference = RepositoryReference(owner=owner, repo_name=name)
    except (ValueError, RecursionError) as error:
        raise GitHubBadAnswer from error
    if reference.full_name != body.full_name:  # White space was trimmed.
        raise GitHubBadAnswer
    return GitHubRepository(body.id, owner, name, body.stargazers_count, answer.headers.get("etag"))


def _refusal(answer: GitHubAnswer, *, authorized: bool, now: float) -> Exception:
    wait = seconds_to_wait(answer, now=now)
    if wait is not None and answer.status != 451:
        return GitHubRateLimited(wait, authorized=authorized)
    block = _error_body(answer.body).block
    if isinstance(block, dict) or answer.status == 451:
        reason = block.get("reason") if isinstance(block, dict) else None
        because = f" ({reason})" if isinstance(reason, str) and reason.isalnum() else ""
        return NotOnGitHub(f"GitHub has taken this repository down{because}.")
    return GitHubRefused(_NOT_ALLOWED if authorized else _ANONYMOUS)


def _names_a_limit(answer: GitHubAnswer) -> bool:
    """Return whether a refusal that gives no time is a secondary rate limit."""
    body = _error_body(answer.body)
    return (
        "gh-limited-by" in answer.headers
        or _SECONDARY_LIMIT.search(str(body.message)) is not None
        or str(body.documentation_url).endswith(_SECONDARY_LIMIT_PAGES)
    )


def _until_reset(answer: GitHubAnswer, now: float) -> int:
    reset = _number(answer.headers.get("x-ratelimit-reset"))
    if reset is None:
        return DEFAULT_WAIT
    # A second more: "it is not clear when in that second the reset occurs" (PyGithub).
    return _clamp(reset - _answered_at(answer, now) + 1)


def _retry_after(value: str, answer: GitHubAnswer, now: float) -> int:
    if (seconds := _number(value)) is not None:
        return _clamp(seconds)
    if (until := _date(value)) is not None:
        return _clamp(until - _answered_at(answer, now))
    return DEFAULT_WAIT


def _clamp(seconds: float) -> int:
    return max(1, min(LONGEST_WAIT, ceil(seconds)))


def _number(value: str | None) -> float | None:
    # Few digits and nothing else: float() also reads "inf" and "nan", int() has a limit of its own.
    return float(value) if value and re.fullmatch(r"[0-9]{1,18}", value.strip()) else None


def _answered_at(answer: GitHubAnswer, now: float) -> float:
    """Return the time of the answer by GitHub's clock, which its other times are given in."""
    date = _date(answer.headers.get("date"))
    return now if date is None else date


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, TypeError, OverflowError):
        return None


def _error_body(body: bytes) -> _ErrorBody:
    try:
        return _ErrorBody.model_validate(_json(body))
    except (ValueError, RecursionError):
        return _ErrorBody()


def _json(body: bytes) -> Any:
    """Return a JSON value; raise ValueError or RecursionError if it is none.

    Strict parsers refuse the whole body for bytes that are not UTF-8, control characters or half
    a surrogate pair, which may be in members that nobody reads. The members that are read are
    checked afterwards.
    """
    return json.loads(body.decode(errors="replace"), strict=False)
