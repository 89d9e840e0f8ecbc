"""Opens connections to PostgreSQL, and knows the errors that mean that it is unavailable."""

from typing import Any

import psycopg

from app.postgres.url import connection_parameters

Connection = psycopg.AsyncConnection[Any]

# In libpq's names; a URL may say otherwise.
_DEFAULTS: dict[str, Any] = {
    "application_name": "github-repository-tracker",
    # For each host of the URL, so that a frozen first host leaves time for the second.
    "connect_timeout": 2,
    # A lost machine is noticed after 16 s without use, or 5 s after something was sent to it.
    "keepalives_idle": 10,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}

# psycopg reads times in no other format. Databases and users may have settings of their own.
# (A pooler that pools transactions carries these two to whichever backend it uses.)
_SETTINGS = """
    SELECT pg_backend_pid(), set_config('DateStyle', 'ISO', false),
        set_config('TimeZone', 'UTC', false)
"""

# Raised by a PostgreSQL that is away, starting, stopping, full, frozen or no longer the leader.
UNAVAILABLE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, OSError)


def cause(error: BaseException) -> BaseException:
    """Return the driver's error, which SQLAlchemy may have wrapped."""
    wrapped: BaseException = getattr(error, "orig", error)
    return wrapped


def reason(error: BaseException) -> str:
    """Return the first line of the driver's message, without SQL and parameters."""
    lines = str(cause(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def parameters(url: str) -> dict[str, Any]:
    """Return libpq's parameters for a PostgreSQL URL: what it says, and what it leaves open."""
    # psycopg would return bytes instead of text if the encoding were that of some databases.
    return {**_DEFAULTS, **connection_parameters(url), "client_encoding": "UTF8"}


class Connector:
    """Opens connections, first to the host that led last: one that is frozen costs two seconds."""

    def __init__(self, url: str) -> None:
        self._parameters = parameters(url)
        self._hosts = _possible_leaders(self._parameters)

    async def open(self, *, has_one_plan: bool = False) -> Connection:
        """Return a connection in autocommit mode that prepares its statements, if it can.

        With `has_one_plan`, a prepared statement is planned once for all of its parameters.
        Raises psycopg.OperationalError.
        """
        connection = await psycopg.AsyncConnection.connect(
            **self._parameters | self._ordered_hosts(), autocommit=True, prepare_threshold=None
        )
        try:
            settings = await (await connection.execute(_SETTINGS)).fetchone()
            # A pooler invents the process id that it gives to a client. Behind one that pools
            # transactions, the next statement may reach a backend that has not prepared it.
            if settings and settings[0] == connection.info.backend_pid:
                connection.prepare_threshold = 1
                if has_one_plan:
                    await connection.execute("SET plan_cache_mode = force_generic_plan")
        except BaseException:
            await connection.close()
            raise
        self._move_to_front(connection.info.host, str(connection.info.port))
        return connection

    def _ordered_hosts(self) -> dict[str, str]:
        if not self._hosts:
            return {}
        names, ports = zip(*self._hosts, strict=True)
        return {"host": ",".join(names), "port": ",".join(ports)}

    def _move_to_front(self, name: str, port: str) -> None:
        # The URL may leave the port open.
        self._hosts.sort(key=lambda host: host not in {(name, port), (name, "")})


def _possible_leaders(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the hosts and ports of a URL that asks for the one of several that takes writes.

    In any other URL the order of the hosts is the user's choice.
    """
    names, ports = (str(parameters.get(name, "")).split(",") for name in ("host", "port"))
    asks_for_leader = parameters.get("target_session_attrs") in {"read-write", "primary"}
    if len(names) == 1 or not asks_for_leader or "hostaddr" in parameters:
        return []
    return list(zip(names, ports if len(ports) > 1 else ports * len(names), strict=True))
