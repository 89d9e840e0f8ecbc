"""The command line: `python -m app` serves the API."""

import sys

import uvicorn

from app.errors import StartError
from app.settings import Settings

# Seconds that requests under way have to end after SIGTERM; each of them ends within 5.5.
GRACE = 10


def main() -> None:
    """Serve until stopped; end with a sentence where a setting makes no sense."""
    try:
        settings = Settings.load()
    except StartError as error:
        sys.exit(str(error))
    print(_banner(settings), flush=True)
    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )


def _banner(settings: Settings) -> str:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL)"
    else:
        data = "the PostgreSQL of DATABASE_URL"
    return f"API         {address}/repos\nSwagger UI  {address}/docs\nData        {data}"
