"""DATABASE_URL, and libpq's environment variables, in every spelling that people use."""

import ipaddress
import os
import re
from collections.abc import Callable
from typing import Any

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

_NOT_A_URL = (
    "this is not a PostgreSQL URL; it looks like postgresql://user:password@host:5432/database, "
    "and characters such as @ : / ? # % in a name or password are percent-encoded"
)
_FOREIGN_PARAMETER = (
    "it has a parameter that PostgreSQL does not know; remove it (in a value, characters such as "
    "& are percent-encoded)"
)
_SCHEMA = "remove it, or write options=-csearch_path%3DNAME for another schema than public"
_REMOVE = "remove it, PostgreSQL does not know it"
# Parameters of other programs. Any other name may be a part of a password and is not repeated.
_FOREIGN = {
    "schema": _SCHEMA,
    "currentSchema": _SCHEMA,
    "search_path": _SCHEMA,
    "pgbouncer": "remove it, this service notices a pooler by itself",
    **dict.fromkeys(
        (
            "charset",
            "connection_limit",
            "max_overflow",
            "pool_size",
            "pool_timeout",
            "prepared_statement_cache_size",
            "prepared_statements",
            "prepareThreshold",
            "socket_timeout",
            "sslaccept",
            "statement_cache_size",
            "timezone",
            "uselibpqcompat",
        ),
        _REMOVE,
    ),
}

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_PORT = re.compile(r"[0-9]{1,5}")
_SSL_MODES = "disable, allow, prefer, require, verify-ca or verify-full"


def _is_host(host: str) -> bool:
    """Return whether this is a host; a socket begins with `/`, an abstract one with `@`."""
    return not host or host[0] in "/@" or bool(_HOST_NAME.fullmatch(host)) or _is_address(host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(port: str) -> bool:
    return not port or (bool(_PORT.fullmatch(port)) and 0 < int(port) <= 65535)


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text))


def _each(is_valid: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda values: all(is_valid(value) for value in values.split(","))


def _one_of(allowed: str) -> tuple[Callable[[str], bool], str]:
    values = allowed.replace(" or ", ", ").split(", ")
    return values.__contains__, allowed


# What libpq refuses only when it connects, and then repeats: a test of the value, and what to give.
_VALUES: dict[str, tuple[Callable[[str], bool], str]] = {
    "host": (_each(_is_host), "host names, addresses or folders of a Unix socket"),
    "hostaddr": (_each(lambda host: not host or _is_address(host)), "IP addresses"),
    "port": (_each(_is_port), "a whole number from 1 to 65535, or one for each host"),
    "sslmode": _one_of(_SSL_MODES),
    "channel_binding": _one_of("disable, prefer or require"),
    "gssencmode": _one_of("disable, prefer or require"),
    "sslnegotiation": _one_of("postgres or direct"),
    "sslcertmode": _one_of("disable, allow or require"),
    "load_balance_hosts": _one_of("disable or random"),
    "target_session_attrs": _one_of(
        "any, read-write, read-only, primary, standby or prefer-standby"
    ),
    **dict.fromkeys(
        (
            "connect_timeout",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
        ),
        (_is_number, "a whole number"),
    ),
}


def connection_parameters(url: str) -> dict[str, Any]:
    """Return libpq's parameters for a PostgreSQL URL, in any spelling that libpq knows.

    The URL may name a SQLAlchemy driver (`postgresql+asyncpg://`), which is ignored, and say
    `ssl=MODE` for `sslmode=MODE`. Raises ValueError with a sentence that repeats nothing of the
    URL but the names of known parameters.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError(
            "give a URL such as postgresql://user:password@host:5432/database "
            "(only PostgreSQL is supported)"
        )
    user, at, rest = rest.rpartition("@")
    # libpq would take a part of such a password for a host or a database, and write it to the log.
    if "@" in user or "/" in user:
        raise ValueError(_NOT_A_URL)
    address, _, query = rest.partition("?")
    try:
        found = conninfo_to_dict(f"postgresql://{user}{at}{address}?{_known_to_libpq(query)}")
    except ProgrammingError:
        raise ValueError(_NOT_A_URL) from None
    parameters = {name: str(value) for name, value in found.items()}
    for name, value in parameters.items():
        if allowed := _allowed_instead(name, value):
            raise ValueError(f"the parameter {name} has to be {allowed}")
    if not _has_port_for_each_host(parameters):
        raise ValueError("give one port, or one for each host")
    return parameters


def invalid_variables(url: str) -> list[str]:
    """Return a sentence for each invalid variable of libpq that counts beside this URL."""
    given = connection_parameters(url)
    sentences = []
    for option in pq.Conninfo.get_defaults():
        name, variable = option.keyword.decode(), (option.envvar or b"").decode()
        value = os.environ.get(variable)
        if name not in given and value is not None and (allowed := _allowed_instead(name, value)):
            sentences.append(f"{variable}: give {allowed}, or unset it")
    return sentences


def _known_to_libpq(query: str) -> str:
    """Return the parameters with `ssl` as `sslmode`; raises ValueError for those of others."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parameters = []
    for parameter in filter(None, query.split("&")):
        name, equals, value = parameter.partition("=")
        if name == "ssl":
            name, value = "sslmode", {"true": "require", "false": "disable"}.get(value, value)
        if name in _FOREIGN:
            raise ValueError(f"the parameter {name} is of another program; {_FOREIGN[name]}")
        if name not in known:
            raise ValueError(_FOREIGN_PARAMETER)
        parameters.append(f"{name}{equals}{value}")
    return "&".join(parameters)


def _allowed_instead(name: str, value: str) -> str | None:
    """Return what the parameter may be if it is not valid, else None."""
    is_valid, allowed = _VALUES.get(name, (lambda _: True, ""))
    if is_valid(value):
        return None
    # node-postgres calls it so.
    return "require instead of no-verify" if value == "no-verify" else allowed


def _has_port_for_each_host(parameters: dict[str, str]) -> bool:
    hosts = parameters.get("hostaddr") or parameters.get("host", "")
    ports = parameters.get("port", "")
    return ports.count(",") in {0, hosts.count(",")}
