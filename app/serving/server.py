"""The API's server: its address, its workers and what it says when it cannot start."""

import errno
import logging
import os
import socket
import sys
from contextlib import suppress

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app import deadlines
from app.errors import StartError
from app.logs import configure_logging
from app.settings import Settings

# Each connection is an open file.
MOST_FILES = 10_240


def main() -> None:
    """Serve until stopped; end with a sentence where that cannot be."""
    try:
        settings = Settings.load()
        _serve(settings, _bound(settings.host, settings.port))
    except StartError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


def _serve(settings: Settings, listener: socket.socket) -> None:
    _allow_many_connections()
    configure_logging(settings.log_level, settings.log_format)
    port = listener.getsockname()[1]
    print(_banner(settings, port), flush=True)
    config = uvicorn.Config(
        "app.main:app",
        host=settings.host,
        port=port,
        workers=settings.workers,
        http="app.serving.protocol:UpgradeIgnoringProtocol",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=deadlines.SHUTDOWN,
    )
    if settings.workers == 1:
        _Server(config).run([listener])
    else:
        _log_address(config)
        supervisor = Multiprocess(config, [listener])
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            sys.exit(STARTUP_FAILURE)


class _Server(uvicorn.Server):
    """A server on sockets that are bound; uvicorn's own does not say where that is."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        # Of two sockets bound at once only one can listen; uvloop drops the other without a word.
        if any(listener.fileno() == -1 for listener in sockets or []):
            await self.lifespan.shutdown()
            raise _taken(_address(self.config.host, self.config.port))
        _log_address(self.config)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket at this address, on which nobody listens yet; raises StartError."""
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Else a port is in use for a minute after its last connection; Windows would share it.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        address = _address(host, port)
        if error.errno == errno.EADDRINUSE:
            raise _taken(address) from error
        raise StartError(
            f"Nothing can listen on {address} ({error.strerror}). Set HOST to an address of this "
            "machine, and PORT to a port that this user may use."
        ) from error
    return listener


def _taken(address: str) -> StartError:
    return StartError(
        f"Another program listens on {address}. Stop it, or set PORT to another port; "
        "PORT=0 takes any that is free."
    )


def _log_address(config: uvicorn.Config) -> None:
    logging.getLogger("uvicorn.error").info(
        "Uvicorn running on http://%s (Press CTRL+C to quit)", _address(config.host, config.port)
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _allow_many_connections() -> None:
    """Raise the soft limit on open files, 256 or 1,024 on most machines, as far as is allowed."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  (Windows has none.)

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _banner(settings: Settings, port: int) -> str:
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{_address(host, port)}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL)"
    else:
        data = "the PostgreSQL of DATABASE_URL"
    return f"API         {url}/repos\nSwagger UI  {url}/docs\nData        {data}"
