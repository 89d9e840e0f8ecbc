"""The PostgreSQL of the benchmark: databases with so many rows, kept from run to run."""

import asyncio
import sys
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from lab.database import migrate
from lab.processes import stat

# Repositories of the benchmark have numbers that neither GitHub nor its stand-in gives.
FIRST_GITHUB_ID = 2**60

# A number makes the id, so that pgbench, which knows numbers only, can ask for any row.
ROW_ID = "md5({})::uuid"

# Indexes and constraints are taken off and put back: 10,000,000 rows go in without them, and
# their definitions are read from the database, so that they are those of the migrations.
_CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace
      AND conrelid::regclass::text IN ('repositories', 'github_links')
    ORDER BY contype = 'f' DESC, conname
"""
_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relname IN ('repositories', 'github_links')
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_REPOSITORIES = f"""
    INSERT INTO repositories (id, owner, repo_name, stars)
    SELECT {ROW_ID.format("n::text")}, 'owner-' || mod(n, 250000), 'repository-' || n,
        mod(n, 100000)
    FROM generate_series(1, %s) AS n
"""  # noqa: S608 - constants
_LINKS = f"""
    INSERT INTO github_links (repository_id, github_id, etag, checked_at)
    SELECT {ROW_ID.format("n::text")}, {FIRST_GITHUB_ID} + n,
        'W/"' || md5('etag' || n) || '"', now()
    FROM generate_series(1, %s) AS n
"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Table:
    """A database of the benchmark, filled."""

    url: str
    rows: int

    def ids(self, count: int) -> list[UUID]:
        """Return ids of rows that exist, picked at random."""
        numbers = Random(self.rows).sample(range(1, self.rows + 1), min(count, self.rows))  # noqa: S311
        select = f"SELECT {ROW_ID.format('n::text')} FROM unnest(%s::bigint[]) AS n"  # noqa: S608
        with psycopg.connect(self.url) as connection:
            return [row[0] for row in connection.execute(select, (numbers,))]

    def version(self) -> str:
        """Return the version of PostgreSQL."""
        with psycopg.connect(self.url) as connection:
            return connection.execute("SHOW server_version").fetchone()[0]  # type: ignore[index,no-any-return]

    def record(self, known: UUID) -> dict[str, str | int]:
        """Return a row as every server is to send it."""
        select = "SELECT id::text, owner, repo_name, stars FROM repositories WHERE id = %s"
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(select, (known,)).fetchone() or {}

    def remove_others(self) -> None:
        """Delete what the benchmark's POSTs have made, and tidy up."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "DELETE FROM repositories USING github_links"
                " WHERE repository_id = id AND github_id <= %s",
                (FIRST_GITHUB_ID,),
            )
            _settle(connection)


def filled(server_url: str, name: str, rows: int) -> Table:
    """Return the database with this name, made and filled now unless an earlier run did."""
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server_url, autocommit=True) as server:
        known = server.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    asyncio.run(migrate(url))
    table = Table(url, rows)
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM github_links WHERE github_id > %s", (FIRST_GITHUB_ID,)
        ).fetchone()
        if found != (rows,):
            sys.stdout.write(f"Filling the database {name} with {rows:,} repositories …\n")
            sys.stdout.flush()
            _fill(connection, rows)
    table.remove_others()
    return table


def postmaster(url: str) -> int:
    """Return the process id of the PostgreSQL behind a URL, which runs on this machine."""
    with psycopg.connect(url) as connection:
        backend = connection.info.backend_pid
        return int(stat(backend)[1])


def _fill(connection: psycopg.Connection, rows: int) -> None:
    connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
    connection.execute("SET LOCAL synchronous_commit = off")
    connection.execute("TRUNCATE repositories, github_links")
    constraints = connection.execute(_CONSTRAINTS).fetchall()
    indexes = connection.execute(_INDEXES).fetchall()
    for table, constraint, _ in constraints:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    for index, _ in indexes:
        connection.execute(f"DROP INDEX {index}")
    connection.execute(_REPOSITORIES, (rows,))
    connection.execute(_LINKS, (rows,))
    for _, definition in indexes:
        connection.execute(definition)
    for table, constraint, definition in reversed(constraints):
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}")


def _settle(connection: psycopg.Connection) -> None:
    """Do now what autovacuum and the checkpointer would do while something is measured.

    And have in PostgreSQL's cache what is there after a while of use.
    """
    connection.execute("VACUUM (ANALYZE) repositories")
    connection.execute("VACUUM (ANALYZE) github_links")
    connection.execute("CHECKPOINT")
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    connection.execute("SELECT pg_prewarm('repositories'), pg_prewarm('pk_repositories')")
