"""Brings the schema up to date when a program starts."""

import asyncio
import re
import time

import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app import PROJECT_DIR
from app.errors import StartError
from app.postgres.connections import UNAVAILABLE, cause, reason

log = structlog.get_logger(__name__)

# Seconds allowed for a PostgreSQL that is starting.
PATIENCE = 30.0

# Waiting does not help against these errors. libpq gives no SQLSTATE when a connection is refused,
# so they are known by their words; a server that speaks another language is asked until the end.
HOPELESS = re.compile(
    r"password authentication failed|no password supplied|does not exist|no pg_hba.conf entry"
    r"|not permitted to log in|permission denied|unrecognized configuration parameter"
    r"|invalid value for parameter|definition of service .* not found|service file .* not found"
    r"|failed to resolve host .*(Name or service|nodename nor servname)|path .* is too long"
    r"|does not support SSL|certificate|private key|authentication method|channel binding"
    r"|invalid response to SSL negotiation|expected authentication request"
)

# Any number that no other program uses on the same database.
MIGRATION_LOCK = 7_291_650_814


async def migrate(engine: AsyncEngine, *, patience: float = PATIENCE) -> None:
    """Bring the schema up to date; `patience` is in seconds.

    Any number of programs may do so at once. Raises StartError.
    """
    patience_ends = time.monotonic() + patience
    told = ""
    while True:
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade)
                return
        except CommandError as error:
            raise StartError(
                f"The database's schema is not one that this version knows: {error}."
            ) from error
        except (DBAPIError, OSError) as error:
            if not isinstance(cause(error), UNAVAILABLE):
                raise StartError(
                    f"The database's schema cannot be brought up to date: {reason(error)}."
                ) from error
            if HOPELESS.search(str(error)) or time.monotonic() > patience_ends:
                raise StartError(
                    f"PostgreSQL cannot be used: {reason(error)}. Check DATABASE_URL."
                ) from error
            if reason(error) != told:
                told = reason(error)
                log.warning("waiting for PostgreSQL", reason=told)
            await asyncio.sleep(0.5)


def _upgrade(connection: Connection) -> None:
    # Limits that the database or the user has are meant for everyday statements.
    for limit in ("statement_timeout", "lock_timeout"):
        connection.execute(select(func.set_config(limit, "0", True)))  # noqa: FBT003 - local
    # Locked before Alembic begins: its modules keep state that two migrations would share.
    connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    config = Config(toml_file=PROJECT_DIR / "pyproject.toml")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
