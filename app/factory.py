"""Opens what the programs need from the settings, and closes it in reverse: the only wiring."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from anyio import to_thread

from app import __version__
from app.database import Database
from app.embedded import EmbeddedPostgresError, joined
from app.environment import proxy_for
from app.errors import StartError
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
            url = await stack.enter_async_context(_embedded(settings.data_dir))
        database = Database(url)
        stack.push_async_callback(database.close)
        await database.migrate()
        yield database


@asynccontextmanager
async def open_github(settings: Settings) -> AsyncIterator[GitHub]:
    """Yield a client of the GitHub of the settings, through the proxy that it needs, if any."""
    url, token = settings.github_api_url, settings.github_token
    secret = None if token is None else token.get_secret_value()
    github = GitHub(url, secret, proxy=proxy_for(url))
    try:
        yield github
    finally:
        await github.close()


@asynccontextmanager
async def open_tracker(settings: Settings) -> AsyncIterator[Tracker]:
    """Yield a tracker on the database and the GitHub of the settings; raise StartError."""
    async with (
        open_database(settings) as database,
        open_github(settings) as github,
    ):
        tracker = Tracker(database, github)
        try:
            log.info("ready", version=__version__)
            yield tracker
            log.info("stopping")
        finally:
            await tracker.close()


@asynccontextmanager
async def _embedded(data_dir: Path) -> AsyncIterator[str]:
    """Yield the URL of the embedded PostgreSQL; threads wait for its locks and processes."""
    share = joined(data_dir)
    try:
        url = await to_thread.run_sync(share.__enter__)
    except EmbeddedPostgresError as error:
        raise StartError(str(error)) from error
    try:
        yield url
    finally:
        await to_thread.run_sync(share.__exit__, None, None, None)
