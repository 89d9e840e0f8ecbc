"""A stand-in for api.github.com that speaks HTTP/1.1 on loopback and checks what it is sent."""

import asyncio
import hashlib
import itertools
import json
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self

from lab.github.answers import (
    JSON,
    ORDINARY,
    Answer,
    bad_credentials,
    not_found,
    rate_limited,
    redirect,
)
from lab.github.loopback import PATIENCE, Call, Connection, Traffic, alarm
from lab.github.world import HOUR, Budget, GitHubRepository, World, render

LOOPBACK = "127.0.0.1"
ANY = "*"
BY_NAME = re.compile(r"/repos/([A-Za-z0-9_-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100})")
BY_ID = re.compile(r"/repositories/([0-9]{1,19})")
ETAGS = re.compile(r'(?:W/)?("[^"]*")')
LIBRARIES = re.compile(r"(python|httpx|aiohttp|curl|go-http|node|okhttp|java|wget)", re.IGNORECASE)
ACCEPT = "application/vnd.github+json, application/json;q=0.9"
VERSIONS = ("2022-11-28", "2026-03-10")
USUAL = {
    "Server": "github.com",
    "Content-Type": JSON,
    "Cache-Control": "public, max-age=60, s-maxage=60",
    "Vary": "Accept,Accept-Encoding, Accept, X-Requested-With",
    "X-GitHub-Media-Type": "github.v3; format=json",
    "Access-Control-Expose-Headers": "ETag, Link, Location, Retry-After, X-RateLimit-Remaining",
    "Access-Control-Allow-Origin": "*",
    "Strict-Transport-Security": "max-age=31536000; includeSubdomains; preload",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "origin-when-cross-origin, strict-origin-when-cross-origin",
    "Content-Security-Policy": "default-src 'none'",
}
PRIVATE = {
    "Cache-Control": "private, max-age=60, s-maxage=60",
    "Vary": f"Accept, Authorization, Cookie, X-GitHub-OTP,{USUAL['Vary'].partition(',')[2]}",
}


