"""What every request passes first: its id, the Host check, the log line, the last resort."""

import re
from collections.abc import Iterable
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import StartError
from app.logs import new_request_id, request_id
from app.web.errors import HostNotAllowed, InternalError
from app.web.problems import problem_response, request_path

log = structlog.get_logger(__name__)

# For the log only, as nginx has it: there is nobody to send an answer to.
CLIENT_WENT_AWAY = 499

# The characters of UUIDs, ULIDs, Base64, traceparent, and the form that HAProxy documents.
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:=+/-]{1,128}")
_SANE_ADDRESS = re.compile(r"[A-Za-z0-9.:_-]{1,64}")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class RequestGuard:
    """Plain ASGI middleware around the whole application; one for all duties, to cost little.

    It refuses a Host that is not allowed, gives each request its id, answers an error that nobody
    foresaw, and logs each request. It passes a HEAD on as a GET, of which the server sends the
    head only (RFC 9110 section 9.3.2).
    """

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)
        self._allowed_suffixes = tuple(
            host.removeprefix("*") for host in allowed_hosts if host.startswith("*")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts, this_id = _hosts_and_id(scope["headers"])
        request_id.set(this_id)
        method = scope["method"]
        if method == "HEAD":
            # In a copy: the server leaves out the body because its own scope says HEAD.
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(method, scope, send, this_id)
        try:
            if self._allows(hosts):
                await self._app(scope, receive, exchange.send)
            else:
                await problem_response(HostNotAllowed(), scope)(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = CLIENT_WENT_AWAY
        except Exception:
            log.exception("unforeseen error")
            if exchange.status:
                # Part of an answer has been sent; only closing the connection can say so.
                raise
            await problem_response(InternalError(this_id), scope)(scope, receive, exchange.send)
        finally:
            exchange.log()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop the application; a StartError is logged as one line, untraced."""
        failures: list[Message] = []

        async def keep_failures(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, keep_failures)
        except StartError as error:
            failures[:] = [{"type": "lifespan.startup.failed", "message": str(error)}]
            raise
        finally:
            for failure in failures:
                await send(failure)

    def _allows(self, hosts: list[bytes]) -> bool:
        if len(hosts) != 1 or not (match := _HOST.fullmatch(hosts[0])):
            return False
        host = match.group(1).decode().lower()
        return host in self._allowed_hosts or (
            bool(self._allowed_suffixes) and host.endswith(self._allowed_suffixes)
        )


class _Exchange:
    """One request and what is known of its answer; `status` is 0 until the answer begins."""

    __slots__ = ("_id", "_method", "_scope", "_send", "_started_at", "status")

    def __init__(self, method: str, scope: Scope, send: Send, this_id: str) -> None:
        self._started_at = perf_counter()
        self._method = method
        self._scope = scope
        self._send = send
        self._id = this_id
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a message of the answer, its headers with the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"].append((b"x-request-id", self._id.encode()))
        await self._send(message)

    def log(self) -> None:
        """Write the line of the log that each request has."""
        log.info(
            "request",
            client=_client(self._scope),
            method=self._method,
            route=getattr(self._scope.get("route"), "path", None),
            path=request_path(self._scope),
            status=self.status,
            ms=round((perf_counter() - self._started_at) * 1000, 2),
            request_id=self._id,
        )


def _client(scope: Scope) -> str | None:
    """Return the caller's address, which the server takes from a proxy that it trusts."""
    client = scope.get("client")
    return client[0] if client and _SANE_ADDRESS.fullmatch(client[0]) else None


def _hosts_and_id(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], str]:
    """Return every `Host`, and the request's id if it is sane, else a new one."""
    hosts: list[bytes] = []
    this_id = None
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"x-request-id" and _SANE_REQUEST_ID.fullmatch(value):
            this_id = value.decode()
    return hosts, this_id or new_request_id()
