"""Ways to interrupt the connection between the service and its database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import PROJECT_DIR
from app.database import Database
from app.postgres.url import connection_parameters
from lab.database import url_of
from tests.support.waiting import until

Rows = psycopg.Connection[Any]


def alembic(url: str, work: Callable[[Config], None]) -> None:
    """Run a command of Alembic on the database, as a developer would."""
    config = Config(toml_file=PROJECT_DIR / "pyproject.toml")
    engine = create_engine("postgresql+psycopg://", connect_args=connection_parameters(url))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        work(config)
    engine.dispose()


@contextmanager
def closed(postgresql: str, url: str) -> Iterator[None]:
    """Let PostgreSQL close and refuse all connections to a database while inside."""
    name = str(connection_parameters(url)["dbname"])
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            terminate(connection, name)
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def terminate(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid()",
        [name],
    )


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def select_one(session: AsyncSession) -> Any:
    """Do the least that a transaction can do."""
    return await session.scalar(text("SELECT 1"))


async def stars(database: Database, *names: str, seconds: float = 5) -> list[tuple[Any, ...]]:
    """Read the names and stars of repositories, within so many seconds."""
    return await database.fetch(
        "SELECT repo_name, stars FROM repositories WHERE repo_name = ANY(%s)",
        list(names),
        in_seconds(seconds),
    )


def backends(rows: Rows) -> set[int]:
    """Return the process ids of the service's connections to this database."""
    rows.execute("SELECT pg_stat_clear_snapshot()")
    found = rows.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'github-repository-tracker'"
    )
    return {pid for (pid,) in found}


def terminate_all(rows: Rows) -> None:
    for pid in backends(rows):
        rows.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


async def until_blocked(rows: Rows, count: int) -> None:
    """Wait until so many connections wait for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    def are_blocked() -> bool:
        rows.execute("SELECT pg_stat_clear_snapshot()")
        return rows.execute(waiting).fetchone() == (count,)

    await until(are_blocked, f"there are not {count} that wait for a lock")


async def until_no_backend_is_left(rows: Rows) -> None:
    await until(lambda: not backends(rows), "a connection of the service is left")


@contextmanager
def locked(rows: Rows) -> Iterator[None]:
    with rows.transaction():
        rows.execute("LOCK TABLE repositories IN ACCESS EXCLUSIVE MODE")
        yield


class Wire:
    """A TCP proxy before PostgreSQL that can stop forwarding without closing a connection."""

    def __init__(self, url: str) -> None:
        self.parameters = connection_parameters(url)
        self.url = ""
        self._open = asyncio.Event()
        self._open.set()
        self._ways: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    def freeze(self) -> None:
        """Forward nothing from now on."""
        self._open.clear()

    def thaw(self) -> None:
        """Forward again, what was kept back too."""
        self._open.set()

    def refuse(self) -> None:
        """Take no more connections."""
        self._server.close()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["Wire"]:
        """Yield a proxy before the database of this URL; its `url` leads through it."""
        wire = cls(url)
        server = wire._server = await asyncio.start_server(wire._connected, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        wire.url = url_of({**wire.parameters, "host": "127.0.0.1", "port": port})
        try:
            yield wire
        finally:
            server.close()
            for way in wire._ways:
                way.cancel()
            await asyncio.gather(*wire._ways, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._connect()
        for source, target in ((reader, back), (there, writer)):
            way = asyncio.create_task(self._carry(source, target))
            self._ways.add(way)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self.parameters["host"]), self.parameters.get("port", 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()
            with suppress(ConnectionError):
                await target.wait_closed()


def url_of_both(wires: tuple[Wire, Wire], target_session_attrs: str = "read-write") -> str:
    """Return a URL that names both as hosts."""
    hosts = {
        "host": "127.0.0.1,127.0.0.1",
        "port": ",".join(str(connection_parameters(wire.url)["port"]) for wire in wires),
        "target_session_attrs": target_session_attrs,
    }
    return url_of({**wires[0].parameters, **hosts})
