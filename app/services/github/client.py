"""Asks GitHub for a repository: the one module that talks HTTP to it."""

import asyncio
import time
from math import ceil
from typing import Self
from urllib.parse import quote

import httpx2 as httpx
import structlog

from app import __version__
from app.errors import (
    GitHubBadAnswer,
    GitHubError,
    GitHubRateLimited,
    GitHubTimeout,
    GitHubUnavailable,
)
from app.services.github.answers import (
    GitHubAnswer,
    GitHubRepository,
    interpret,
    quota_reset,
)
from app.services.github.sharing import SharedCalls
from app.settings import Settings

log = structlog.get_logger(__name__)

# Seconds for the whole exchange: waiting for a slot, redirects, the retry and the body.
DEADLINE = 5.0
# GitHub allows a hundred requests at once for everything that uses the token.
CONCURRENT_CALLS = 20
# Real answers have 7 to 26 kB.
LARGEST_BODY = 1024 * 1024
MOST_REDIRECTS = 3
REDIRECTS = {301, 302, 303, 307, 308}
WORTH_A_RETRY = {502, 503, 504}

API_VERSION = "2022-11-28"


class Gate:
    """Closed while GitHub allows no more requests, so that nobody asks in vain."""

    def __init__(self, *, authorized: bool) -> None:
        self._authorized = authorized
        self._opens_at = 0.0

    def close(self, seconds: float) -> None:
        """Stay closed for so many seconds at least."""
        self._opens_at = max(self._opens_at, time.monotonic() + seconds)

    def check(self) -> None:
        """Raise GitHubRateLimited while closed."""
        remaining = self._opens_at - time.monotonic()
        if remaining > 0:
            raise GitHubRateLimited(ceil(remaining), authorized=self._authorized)


class GitHub:
    """A client for `GET /repos/{owner}/{name}` and `GET /repositories/{id}`.

    Every method raises a GitHubError when the answer is not a repository, within the deadline.
    """

    def __init__(self, client: httpx.AsyncClient, api_url: str, *, authorized: bool) -> None:
        self.authorized = authorized
        self._client = client
        self._api_url = httpx.URL(api_url)
        self._slots = asyncio.Semaphore(CONCURRENT_CALLS)
        self._gate = Gate(authorized=authorized)
        self._calls: SharedCalls[tuple[str, str | None], GitHubRepository | None] = SharedCalls()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return a client with its connections; the token goes to `GITHUB_API_URL` only."""
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": f"github-repository-tracker/{__version__}",
        }
        if settings.github_token is not None:
            headers["Authorization"] = f"Bearer {settings.github_token.get_secret_value()}"
        client = httpx.AsyncClient(
            headers=headers,
            timeout=DEADLINE,
            limits=httpx.Limits(max_connections=CONCURRENT_CALLS),
            follow_redirects=False,
        )
        return cls(client, settings.github_api_url, authorized="Authorization" in headers)

    async def close(self) -> None:
        """End the calls under way and close the connections."""
        await self._calls.close()
        await self._client.aclose()

    async def repository(self, owner: str, name: str) -> GitHubRepository:
        """Return the repository that GitHub has under this name, today's or an earlier one."""
        path = f"repos/{quote(owner, safe='')}/{quote(name, safe='')}"
        return _known(await self._calls.join((path.lower(), None), lambda: self._call(path, None)))

    async def repository_by_id(self, github_id: int) -> GitHubRepository:
        """Return the repository with this number, whatever its name is today."""
        return _known(await self.repository_unless(github_id, None))

    async def repository_unless(self, github_id: int, etag: str | None) -> GitHubRepository | None:
        """Return the repository with this number, or None if it is what `etag` stands for.

        The ETag is sent with a token only: without one, "unchanged" costs as much as an answer.
        """
        etag = etag if self.authorized else None
        path = f"repositories/{github_id}"
        found = await self._calls.join((path, etag), lambda: self._call(path, etag))
        if found is not None and found.github_id != github_id:
            raise GitHubBadAnswer("GitHub answered with another repository. Try again later.")
        return found

    async def _call(self, path: str, etag: str | None) -> GitHubRepository | None:
        self._gate.check()
        try:
            async with asyncio.timeout(DEADLINE), self._slots:
                return await self._follow(path, etag)
        except (TimeoutError, httpx.TimeoutException) as error:
            log.warning("github did not answer in time", path=path)
            raise GitHubTimeout from error

    async def _follow(self, path: str, etag: str | None) -> GitHubRepository | None:
        url = self._api_url.join(f"{self._api_url.path.rstrip('/')}/{path}")
        retries, redirects = 1, 0
        while True:
            # The gate may have closed while this call waited for its slot.
            self._gate.check()
            answer = await self._get(url, etag)
            if retries > 0 and (answer is None or _is_worth_a_retry(answer)):
                retries -= 1
            elif answer is None:
                raise GitHubUnavailable
            elif answer.status not in REDIRECTS:
                return self._judge(answer, conditional=etag is not None)
            elif redirects < MOST_REDIRECTS:
                redirects += 1
                url = self._redirect_target(url, answer)
            else:
                raise GitHubBadAnswer("GitHub redirects this repository in circles.")

    def _judge(self, answer: GitHubAnswer, *, conditional: bool) -> GitHubRepository | None:
        now = time.time()
        try:
            found = interpret(answer, conditional=conditional, authorized=self.authorized, now=now)
        except GitHubRateLimited as error:
            self._gate.close(error.retry_after)
            raise
        except GitHubError as error:
            self._mind_the_quota(answer, now)
            if answer.status != 404:
                log.warning("github answered badly", status=answer.status, problem=error.slug)
            raise
        self._mind_the_quota(answer, now)
        return found

    def _mind_the_quota(self, answer: GitHubAnswer, now: float) -> None:
        if (wait := quota_reset(answer, now=now)) is not None:
            self._gate.close(wait)

    def _redirect_target(self, url: httpx.URL, answer: GitHubAnswer) -> httpx.URL:
        try:
            target = url.join(answer.headers["location"])
        except (KeyError, httpx.InvalidURL):
            target = None
        # Elsewhere than GitHub nobody may see the token, or be believed.
        if target is None or _origin(target) != _origin(self._api_url) or target.userinfo:
            log.warning("github redirects elsewhere", status=answer.status)
            raise GitHubBadAnswer(
                "GitHub redirects this repository to an address that this service does not "
                "trust. Its operator can check GITHUB_API_URL."
            )
        return target

    async def _get(self, url: httpx.URL, etag: str | None) -> GitHubAnswer | None:
        """Return GitHub's answer, or None where the connection failed."""
        started = time.perf_counter()
        status: int | str = "failed"
        quota = None
        headers = {} if etag is None else {"If-None-Match": etag}
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
            log.warning("github connection failed", error=type(error).__name__)
            return None
        finally:
            log.info(
                "github call",
                path=url.path,
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
                quota_left=quota,
            )


def _known(found: GitHubRepository | None) -> GitHubRepository:
    if found is None:
        raise GitHubBadAnswer("GitHub answered 'unchanged' to nothing. Try again later.")
    return found


def _is_worth_a_retry(answer: GitHubAnswer) -> bool:
    return answer.status in WORTH_A_RETRY and "retry-after" not in answer.headers


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
