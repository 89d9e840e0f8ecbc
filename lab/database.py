"""Databases for tests and benchmarks: create, migrate, drop."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.database import Database


def url_of(parameters: dict[str, Any]) -> str:
    """Return a URL with these connection parameters."""
    return f"postgresql://?{urlencode(parameters)}"


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Create an empty database and yield its URL; it is dropped at the end."""
    name = f"tracker_test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield url_of({**conninfo_to_dict(server_url), "dbname": name})
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(drop)


async def migrate(url: str) -> None:
    """Bring a database up to date."""
    database = Database(url)
    try:
        await database.migrate()
    finally:
        await database.close()
