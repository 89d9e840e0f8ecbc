"""Asks GitHub for a repository: the one module that talks HTTP to it."""

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import httpx2 as httpx
import structlog

from app import __version__, deadlines
from app.errors import (
    GitHubBadAnswer,
    GitHubError,
    GitHubTimeout,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.models import Check, GitHubRepository
from app.services.github.answers import GitHubAnswer, interpret, seconds_to_wait
from app.services.github.quota import Gate
from app.services.github.sharing import SharedCalls

log = structlog.get_logger(__name__)

T = TypeVar("T")

# GitHub allows a hundred requests at once for everything that uses the token.
CONCURRENT_CALLS = 20
# Bytes. Real answers have 7,000 to 26,000.
LARGEST_BODY = 1024 * 1024
MOST_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}
RETRYABLE = {502, 503, 504}

# GitHub's own media type, then the one that its OpenAPI description and stand-ins made of it know.
ACCEPT = "application/vnd.github+json, application/json;q=0.9"
API_VERSION = "2022-11-28"


class GitHub:
    """A client for `GET /repos/{owner}/{name}` and `GET /repositories/{id}`.

    `time_limit` is in seconds and for the whole exchange: waiting for a slot, redirects, the
    retry and the body. The deadline of one caller is a time of the event loop's clock.
    """

    def __init__(
        self,
        api_url: str,
        token: str | None = None,
        *,
        proxy: str | None = None,
        time_limit: float = deadlines.REQUEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = {
            "Accept": ACCEPT,
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": f"github-repository-tracker/{__version__}",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=time_limit,
            limits=httpx.Limits(max_connections=CONCURRENT_CALLS),
            follow_redirects=False,
            # From the environment it would open every proxy, also one that GitHub does not need.
            trust_env=False,
            proxy=proxy,
            verify=httpx.create_ssl_context(),
        )
        self._authorized = token is not None
        self._api_url = httpx.URL(api_url)
        self._time_limit = time_limit
        self._slots = asyncio.Semaphore(CONCURRENT_CALLS)
        self._gate = Gate(authorized=self._authorized, clock=clock)
        self._checks: SharedCalls[tuple[int, str | None], Check] = SharedCalls()

    async def close(self) -> None:
        """End the running checks and close the connections."""
        await self._checks.close()
        await self._client.aclose()

    async def repository(
        self, owner: str, name: str, *, deadline: float | None = None
    ) -> GitHubRepository:
        """Return the repository that GitHub has under this name, today's or an earlier one.

        Raises a GitHubError if the answer is not a repository, or comes after the deadline.
        """
        path = f"repos/{quote(owner, safe='')}/{quote(name, safe='')}"
        return await _in_time(self._call(path), deadline)

    async def check(
        self, known: GitHubRepository, *, asked_at: datetime, deadline: float | None = None
    ) -> Check:
        """Return what GitHub says now of the repository with the number of `known`.

        Callers who check the same repository at the same time share one call, and its `asked_at`,
        the time by PostgreSQL's clock.
        The ETag is sent with a token only: without one, "unchanged" costs as much as an answer.
        Raises a GitHubError if the answer is not that repository, or comes after the deadline.
        """
        etag = known.etag if self._authorized else None
        check = partial(self._check, known, etag, asked_at)
        return await _in_time(self._checks.join((known.github_id, etag), check), deadline)

    async def _check(self, known: GitHubRepository, etag: str | None, asked_at: datetime) -> Check:
        unchanged = None if etag is None else known
        found = await self._call(f"repositories/{known.github_id}", unchanged)
        if found.github_id != known.github_id:
            raise GitHubBadAnswer("GitHub answered with another repository. Try again later.")
        return Check(found, asked_at)

    async def _call(self, path: str, unchanged: GitHubRepository | None = None) -> GitHubRepository:
        """Return what GitHub has under the path: `unchanged` if it still has that ETag."""
        self._gate.check()
        try:
            async with asyncio.timeout(self._time_limit), self._slots:
                return await self._follow(path, unchanged)
        except (TimeoutError, httpx.TimeoutException) as error:
            log.warning("github did not answer in time", path=path)
            raise GitHubTimeout from error

    async def _follow(self, path: str, unchanged: GitHubRepository | None) -> GitHubRepository:
        url = self._api_url.join(f"{self._api_url.path.rstrip('/')}/{path}")
        headers = {} if unchanged is None else {"If-None-Match": unchanged.etag or ""}
        retries, redirects = 1, MOST_REDIRECTS
        while True:
            # The gate may have closed while this call waited for its slot.
            self._gate.check()
            answer = await self._get(url, headers)
            if retries > 0 and (answer is None or _is_retryable(answer)):
                retries -= 1
            elif answer is None:
                raise GitHubUnavailable
            elif answer.status not in REDIRECTS:
                return self._judge(answer, unchanged)
            elif redirects > 0:
                redirects -= 1
                url = self._redirect_target(url, answer)
            else:
                raise GitHubBadAnswer("GitHub redirects this repository in circles.")

    def _judge(self, answer: GitHubAnswer, unchanged: GitHubRepository | None) -> GitHubRepository:
        now = time.time()
        if (wait := seconds_to_wait(answer, now=now)) is not None:
            self._gate.close(wait)
        try:
            return interpret(answer, unchanged=unchanged, authorized=self._authorized, now=now)
        except NotOnGitHub:
            raise
        except GitHubError as error:
            log.warning("github answered badly", status=answer.status, problem=error.slug)
            raise

    def _redirect_target(self, url: httpx.URL, answer: GitHubAnswer) -> httpx.URL:
        try:
            target = url.join(answer.headers["location"])
        except (KeyError, httpx.InvalidURL):
            target = None
        # No other host may see the token, or be believed.
        if target is None or _origin(target) != _origin(self._api_url) or target.userinfo:
            log.warning("github redirects elsewhere", status=answer.status)
            raise GitHubBadAnswer(
                "GitHub redirects this repository to an address that this service does not "
                "trust. Its operator can check GITHUB_API_URL."
            )
        return target

    async def _get(self, url: httpx.URL, headers: dict[str, str]) -> GitHubAnswer | None:
        """Return GitHub's answer, or None if the connection failed and another may not."""
        started = time.perf_counter()
        status: int | str = "failed"
        quota = None
        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                status, quota = response.status_code, response.headers.get("x-ratelimit-remaining")
                body = await _read(response)
                return GitHubAnswer(
                    response.status_code,
                    {name.lower(): value for name, value in response.headers.items()},
                    body,
                )
        except httpx.DecodingError as error:
            raise GitHubBadAnswer("GitHub's answer cannot be decoded. Try again later.") from error
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            cause = _first_cause(error)
            # Only an OSError is sure not to repeat what the server sent, maybe the token itself.
            reason = str(cause) if isinstance(cause, OSError) else type(error).__name__
            log.warning("github connection failed", reason=reason)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise GitHubUnavailable(
                    "GitHub's certificate is not trusted, and waiting does not change that. The "
                    "operator of this service can check GITHUB_API_URL, or name the file of the "
                    "certificate authority in SSL_CERT_FILE."
                ) from error
            return None
        finally:
            log.info(
                "github call",
                path=url.path,
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
                quota_left=quota,
            )


async def _in_time(call: Coroutine[object, object, T], deadline: float | None) -> T:
    """Return what the call returns; raise GitHubTimeout at the deadline."""
    try:
        async with asyncio.timeout_at(deadline):
            return await call
    except TimeoutError as error:
        raise GitHubTimeout from error


def _first_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _is_retryable(answer: GitHubAnswer) -> bool:
    return answer.status in RETRYABLE and "retry-after" not in answer.headers


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise GitHubBadAnswer("GitHub's answer is larger than any description of a repository.")
    return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default
