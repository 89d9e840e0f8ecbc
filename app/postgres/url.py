"""DATABASE_URL, in every spelling that people use."""

import re
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

# Values that libpq accepts in a URL and refuses only when it connects.
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_PATTERNS = {
    "host": re.compile(r"[A-Za-z0-9._:,%-]*|/[^,]*(,/[^,]*)*|@.*"),
    "sslmode": re.compile("disable|allow|prefer|require|verify-ca|verify-full"),
    "target_session_attrs": re.compile("any|read-write|read-only|primary|standby|prefer-standby"),
    "connect_timeout": _NUMBER,
    "keepalives": _NUMBER,
    "keepalives_idle": _NUMBER,
    "keepalives_interval": _NUMBER,
    "keepalives_count": _NUMBER,
    "tcp_user_timeout": _NUMBER,
}


def connection_parameters(url: str) -> dict[str, Any]:
    """Return libpq's parameters for a PostgreSQL URL, in any spelling that libpq knows.

    The URL may name a SQLAlchemy driver (`postgresql+asyncpg://`), which is ignored.
    Raises ValueError with a sentence that does not repeat the URL, which holds a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError(
            "give a URL such as postgresql://user:password@host:5432/database "
            "(only PostgreSQL is supported)"
        )
    try:
        parameters = dict(conninfo_to_dict(f"postgresql://{rest}"))
    except ProgrammingError:
        parameters = None
    if parameters is None or not _is_valid(parameters):
        raise ValueError(
            "this is not a PostgreSQL URL; it looks like "
            "postgresql://user:password@host:5432/database, and characters such as @ : / ? # % "
            "in a password are percent-encoded"
        )
    return parameters


def _is_valid(parameters: dict[str, Any]) -> bool:
    return _are_ports(str(parameters.get("port", ""))) and all(
        pattern.fullmatch(str(parameters[name]))
        for name, pattern in _PATTERNS.items()
        if name in parameters
    )


def _are_ports(ports: str) -> bool:
    """Return whether these are ports, one for each host; an empty one is the default."""
    return all(
        not port or (_PORT.fullmatch(port) and 0 < int(port) <= 65535) for port in ports.split(",")
    )
