"""DATABASE_URL, in every spelling that people have."""

import re
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

# What libpq takes in a URL without a word, and refuses only when it connects.
_ANYTHING = re.compile(r".*", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?"
_PARAMETERS = {
    "host": re.compile(r"[A-Za-z0-9._:,%-]*|/[^,]*(,/[^,]*)*|@.*"),
    "port": re.compile(rf"{_PORT}(,{_PORT})*"),
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

    The URL may name a SQLAlchemy driver (`postgresql+asyncpg://`); it does not matter which.
    Raises ValueError with a sentence that does not repeat the URL, which holds a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError(
            "give a URL such as postgresql://user:password@host:5432/database "
            "(only PostgreSQL will do)"
        )
    try:
        parameters = dict(conninfo_to_dict(f"postgresql://{rest}"))
    except ProgrammingError:
        parameters = None
    if parameters is None or not all(
        _PARAMETERS.get(name, _ANYTHING).fullmatch(str(value)) for name, value in parameters.items()
    ):
        raise ValueError(
            "this is no PostgreSQL URL; it looks like postgresql://user:password@host:5432/database,"
            " and characters such as @ : / ? # % in a password are percent-encoded"
        )
    return parameters
