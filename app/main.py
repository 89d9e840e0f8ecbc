"""The application: built from the settings, opened and closed by its lifespan."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from app import __version__, api
from app.errors import Problem, SettingsError
from app.factory import open_tracker
from app.logs import configure_logging
from app.services.tracker import Tracker
from app.serving.process import end_with_parent, freeze_imports_for_gc
from app.settings import Settings
from app.web.documentation import add_documentation
from app.web.middleware import RequestGuard
from app.web.problems import answer_http_exception, answer_problem


class State(TypedDict):
    """What the lifespan gives to each request."""

    tracker: Tracker


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; its lifespan opens what it needs. Raises SettingsError."""
    settings = settings or Settings.load()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        configure_logging(settings.log_level, settings.log_format)
        end_with_parent()
        freeze_imports_for_gc()
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
        # include_router() would wrap each route in another, which every request would pass first.
        routes=list(api.router.routes),
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,
        root_path=settings.root_path,
        telemetry={"tracing": False, "metrics": False},
    )
    add_documentation(app)
    app.add_middleware(RequestGuard, allowed_hosts=settings.allowed_hosts)
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http_exception)
    return app


def __getattr__(name: str) -> FastAPI:
    """Build `app` when a server asks for it, so that an import alone reads no settings."""
    if name == "app":
        try:
            return create_app()
        except SettingsError as error:
            sys.exit(str(error))  # uvicorn would print a traceback.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
