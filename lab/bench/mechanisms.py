"""What each mechanism that makes a read cheap costs in lines and saves in processor time.

`python -m lab.bench.mechanisms NAME` serves the application without the mechanism of that name.
Nothing in the application can switch one off: here it is built anew, without it.
"""

import asyncio
import gc
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import Any, LiteralString
from uuid import UUID

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from psycopg import AsyncConnection
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from app import crud, deadlines
from app.database import Database
from app.errors import RepositoryNotFound
from app.factory import open_database, open_github
from app.logs import configure_logging
from app.main import create_app
from app.postgres.connections import parameters
from app.postgres.shared_reads import SharedReads
from app.schemas import Representation, represent
from app.services.github.client import GitHub
from app.services.tracker import Tracker
from app.serving import process
from app.serving.protocol import UpgradeIgnoringProtocol
from app.settings import Settings
from app.web.routing import LeanRoute
from lab.bench.servers import Kind

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True)
class Mechanism:
    """A mechanism, the names of the code that it consists of, and how to serve without it."""

    name: str
    title: str
    code: Sequence[str]
    without: Callable[[FastAPI], None]
    loop: str = "uvloop"
    http: Any = UpgradeIgnoringProtocol

    @property
    def lines(self) -> int:
        """The lines of its code."""
        return sum(len(inspect.getsource(resolve_name(name)).splitlines()) for name in self.code)

    @property
    def kind(self) -> Kind:
        """The server without it."""
        return Kind(f"no-{self.name}", f"without {self.title}", ("-m", __name__, self.name))


def _nothing(_app: FastAPI) -> None:
    """Leave the application as it is."""


def _plain_routes(app: FastAPI) -> None:
    """Let FastAPI's own route class answer."""
    app.router.routes[:] = [
        APIRoute(route.path, route.endpoint, methods=route.methods, response_model=None)
        if isinstance(route, LeanRoute)
        else route
        for route in app.router.routes
    ]


def _base_http_middleware(app: FastAPI) -> None:
    """Add a middleware of Starlette's class that does nothing."""

    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


def _around(lifespan: Lifespan, started: Callable[[], object]) -> Lifespan:
    @asynccontextmanager
    async def lifespan_and_more(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            started()
            yield state

    return lifespan_and_more


def _ordinary_gc(app: FastAPI) -> None:
    """Collect garbage as Python does by default."""

    def thaw() -> None:
        gc.unfreeze()
        gc.set_threshold(700, 10, 10)

    app.router.lifespan_context = _around(app.router.lifespan_context, thaw)


def _stdlib_json(app: FastAPI) -> None:
    """Write the log by structlog's usual processors."""

    def configure() -> None:
        structlog.reset_defaults()
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )

    app.router.lifespan_context = _around(app.router.lifespan_context, configure)


class _ReadsAlone(Tracker):
    """Reads each record by a SELECT of its own."""

    async def find(self, repository_id: UUID) -> Representation:
        deadline = asyncio.get_running_loop().time() + deadlines.DATABASE
        records = await crud.read_by_id(self._database.fetch, [repository_id], deadline)
        if repository_id not in records:
            raise RepositoryNotFound(repository_id)
        return represent(records[repository_id])


class _ReadsUnprepared(Tracker):
    """Shares a SELECT that is parsed and planned each time, by a new cursor."""

    def __init__(self, database: Database, github: GitHub, url: str) -> None:
        super().__init__(database, github)
        self._url = url
        self._connections: list[AsyncConnection[Any]] = []
        self._unprepared = SharedReads(partial(crud.read_by_id, self._fetch))

    async def find(self, repository_id: UUID) -> Representation:
        record = await self._unprepared.get(repository_id)
        if record is None:
            raise RepositoryNotFound(repository_id)
        return represent(record)

    async def _fetch(
        self, sql: LiteralString, values: list[Any], _deadline: float
    ) -> list[tuple[Any, ...]]:
        if self._connections:
            connection = self._connections.pop()
        else:
            connection = await AsyncConnection.connect(**parameters(self._url), autocommit=True)
        cursor = await connection.execute(sql, [values], prepare=False, binary=True)
        rows = await cursor.fetchall()
        self._connections.append(connection)
        return rows


def _tracker(tracker_class: Callable[[Database, GitHub], Tracker], app: FastAPI) -> None:
    settings = Settings.load()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        configure_logging(settings.log_level, settings.log_format)
        process.freeze_imports_for_gc()
        async with open_database(settings) as database, open_github(settings) as github:
            tracker = tracker_class(database, github)
            yield {"tracker": tracker}
            await tracker.close()

    app.router.lifespan_context = lifespan


def _unprepared(app: FastAPI) -> None:
    url = Settings.load().database_url
    if url is None:
        raise RuntimeError("The benchmark names a DATABASE_URL.")
    _tracker(partial(_ReadsUnprepared, url=url.get_secret_value()), app)


MECHANISMS = (
    Mechanism(
        "shared-reads",
        "reads that share a SELECT",
        ["app.postgres.shared_reads"],
        partial(_tracker, _ReadsAlone),
    ),
    Mechanism(
        "prepared",
        "a cursor that is kept, its SELECT prepared and planned once",
        ["app.database:Database._new_reader", "app.database:Database._close_idle_readers"],
        _unprepared,
    ),
    Mechanism("route", "a route class of our own", ["app.web.routing"], _plain_routes),
    Mechanism(
        "guard",
        "a guard in plain ASGI, not in Starlette's BaseHTTPMiddleware",
        ["app.web.middleware"],
        _base_http_middleware,
    ),
    Mechanism(
        "gc",
        "imports frozen out of garbage collection",
        ["app.serving.process:freeze_imports_for_gc"],
        _ordinary_gc,
    ),
    Mechanism(
        "log",
        "a log line that is made in one step, by orjson",
        ["app.logs:_to_json", "app.logs:_add_context"],
        _stdlib_json,
    ),
    Mechanism("uvloop", "uvloop instead of asyncio's loop", [], _nothing, loop="asyncio"),
    Mechanism("httptools", "httptools instead of h11", [], _nothing, http="h11"),
    Mechanism(
        "protocol",
        "bounds on each request, and Upgrade ignored",
        ["app.serving.protocol"],
        _nothing,
        http="httptools",
    ),
)


def main() -> None:
    """Serve without one mechanism."""
    mechanism = next(each for each in MECHANISMS if each.name == sys.argv[1])
    settings = Settings.load()
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings)
    mechanism.without(app)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop=mechanism.loop,
        http=mechanism.http,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
