"""The PostgreSQL servers that tests stop: the service's embedded one, and one of their own."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from app.embedded.cluster import Cluster
from app.embedded.server import Server
from tests.support.data_folder import data_folder
from tests.support.waiting import PATIENCE, POLL, eventually, until

# Connections that a worker makes at most, each when it is needed.
CONNECTIONS = 9


@dataclass
class Embedded:
    """The PostgreSQL that the service runs for itself in this folder."""

    folder: Path

    def published(self) -> dict[str, Any]:
        """Return what its supervisor has published, or nothing while it is not ready."""
        with suppress(FileNotFoundError):
            published: dict[str, Any] = json.loads((self.folder / "server.json").read_bytes())
            return published
        return {}

    @property
    def url(self) -> str:
        """Its URL, which is the same after a restart."""
        state = json.loads((self.folder / "connection.json").read_bytes())
        return f"postgresql://tracker:{state['password']}@127.0.0.1:{state['port']}/tracker"


class OwnPostgreSQL:
    """A PostgreSQL of the tests' own, always on the same port, without a supervisor."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o711)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        cluster = Cluster(folder, self._lock)
        cluster.prepare()
        self._server = Server(cluster)
        self.url = cluster.url
        self.start()

    def start(self) -> None:
        """Start it; it ends with the thread that started it."""
        self._process: subprocess.Popen[bytes] = self._server.start()

    async def stop(self) -> None:
        """Ask it to end every session at once, and wait for its end."""
        self._process.send_signal(signal.SIGINT)
        await until(lambda: self._process.poll() is not None, "PostgreSQL did not stop")

    def wait(self) -> None:
        """Wait until it accepts connections."""
        eventually(
            lambda: self._server.is_ready(self._process.pid),
            lambda: self._server.log.read_text()[-2000:],
        )

    @property
    def pid(self) -> int:
        """The process that starts all others."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)
        os.close(self._lock)


@contextmanager
def own_postgresql() -> Iterator[OwnPostgreSQL]:
    """Run a PostgreSQL of the tests' own while inside."""
    with ExitStack() as stack:
        server = OwnPostgreSQL(stack.enter_context(data_folder()))
        stack.callback(server.close)
        server.wait()
        yield server


async def is_writable(url: str) -> bool:
    """Return whether this PostgreSQL accepts a connection and a write."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2)
    except psycopg.Error:
        return False
    async with connection:
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS probe (n int)")
            await connection.execute("INSERT INTO probe VALUES (1)")
        except psycopg.Error:
            return False
    return True


async def until_writable(url: str) -> float:
    """Wait until PostgreSQL itself takes a write; return when that was."""
    deadline = time.monotonic() + 2 * PATIENCE
    while not await is_writable(url):
        assert time.monotonic() < deadline, "PostgreSQL did not come back"
        await asyncio.sleep(POLL)
    return time.monotonic()


def connections(url: str) -> int:
    """Count the connections that the service has to this database."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'github-repository-tracker'"
        ).fetchone() or (-1,)
        return int(count)
