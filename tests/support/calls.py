"""Single requests, each noted with its times and its answer."""

import time
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

UNAVAILABLE = "/problems/database-unavailable"
NO_ANSWER, CUT_OFF = -1, 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one request; the status is CUT_OFF if the connection was lost."""

    method: str
    path: str
    started: float
    ended: float
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    caller: int = 0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started

    @property
    def is_success(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def is_problem(self) -> bool:
        """Whether it is a problem as RFC 9457 describes it, with its own status and path."""
        return (
            self.headers.get("content-type") == "application/problem+json"
            and isinstance(self.body, dict)
            and {"type", "title", "status", "detail", "instance"} <= self.body.keys()
            and self.body["status"] == self.status
            and self.body["instance"] == self.path
        )

    @property
    def is_database_unavailable(self) -> bool:
        """Whether it says, as it should, that PostgreSQL is unavailable."""
        return (
            self.status == 503
            and self.is_problem
            and self.body["type"] == UNAVAILABLE
            and self.headers.get("retry-after", "").isdecimal()
        )


async def ask(
    client: httpx.AsyncClient, method: str, url: str, body: Any = None, *, caller: int = 0
) -> Answer:
    """Make a request and note its result."""
    started, path = time.monotonic(), httpx.URL(url).path
    said: Any = None
    status, headers = CUT_OFF, httpx.Headers()
    try:
        response = await client.request(method, url, json=body)
    except httpx.TimeoutException:
        status = NO_ANSWER
    except httpx.TransportError as error:
        said = repr(error)
    else:
        status, headers = response.status_code, response.headers
        said = response.json() if response.content else None
    return Answer(
        method,
        path,
        started,
        time.monotonic(),
        status,
        said,
        dict(headers),
        url.removesuffix(path),
        caller,
    )


async def track(client: httpx.AsyncClient, url: str, owner: str, name: str) -> Answer:
    """Track a repository through the service at this URL."""
    return await ask(client, "POST", f"{url}/repos", {"owner": owner, "repo_name": name})
