"""The application: built from the settings, opened and closed by its lifespan."""

import gc
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import parent_process
from typing import TypedDict

import structlog
from anyio import to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from app import __version__, api, openapi
from app.database import Database
from app.embedded import joined
from app.errors import Problem
from app.logs import configure_logging
from app.middleware import Edge
from app.problems import answer_problem
from app.services.github import GitHub
from app.services.tracker import Tracker
from app.settings import Settings

log = structlog.get_logger(__name__)


class State(TypedDict):
    """What the lifespan gives to each request."""

    tracker: Tracker


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; raises SettingsError. Nothing is opened before its lifespan starts."""
    settings = settings or Settings.load()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        configure_logging(settings.log_level, settings.log_format)
        _end_with_parent()
        async with open_tracker(settings) as tracker:
            yield {"tracker": tracker}

    app = FastAPI(
        title="GitHub Repository Tracker",
        version=__version__,
        summary="Tracks GitHub repositories: what GitHub says of them, kept in PostgreSQL.",
        description=(
            "Give it an owner and a name; it asks GitHub, keeps the answer, and serves it. "
            "Every error is a problem (RFC 9457) with a sentence that says what to do."
        ),
        openapi_tags=[{"name": "repositories", "description": "The records of repositories."}],
        license_info={"name": "MIT", "identifier": "MIT"},
        routes=list(api.router.routes),
        lifespan=lifespan,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
        telemetry={"tracing": False, "metrics": False},
    )
    app.add_middleware(Edge, allowed_hosts=settings.allowed_hosts)
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_problem)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def open_tracker(settings: Settings) -> AsyncIterator[Tracker]:
    """Yield a tracker on the database of the settings, embedded if they name none, up to date.

    Raises StartError.
    """
    async with AsyncExitStack() as stack:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        else:
            embedded = joined(settings.data_dir)
            url = await to_thread.run_sync(embedded.__enter__)
            stack.push(embedded.__exit__)
        database = Database(url)
        stack.push_async_callback(database.close)
        await database.migrate()
        github = GitHub.open(settings)
        stack.push_async_callback(github.close)
        tracker = Tracker(database, github)
        stack.push_async_callback(tracker.close)
        log.info("ready", version=__version__)
        yield tracker
        log.info("stopping")


def _end_with_parent() -> None:
    """Stop when the process that started this worker is killed, instead of holding its port."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _spare_the_garbage_collector() -> None:
    """Leave what lives as long as the process out of every collection, and collect less often.

    Requests make and drop thousands of objects a second, and each collection on their way would
    look through all that was imported; it is a quarter of a request's cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def __getattr__(name: str) -> FastAPI:
    """Build `app` when a server asks for it, so that an import alone reads no settings."""
    if name == "app":
        app = create_app()
        _spare_the_garbage_collector()
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
