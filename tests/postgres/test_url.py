"""DATABASE_URL: what each spelling means, and what is refused."""

from typing import Any

import pytest

from app.postgres.url import connection_parameters

# A URL, and the parameters that libpq is given.
URLS: dict[str, tuple[str, dict[str, Any]]] = {
    "the brief's": (
        "postgresql://postgres:postgres@db:5432/githubdb",
        {
            "user": "postgres",
            "password": "postgres",
            "host": "db",
            "port": "5432",
            "dbname": "githubdb",
        },
    ),
    "postgres": (
        "postgres://u:p@h:5432/d",
        {"user": "u", "password": "p", "host": "h", "port": "5432", "dbname": "d"},
    ),
    "asyncpg": (
        "postgresql+asyncpg://u:p@h/d",
        {"user": "u", "password": "p", "host": "h", "dbname": "d"},
    ),
    "psycopg2": ("postgresql+psycopg2://u@h/d", {"user": "u", "host": "h", "dbname": "d"}),
    "postgres with a driver": (
        "postgres+psycopg://u@h/d",
        {"user": "u", "host": "h", "dbname": "d"},
    ),
    "white space around": ("  postgresql://u@h/d\n", {"user": "u", "host": "h", "dbname": "d"}),
    "no user": ("postgresql://h/d", {"host": "h", "dbname": "d"}),
    "nothing": ("postgresql://", {}),
    "several hosts": (
        "postgresql://u:p@one:5432,two:5433,three/d?target_session_attrs=read-write",
        {
            "user": "u",
            "password": "p",
            "host": "one,two,three",
            "port": "5432,5433,",
            "dbname": "d",
            "target_session_attrs": "read-write",
        },
    ),
    "several drivers' hosts": (
        "postgresql+asyncpg://u@one,two/d",
        {"user": "u", "host": "one,two", "port": ",", "dbname": "d"},
    ),
    "sslmode": (
        "postgresql://u@h/d?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
        {
            "user": "u",
            "host": "h",
            "dbname": "d",
            "sslmode": "verify-full",
            "sslrootcert": "/etc/ca.pem",
        },
    ),
    "ssl=true": ("postgresql://h/d?ssl=true", {"host": "h", "dbname": "d", "sslmode": "require"}),
    "Unix socket": (
        "postgresql://u@/d?host=/var/run/postgresql",
        {"user": "u", "dbname": "d", "host": "/var/run/postgresql"},
    ),
    "Unix socket as host": (
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/d",
        {"user": "u", "dbname": "d", "host": "/var/run/postgresql"},
    ),
    "IPv6": (
        "postgresql://u@[::1]:5433/d",
        {"user": "u", "host": "::1", "port": "5433", "dbname": "d"},
    ),
    "encoded password": (
        "postgresql://u:%40%3A%2F%3F%23%25%20%C3%A4@h/d",
        {"user": "u", "password": "@:/?#% ä", "host": "h", "dbname": "d"},
    ),
    "password with marks": (
        "postgresql://u:a#b+c&d=e!@h/d",
        {"user": "u", "password": "a#b+c&d=e!", "host": "h", "dbname": "d"},
    ),
    "encoded user and database": (
        "postgresql://first%40last@h/my%20db",
        {"user": "first@last", "host": "h", "dbname": "my db"},
    ),
    "other parameters": (
        "postgresql://h/d?connect_timeout=10&application_name=mine",
        {"host": "h", "dbname": "d", "connect_timeout": "10", "application_name": "mine"},
    ),
}


@pytest.mark.parametrize(("url", "parameters"), URLS.values(), ids=URLS)
def test_every_spelling_is_understood(url: str, parameters: dict[str, Any]) -> None:
    assert connection_parameters(url) == parameters