class GitHub(Traffic, World):
    """The stand-in: change its world, script its answers, count its calls, read its violations."""

    def __init__(self, prefix: str = "") -> None:
        """Begin with an empty world, no token, and a full budget."""
        super().__init__()
        self.prefix = prefix
        self.url = ""
        self.foreign = "https://api.github.invalid"
        self.token: str | None = None
        self.latency = 0.0
        self.close_after_each = False
        self.anonymous = Budget(60, 60, time.time() + HOUR)
        self.authorised = Budget(5000, 5000, time.time() + HOUR)
        self.violations: list[str] = []
        self._scripts: dict[str, tuple[deque[Answer], bool]] = {}
        self._requests = itertools.count(1)
        self._connections: set[Connection] = set()

    @property
    def budget(self) -> Budget:
        """Return the budget that good requests are charged to."""
        return self.anonymous if self.token is None else self.authorised

    @property
    def remaining(self) -> int:
        """Return how many requests are left this hour."""
        return self.budget.remaining

    @remaining.setter
    def remaining(self, left: int) -> None:
        self.budget.remaining = left

    def script(self, target: str, *answers: Answer, repeat: bool = False) -> None:
        """Give these answers to a path, to owner/name, or to ANY, in order.

        Then the last one is repeated, or requests are answered as usual.
        """
        path = target if target == ANY or target.startswith("/") else f"/repos/{target}"
        self._scripts[path.lower()] = (deque(answers), repeat)

    def arrived(self, call: Call) -> Answer:
        """Count a request and choose its answer."""
        self.note(call)
        if fault := self.fault(call):
            self.violations.append(f"{call.method} {call.path}: {fault}")
            return Answer(400, body={"message": fault})
        path = call.path.removeprefix(self.prefix).lower()
        answers, repeat = self._scripts.get(path) or self._scripts.get(ANY) or (None, False)
        if not answers:
            return ORDINARY
        return answers[0] if repeat and len(answers) == 1 else answers.popleft()

    def fault(self, call: Call) -> str | None:
        """Return what is wrong with a request, or None."""
        get, path = call.headers.get, call.path.removeprefix(self.prefix)
        authorization = get("authorization")
        scheme, _, token = (authorization or "").partition(" ")
        agent = get("user-agent", "")
        faults = {
            "not a GET": call.method != "GET",
            "a body": bool(call.body) or "transfer-encoding" in call.headers,
            "no such route": not call.path.startswith(f"{self.prefix}/")
            or not (BY_NAME.fullmatch(path) or BY_ID.fullmatch(path)),
            f"Host {get('host')}": f"//{get('host')}{self.prefix}" != self.url.partition(":")[2],
            f"Accept {get('accept')}": get("accept") != ACCEPT,
            "no API version that GitHub has": get("x-github-api-version") not in VERSIONS,
            f"User-Agent {agent!r}": not agent or LIBRARIES.match(agent) is not None,
            "a token where none was set": self.token is None and authorization is not None,
            "no token": self.token is not None and not (scheme == "Bearer" and token),
            "an ETag that is none": not re.fullmatch(ETAGS, get("if-none-match", '""')),
        }
        return next((fault for fault, found in faults.items() if found), None)

    def ordinary(self, call: Call) -> Answer:
        """Answer as GitHub does."""
        authorization = call.headers.get("authorization", "")
        authorised = self.token is not None and authorization == f"Bearer {self.token}"
        budget = self.authorised if authorised else self.anonymous
        if not budget.charge():
            return rate_limited(budget.reset - time.time())
        if authorization and not authorised:
            return bad_credentials()
        path = call.path.removeprefix(self.prefix)
        named = BY_NAME.fullmatch(path)
        found = self.look_up(named[1]) if named else self.ids.get(int(path.rpartition("/")[2]))
        if isinstance(found, int):
            return redirect(f"{self.url}/repositories/{found}")
        return not_found() if found is None else self.found(found, call, budget)

    def found(self, found: GitHubRepository, call: Call, budget: Budget) -> Answer:
        """Describe a repository, or answer 304 if the caller has that description already."""
        authorization = call.headers.get("authorization", "")
        body = render(found.id, found.owner, found.name, found.stars, self.url)
        tag = hashlib.sha256(f"{body.digest}{authorization}".encode()).hexdigest()
        if f'"{tag}"' in ETAGS.findall(call.headers.get("if-none-match", "")):
            budget.remaining += budget is self.authorised
            return Answer(304, {"ETag": f'"{tag}"'})
        headers: dict[str, str | None] = {"ETag": f'W/"{tag}"'}
        if "gzip" in call.headers.get("accept-encoding", ""):
            return Answer(200, headers | {"Content-Encoding": "gzip"}, body.packed)
        return Answer(200, headers, body.plain)

    def bytes_of(self, answer: Answer, call: Call) -> tuple[bytes, bytes]:
        """Return the head and the body of an answer."""
        if answer.status is None:
            answer = self.ordinary(call)
        status, body = answer.status or 200, answer.content()
        headers: dict[str, str | None] = {} if answer.bare else self.usual_headers(call)
        spelled = {name.lower(): name for name in headers}
        for name, value in answer.headers.items():
            headers.pop(spelled.get(name.lower(), name), None)
            headers[name] = value
        if status == HTTPStatus.NOT_MODIFIED:
            body = b""
        else:
            headers["Content-Length"] = str(len(body))
        if self.close_after_each:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        head = "\r\n".join(lines).replace("{base}", self.url).replace("{foreign}", self.foreign)
        return f"{head}\r\n\r\n".encode("latin-1"), body

    def usual_headers(self, call: Call) -> dict[str, str | None]:
        """Return the headers that every answer has."""
        authorised = call.headers.get("authorization") == f"Bearer {self.token}"
        return {
            "Date": formatdate(usegmt=True),
            **USUAL,
            **(PRIVATE if authorised else {}),
            "x-github-api-version-selected": call.headers.get("x-github-api-version", VERSIONS[0]),
            **(self.authorised if authorised else self.anonymous).headers(),
            "X-GitHub-Request-Id": f"C0DE:{next(self._requests):X}",
        }

    def control(self, call: Call) -> Answer:
        """Carry out the orders of an HTTP request, and return a report."""
        try:
            orders = json.loads(call.body or b"{}")
            self.obey(orders)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return Answer(400, body={"error": repr(error)})
        report = {
            "calls": self.count,
            "concurrent_peak": self.concurrent_peak,
            "remaining": self.remaining,
            "violations": self.violations,
            "not understood": sorted(orders),
        }
        return Answer(400 if orders else 200, body=report)

    def obey(self, orders: dict[str, Any]) -> None:
        """Carry orders out, and take away those that were understood."""
        for name, stars in orders.pop("add", {}).items():
            owner, _, repository = name.partition("/")
            self.add(owner, repository, stars=stars)
        for name, stars in orders.pop("stars", {}).items():
            self.known(name).stars = stars
        if "rename" in orders:
            old, new = orders.pop("rename")
            self.rename(old, *new.split("/"))
        if "remove" in orders:
            self.remove(orders.pop("remove"))
        for name in ("remaining", "latency", "generate", "token", "close_after_each"):
            if name in orders:
                setattr(self, name, orders.pop(name))
        if "hold" in orders:
            (self.hold if orders.pop("hold") else self.release)()

    @asynccontextmanager
    async def listening(
        self, port: int = 0, *, host: str = LOOPBACK, origin: str = ""
    ) -> AsyncIterator[Self]:
        """Serve from the running loop; `origin` is its address if clients know another one."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self, self._connections), host, port, backlog=2048
        )
        origin = origin or f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        self.url = f"{origin}{self.prefix}"
        try:
            yield self
        finally:
            server.close()
            for connection in list(self._connections):
                connection.transport.abort()
            await server.wait_closed()

    @classmethod
    @asynccontextmanager
    async def serve(cls, port: int = 0, *, prefix: str = "") -> AsyncIterator[Self]:
        """Serve a new stand-in from the running loop."""
        async with cls(prefix).listening(port) as github:
            yield github

    @classmethod
    @contextmanager
    def in_thread(cls, port: int = 0, *, prefix: str = "") -> Iterator[Self]:
        """Serve a new stand-in from a thread with a loop of its own."""
        github = cls(prefix)
        started: Future[Callable[[], object]] = Future()

        async def main() -> None:
            try:
                async with github.listening(port):
                    stopped, stop = alarm()
                    started.set_result(stop)
                    await stopped
            except OSError as error:
                started.set_exception(error)

        thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        thread.start()
        stop = started.result(PATIENCE)
        try:
            yield github
        finally:
            stop()
            thread.join(PATIENCE)


def _phrase(status: int) -> str:
    """Return the words that go with a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
