"""Connections to PostgreSQL, or to whichever of several hosts leads, and what ails them."""

import asyncio
import time
from collections import deque
from typing import Any

import psycopg
from psycopg import generators, waiting
from psycopg.pq import ExecStatus
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.postgres.url import connection_parameters

# Seconds per host of the URL, so that a frozen first host still leaves time for the second.
CONNECT_TIMEOUT = 2

# Seconds without use after which a connection may lead to a host that froze meanwhile, and those
# in which it then has to answer: a frozen host does not even refuse.
IDLE = 1.0
IDLE_PATIENCE = 1.0

# What a PostgreSQL that is away, starting, stopping, full, frozen or no longer the leader raises.
UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    OSError,
)


def reason(error: BaseException) -> str:
    """Return the first line of what the driver says, without SQL and parameters."""
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that knows when it was opened and used."""

    generation = 0
    used = 0.0

    @property
    def is_idle(self) -> bool:
        """Tell whether it may lead to a host that is frozen by now."""
        return time.monotonic() - self.used > IDLE

    async def answers(self) -> bool:
        """Tell whether PostgreSQL is still there; raises TimeoutError if it says nothing."""
        # Not by `execute`, which would ask a frozen PostgreSQL for seconds to stop executing.
        async with asyncio.timeout(IDLE_PATIENCE):
            try:
                self.pgconn.send_query(b"")
                execution = generators.execute(self.pgconn)
                results = await waiting.wait_async(execution, self.pgconn.socket, IDLE)
            except psycopg.Error:
                return False
        return [result.status for result in results] == [ExecStatus.EMPTY_QUERY]


class Connector:
    """Opens connections, first to the host that led when it was last known.

    A connection belongs to the generation in which its opening began. Where one host fell silent,
    the whole generation is distrusted: what froze one connection froze those that lie idle too,
    and a host that thaws answers with what it knew before, until it learns that another one leads.
    """

    def __init__(self, url: str) -> None:
        self._parameters: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "github-repository-tracker",
            "keepalives_idle": 10,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **connection_parameters(url),
        }
        self._hosts = deque(_possible_leaders(self._parameters))
        self.generation = 0

    async def open(self) -> Connection:
        """Return a connection that prepares what it executes, where that is possible."""
        generation = self.generation
        connection = await Connection.connect(
            **self._parameters | self._ordered_hosts(), autocommit=True, prepare_threshold=None
        )
        try:
            backend = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            await connection.set_autocommit(False)
        except BaseException:
            await connection.close()
            raise
        # A pooler answers the connection with a process id of its own making. Behind one that
        # pools transactions, the next statement may reach a backend that has not prepared it.
        if backend == (connection.info.backend_pid,):
            connection.prepare_threshold = 1
        self._begin_with(connection.info.host, str(connection.info.port))
        connection.generation = generation
        connection.used = time.monotonic()
        return connection

    def distrust(self, generation: int) -> bool:
        """Begin a new generation, its host tried last, unless another one has begun already."""
        if generation != self.generation:
            return False
        self.generation += 1
        self._hosts.rotate(-1)
        return True

    def _ordered_hosts(self) -> dict[str, str]:
        if not self._hosts:
            return {}
        names, ports = zip(*self._hosts, strict=True)
        return {"host": ",".join(names), "port": ",".join(ports)}

    def _begin_with(self, host: str, port: str) -> None:
        """Try this host first from now on: each one that is frozen costs seconds."""
        if (host, port) in self._hosts:
            self._hosts.rotate(-self._hosts.index((host, port)))


def _possible_leaders(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the hosts and ports of a URL that asks for the one of several that takes writes.

    Where it does not ask for that, the order of its hosts is the user's, and stays.
    """
    names, ports = (str(parameters.get(name, "")).split(",") for name in ("host", "port"))
    asks_for_leader = parameters.get("target_session_attrs") in {"read-write", "primary"}
    if len(names) == 1 or not asks_for_leader or "hostaddr" in parameters:
        return []
    return list(zip(names, ports if len(ports) > 1 else ports * len(names), strict=True))
