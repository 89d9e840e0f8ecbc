"""What GitHub's answers mean. Pure functions: no I/O, no clock but the one that is passed in.

The rules follow docs.github.com, "Rate limits for the REST API", "Troubleshooting the REST API"
and "Best practices for using the REST API", and recorded answers of api.github.com.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Annotated

from pydantic import BaseModel, Field, StrictInt, StrictStr, TypeAdapter, ValidationError

from app.errors import (
    GitHubBadAnswer,
    GitHubRateLimited,
    GitHubRefused,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.schemas import RepositoryReference

# Seconds. A reset far in the future is somebody's error, not a reason to stop for years.
LONGEST_WAIT = 3600
# "Otherwise, wait for at least one minute before retrying."
DEFAULT_WAIT = 60

_SECONDARY_LIMIT = re.compile(r"secondary rate|abuse detection|rate limit", re.IGNORECASE)
_SECONDARY_LIMIT_PAGES = ("secondary-rate-limits", "#abuse-rate-limits")


@dataclass(frozen=True, slots=True)
class GitHubAnswer:
    """An answer of GitHub, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class GitHubRepository:
    """What the tracker takes from GitHub's answer; `github_id` stays when the name changes."""

    github_id: int
    owner: str
    name: str
    stars: int
    etag: str | None


class _RepositoryBody(BaseModel):
    id: Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]
    full_name: StrictStr
    stargazers_count: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]


class _ErrorBody(BaseModel):
    """A refusal's body, of which any part may be missing or of another type."""

    message: object = ""
    documentation_url: object = ""
    block: object = None


_ERROR_BODY = TypeAdapter(_ErrorBody)


def interpret(
    answer: GitHubAnswer, *, conditional: bool, authorized: bool, now: float
) -> GitHubRepository | None:
    """Return the repository, or None where a conditional request's answer is "unchanged".

    `now` is the time in seconds since 1970. Raises a GitHubError for everything else; redirects
    are not for this function.
    """
    if answer.status == 200:
        return _repository(answer)
    if answer.status == 304 and conditional:
        return None
    if answer.status in {403, 429, 451}:
        raise _refusal(answer, authorized=authorized, now=now)
    if answer.status == 401:
        raise GitHubRefused
    if answer.status == 404:
        raise NotOnGitHub
    if answer.status >= 500:
        raise GitHubUnavailable(
            f"GitHub is ill at the moment: it answered {answer.status}. Try again later."
        )
    raise GitHubBadAnswer(
        f"GitHub answered {answer.status}, which this service did not expect. Try again later."
    )


def quota_reset(answer: GitHubAnswer, *, now: float) -> int | None:
    """Return in how many seconds the quota is renewed, where this answer was the last of it."""
    if answer.headers.get("x-ratelimit-remaining") != "0":
        return None
    reset = _number(answer.headers.get("x-ratelimit-reset"))
    if reset is None:
        return DEFAULT_WAIT
    # A second more: "it is not clear when in that second the reset occurs" (PyGithub).
    return _clamp(reset - _asked_at(answer, now) + 1)


def _repository(answer: GitHubAnswer) -> GitHubRepository:
    try:
        body = _RepositoryBody.model_validate_json(answer.body)
        owner, _, name = body.full_name.partition("/")
        reference = RepositoryReference(owner=owner, repo_name=name)
    except ValidationError as error:
        raise GitHubBadAnswer from error
    if reference.full_name != body.full_name:  # White space was trimmed.
        raise GitHubBadAnswer
    return GitHubRepository(body.id, owner, name, body.stargazers_count, answer.headers.get("etag"))


def _refusal(answer: GitHubAnswer, *, authorized: bool, now: float) -> Exception:
    body = _error_body(answer.body)
    wait = _limit_wait(answer, body, now)
    if wait is not None:
        return GitHubRateLimited(wait, authorized=authorized)
    if isinstance(body.block, dict) or answer.status == 451:
        reason = body.block.get("reason") if isinstance(body.block, dict) else None
        because = f" ({reason})" if isinstance(reason, str) and reason.isalnum() else ""
        return NotOnGitHub(f"GitHub has taken this repository down{because}.")
    return GitHubRefused(
        "GitHub does not allow this service to read the repository. "
        "Its operator can check what GITHUB_TOKEN is allowed to do."
    )


def _limit_wait(answer: GitHubAnswer, body: _ErrorBody, now: float) -> int | None:
    """Return the seconds to wait if the answer is a rate limit; in the order that GitHub gives."""
    if answer.status == 451:
        return None
    retry_after = answer.headers.get("retry-after")
    if retry_after is not None:
        return _retry_after(retry_after, answer, now)
    reset = quota_reset(answer, now=now)
    if reset is not None:
        return reset
    secondary = (
        "gh-limited-by" in answer.headers
        or _SECONDARY_LIMIT.search(str(body.message)) is not None
        or str(body.documentation_url).endswith(_SECONDARY_LIMIT_PAGES)
    )
    return DEFAULT_WAIT if secondary or answer.status == 429 else None


def _retry_after(value: str, answer: GitHubAnswer, now: float) -> int:
    if (seconds := _number(value)) is not None:
        return _clamp(seconds)
    if (until := _date(value)) is not None:
        return _clamp(until - _asked_at(answer, now))
    return DEFAULT_WAIT


def _clamp(seconds: float) -> int:
    return max(1, min(LONGEST_WAIT, ceil(seconds)))


def _number(value: str | None) -> float | None:
    # Digits only, and few: float() also knows "inf" and "nan", and int() has a limit of its own.
    return float(value) if value and re.fullmatch(r"[0-9]{1,18}", value.strip()) else None


def _asked_at(answer: GitHubAnswer, now: float) -> float:
    """Return the time of the answer by GitHub's own clock, which its other times are told by."""
    date = _date(answer.headers.get("date"))
    return now if date is None else date


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, TypeError, OverflowError):
        return None


def _error_body(body: bytes) -> _ErrorBody:
    try:
        return _ERROR_BODY.validate_json(body)
    except ValidationError:
        return _ErrorBody()
