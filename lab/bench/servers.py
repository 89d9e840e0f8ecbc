"""The servers that are compared: how each is started, when it is ready, and how it is stopped."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FASTIFY = Path(__file__).with_name("peers") / "fastify"

# Seconds that a server has to start or to stop.
PATIENCE = 30

# What the stand-in for GitHub wants to be sent; a token of the user's never leaves for it.
TOKEN = "bench"  # noqa: S105 - it opens nothing


@dataclass(frozen=True)
class Kind:
    """A server as its user would start it; `{port}` stands for the port."""

    name: str
    title: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def _uvicorn(module: str) -> tuple[str, ...]:
    options = "--host 127.0.0.1 --port {port} --loop uvloop --http httptools --no-access-log"
    command = f"-m uvicorn bench.peers.{module}:app {options} --log-level warning"
    return (sys.executable, *command.split())


OURS = Kind(
    "ours",
    "this service",
    (sys.executable, "-m", "app"),
    {"HOST": "127.0.0.1", "WORKERS": "1", "LOG_LEVEL": "info", "LOG_FORMAT": "json"},
)
FASTIFY_POOL = Kind(
    "fastify", "Fastify 5, node-postgres, a pool", ("node", str(FASTIFY / "server.js"))
)
FASTIFY_PIPELINE = Kind(
    "pipelined",
    "Fastify 5, node-postgres, pipelining",
    ("node", str(FASTIFY / "server.js")),
    {"PIPELINE": "1", "CONNECTIONS": "1"},
)
ASYNC_SESSION = Kind("async", "FastAPI, async ORM session", _uvicorn("async_session"))
SYNC_SESSION = Kind("sync", "FastAPI, synchronous session", _uvicorn("sync_session"))


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    kind: Kind
    pid: int
    port: int
    log: Path

    def get(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """Send one GET; the answer's body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse()


@contextmanager
def running(
    kind: Kind, database_url: str | None, folder: Path, **environment: str
) -> Iterator[Server]:
    """Run a server while inside; what it logs goes to a file in `folder`."""
    port = _free_port()
    own = {"PORT": str(port), "GITHUB_TOKEN": TOKEN, **kind.environment, **environment}
    if database_url is not None:
        own["DATABASE_URL"] = database_url
    log = folder / f"{kind.name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603
            [part.replace("{port}", str(port)) for part in kind.command],
            cwd=PROJECT,
            env={**_inherited(), **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait_until_open(process, port, log)
            yield Server(kind, process.pid, port, log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not start:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _inherited() -> dict[str, str]:
    """Return the environment without the service's own settings."""
    settings = {"DATABASE_URL", "DATA_DIR", "ALLOWED_HOSTS", "GITHUB_API_URL"}
    return {name: value for name, value in os.environ.items() if name not in settings}
