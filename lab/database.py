"""Databases for tests and benchmarks: create, migrate, drop."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.database import Database
from app.embedded import joined
from app.postgres.migration import PATIENCE


def url_of(parameters: dict[str, Any]) -> str:
    """Return a URL with these connection parameters."""
    return f"postgresql://?{urlencode(parameters)}"


@contextmanager
def embedded(data: Path) -> Iterator[str]:
    """Run the embedded PostgreSQL in a folder and yield its URL; it has stopped at the end."""
    with joined(data) as url:
        yield url
    with (data / "supervisor.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # Granted when PostgreSQL has stopped.


@contextmanager
def new_database(server_url: str, options: LiteralString = "") -> Iterator[str]:
    """Create an empty database, with options of CREATE DATABASE; yield its URL, then drop it."""
    name = f"tracker_test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} {}")
        connection.execute(create.format(sql.Identifier(name), sql.SQL(options)))
        try:
            yield url_of({**conninfo_to_dict(server_url), "dbname": name})
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(drop)


async def migrate(url: str, *, patience: float = PATIENCE) -> None:
    """Bring a database up to date, waiting for so many seconds for a server that is starting."""
    database = Database(url)
    try:
        await database.migrate(patience=patience)
    finally:
        await database.close()
