"""The API's server: its address, its workers, and a sentence if it cannot start."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import uvicorn

from app import deadlines
from app.errors import StartError
from app.logs import configure_logging
from app.serving.listeners import bind, in_url, taken
from app.serving.process import STDOUT, allow_many_connections, open_standard_streams
from app.serving.protocol import UpgradeIgnoringProtocol
from app.serving.workers import run_workers
from app.settings import Settings

# The exit status of a worker process that finds its port taken.
PORT_TAKEN = 4
# Seconds between the last connection and the end, in which requests are still taken.
LAST_REQUESTS = 0.2


def main() -> None:
    """Serve until stopped; end with a sentence if the service cannot start."""
    open_standard_streams()
    try:
        settings = Settings.load()
        status = _serve(settings, bind(settings.host, settings.port))
    except StartError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
    else:
        sys.exit(status)


def _serve(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    allow_many_connections()
    configure_logging(settings.log_level, settings.log_format)
    port = listeners[0].getsockname()[1]
    _print(_banner(settings, port))
    if settings.workers == 1:
        _run(settings, listeners)
        return 0
    status = run_workers(settings.workers, partial(_work, settings), listeners)
    if status == PORT_TAKEN:
        raise taken(settings.host, port)
    return status


def _work(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    """Serve in a worker process."""
    configure_logging(settings.log_level, settings.log_format)
    try:
        _run(settings, listeners)
    except StartError:
        sys.exit(PORT_TAKEN)


def _run(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    config = uvicorn.Config(
        "app.main:app",
        host=settings.host,
        port=listeners[0].getsockname()[1],
        http=UpgradeIgnoringProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_graceful_shutdown=deadlines.SHUTDOWN,
    )
    _Server(config).run(list(listeners))


class _Server(uvicorn.Server):
    """uvicorn's server; it fails if it cannot listen, and serves all who were accepted."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; raise StartError if another program does."""
        await super().startup(sockets)
        host, port = self.config.host, self.config.port
        # Of two sockets bound to one address only one can listen; uvloop closes the other silently.
        if any(listener.fileno() == -1 for listener in sockets or []):
            await self.lifespan.shutdown()
            raise taken(host, port)
        logging.getLogger("uvicorn.error").info(
            "Uvicorn running on http://%s (Press CTRL+C to quit)", in_url(host, port)
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer those who are connected, and stop."""
        waiting = [connection for listener in sockets or [] for connection in _waiting(listener)]
        for server in self.servers:
            server.close()
        protocol = partial(
            UpgradeIgnoringProtocol,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        # Otherwise uvicorn closes a connection whose first request is on its way.
        await asyncio.sleep(LAST_REQUESTS)
        await super().shutdown(sockets)


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that the system has accepted, and would reset with the listener."""
    with suppress(BlockingIOError):
        while True:
            yield listener.accept()[0]


def _print(text: str) -> None:
    """Print; the service does not depend on it."""
    with suppress(OSError):
        # Not print(): what cannot be written would fail again when Python ends.
        os.write(STDOUT, os.fsencode(f"{text}\n"))


def _banner(settings: Settings, port: int) -> str:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{in_url(host, port)}"
    if settings.database_url is None:
        folder = os.fsencode(settings.data_dir).decode(errors="replace")
        data = f"{folder} (embedded PostgreSQL)"
    else:
        data = "the PostgreSQL of DATABASE_URL"
    return f"API         {url}/repos\nSwagger UI  {url}/docs\nData        {data}"
