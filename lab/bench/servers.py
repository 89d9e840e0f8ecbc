"""The servers that are compared, and how each is started."""

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.service import AS_MODULE, STARTED, Service, started

FASTIFY = Path(__file__).with_name("peers") / "fastify"

# The token that the stand-in for GitHub expects, so that no real one is sent.
TOKEN = "bench"  # noqa: S105 - it opens nothing


@dataclass(frozen=True)
class Kind:
    """A server as its user would start it."""

    name: str
    title: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    program: str = sys.executable
    ready: str = STARTED


def _uvicorn(module: str) -> tuple[str, ...]:
    options = "--host 127.0.0.1 --port 0 --loop uvloop --http httptools --no-access-log"
    return tuple(f"-m uvicorn lab.bench.peers.{module}:app {options}".split())


def _fastify(name: str, how: str, **environment: str) -> Kind:
    command = (str(FASTIFY / "server.js"),)
    title = f"Fastify 5, node-postgres, {how}"
    return Kind(name, title, command, environment, "node", "Server listening")


OURS = Kind("ours", "this service", AS_MODULE)
FASTIFY_POOL = _fastify("fastify", "a pool")
FASTIFY_PIPELINE = _fastify("pipelined", "pipelining", PIPELINE="1", CONNECTIONS="1")
ASYNC_SESSION = Kind("async", "FastAPI, async ORM session", _uvicorn("async_session"))
SYNC_SESSION = Kind("sync", "FastAPI, synchronous session", _uvicorn("sync_session"))


@contextmanager
def running(kind: Kind, database_url: str, **environment: str) -> Iterator[Service]:
    """Run a server while inside."""
    settings = {"GITHUB_TOKEN": TOKEN, **kind.environment, **environment}
    settings["DATABASE_URL"] = database_url
    with started(
        Service(kind.command, settings, program=kind.program, ready=kind.ready)
    ) as service:
        yield service


def get(
    server: Service, path: str, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send one GET; the body of the answer is still to be read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers=headers or {})
    return connection.getresponse()
