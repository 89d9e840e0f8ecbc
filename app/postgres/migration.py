"""The schema, brought up to date when a service starts."""

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
from app.postgres.connections import UNAVAILABLE, reason

log = structlog.get_logger(__name__)

START_PATIENCE = 30.0

# Waiting does not mend these. A connection that is refused has no SQLSTATE in libpq, so the words
# have to do; where the server speaks another language it is asked until patience ends.
HOPELESS = re.compile(
    r"password authentication failed|no password supplied|does not exist|no pg_hba.conf entry"
)

# Any number will do, as long as no other program uses it on the same database.
MIGRATION_LOCK = 7_291_650_814


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema up to date, waiting half a minute for a PostgreSQL that is starting.

    Any number of services may do so at once. Raises StartError.
    """
    patience_ends = time.monotonic() + START_PATIENCE
    while True:
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade)
                return
        except UNAVAILABLE as error:
            if HOPELESS.search(str(error)) or time.monotonic() > patience_ends:
                raise StartError(
                    f"PostgreSQL cannot be used: {reason(error)}. Check DATABASE_URL."
                ) from error
            log.warning("waiting for PostgreSQL", reason=reason(error))
            await asyncio.sleep(0.5)
        except CommandError as error:
            raise StartError(
                f"The database's schema is not one that this version knows: {error}."
            ) from error
        except DBAPIError as error:
            raise StartError(
                f"The database's schema cannot be brought up to date: {reason(error)}."
            ) from error


def _upgrade(connection: Connection) -> None:
    # Before Alembic begins: what it keeps in its modules is not for two migrations at once.
    connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    config = Config(toml_file=PROJECT_DIR / "pyproject.toml")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
