"""Opens what the programs need from the settings, and closes it in reverse: the only wiring."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from anyio import to_thread

from app import __version__
from app.database import Database
from app.embedded import joined
from app.services.github.client import GitHub
from app.services.tracker import Tracker
from app.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Yield the database of the settings, the embedded one if they name none, up to date.

    Raises StartError.
    """
    async with AsyncExitStack() as stack:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        else:
            # Both ends of the share wait for a lock or a process, so they run in a thread.
            embedded = joined(settings.data_dir)
            url = await to_thread.run_sync(embedded.__enter__)
            stack.push(embedded.__exit__)
        database = Database(url)
        stack.push_async_callback(database.close)
        await database.migrate()
        yield database


@asynccontextmanager
async def open_tracker(settings: Settings) -> AsyncIterator[Tracker]:
    """Yield a tracker on the database and the GitHub of the settings; raises StartError."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        github = GitHub.open(settings)
        stack.push_async_callback(github.close)
        tracker = Tracker(database, github)
        stack.push_async_callback(tracker.close)
        log.info("ready", version=__version__)
        yield tracker
        log.info("stopping")
