"""What every request passes first: its id, the Host check, the log line, the last resort."""

import re
from collections.abc import Iterable
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import HostNotAllowed, InternalError, StartError
from app.logs import new_request_id, request_id
from app.web.problems import problem_response, request_path

log = structlog.get_logger(__name__)

# For the log only, as nginx has it: there is nobody to send an answer to.
CLIENT_WENT_AWAY = 499

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


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


class Edge:
    """Plain ASGI middleware around the whole application; one pass, because all requests pay it."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)
        self._allowed_suffixes = tuple(
            host.removeprefix("*") for host in allowed_hosts if host.startswith("*")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        hosts, this_id = _hosts_and_id(scope["headers"])
        request_id.set(this_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", this_id.encode()))
            await send(message)

        try:
            if self._allows(hosts):
                await self._app(scope, receive, send_with_id)
            else:
                response = problem_response(HostNotAllowed(), request_path(scope))
                await response(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_WENT_AWAY
        except Exception:
            log.exception("unforeseen error")
            if status:
                # Part of an answer has gone out; only closing the connection can say so.
                raise
            response = problem_response(InternalError(this_id), request_path(scope))
            await response(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                method=scope["method"],
                route=getattr(route, "path", None),
                path=request_path(scope),
                status=status,
                ms=round((perf_counter() - started) * 1000, 2),
                request_id=this_id,
            )

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop the application; a StartError is told as its sentence, untraced."""
        failures: list[Message] = []

        async def hold_failure(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
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
