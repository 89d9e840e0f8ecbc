"""The command line: `python -m app` serves the API."""

import sys
from contextlib import suppress

import uvicorn

from app.errors import StartError
from app.logs import configure_logging
from app.settings import Settings

# Seconds that requests under way have to end after SIGTERM; each of them ends within 5.5.
GRACE = 10
# Each connection is an open file.
MOST_FILES = 10_240


def main() -> None:
    """Serve until stopped; end with a sentence where a setting makes no sense."""
    try:
        settings = Settings.load()
    except StartError as error:
        sys.exit(str(error))
    _allow_many_connections()
    configure_logging(settings.log_level, settings.log_format)
    print(_banner(settings), flush=True)
    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="app.protocol:BoundedProtocol",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def _allow_many_connections() -> None:
    """Raise the soft limit on open files, 256 or 1,024 on most machines, as far as is allowed."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  (Windows has none.)

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _banner(settings: Settings) -> str:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL)"
    else:
        data = "the PostgreSQL of DATABASE_URL"
    return f"API         {address}/repos\nSwagger UI  {address}/docs\nData        {data}"
