"""DATABASE_URL: what each spelling means, and what is refused."""

from itertools import product
from typing import Any

import pytest

from app.postgres.url import connection_parameters, invalid_variables

SECRET = "hunter2"  # noqa: S105

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
    "ssl=require": (
        "postgresql://h/d?ssl=require",
        {"host": "h", "dbname": "d", "sslmode": "require"},
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
    "abstract Unix socket": ("postgresql:///d?host=%40name", {"dbname": "d", "host": "@name"}),
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


def refusal(url: str) -> str:
    with pytest.raises(ValueError, match=" ") as raised:
        connection_parameters(url)
    return str(raised.value)


# What was written after the URL, and what the sentence names and advises.
PARAMETERS = {
    "pgbouncer=true&connection_limit=1": ("pgbouncer", "remove it"),
    "connection_limit=1": ("connection_limit", "remove it"),
    "schema=public": ("schema", "options=-csearch_path%3D"),
    "ssl=no-verify": ("sslmode", "require"),
    "ssl=": ("sslmode", "disable, allow, prefer, require, verify-ca or verify-full"),
    "sslmode=no-verify": ("sslmode", "require"),
    "sslmode=": ("sslmode", "disable, allow, prefer, require, verify-ca or verify-full"),
    "channel_binding=no": ("channel_binding", "disable, prefer or require"),
    "connect_timeout=5s": ("connect_timeout", "a whole number"),
    "target_session_attrs=leader": ("target_session_attrs", "read-write"),
}


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_parameter_that_is_refused_is_named_with_what_to_write_instead(parameter: str) -> None:
    name, advice = PARAMETERS[parameter]
    sentence = refusal(f"postgresql://u:p@h/d?{parameter}")
    assert f"the parameter {name} " in sentence
    assert advice in sentence


def test_a_parameter_that_nobody_knows_is_not_repeated() -> None:
    """It may be the rest of a password with a `&`."""
    assert SECRET not in refusal(f"postgresql://h/d?user=u&password=a&{SECRET}=b")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h:0/d",
        "postgresql://h:65536/d",
        "postgresql://h/d?port=1,2",
        "postgresql://a..b/d",
        f"postgresql://{'a' * 64}/d",
        "postgresql://h_%C3%A9/d",
        "postgresql://[::1/d",
        "postgresql://[::x]/d",
        "postgresql://u:p@x@h/d",
        "postgresql://u:p/x@h/d",
        "postgresql://u:1/x@h/d",
    ],
)
def test_what_cannot_be_a_host_or_a_port_is_refused(url: str) -> None:
    assert refusal(url)


PIECES = [
    "",
    "@",
    "@@",
    "/",
    ":",
    "?",
    "#",
    "%",
    "%40",
    "&",
    "=",
    ",",
    " ",
    "[",
    "]",
    "\\",
    "1",
    "1/",
]


def test_a_password_is_taken_whole_or_refused_without_repeating_it() -> None:
    """No part of it is ever taken for a host, a port, a database or a parameter."""
    for before, between, after in product(PIECES, repeat=3):
        url = f"postgresql://u:{before}{between}{SECRET}{after}@127.0.0.1:1/d?sslmode=disable"
        assert places_of_the_secret(url) in ([], ["password"]), url


def places_of_the_secret(url: str) -> list[str]:
    """Return the parameters that the secret is in, or the sentence that it is in."""
    try:
        found = connection_parameters(url)
    except ValueError as error:
        found = {str(error): str(error)}
    return [name for name, value in found.items() if SECRET in value]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGSSLMODE", "bogus"),
        ("PGPORT", "x"),
        ("PGCONNECT_TIMEOUT", "x"),
        ("PGHOSTADDR", "localhost"),
        ("PGCHANNELBINDING", "yes"),
        ("PGTARGETSESSIONATTRS", "leader"),
    ],
)
def test_an_invalid_variable_of_libpq_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    (sentence,) = invalid_variables("postgresql:///d")
    assert sentence.startswith(f"{variable}: give ")


def test_a_variable_of_libpq_does_not_count_if_the_url_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPORT", "x")
    assert invalid_variables("postgresql://h:5432/d") == []
