"""The cluster in one data folder: its files, its password and its port."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from app.embedded.children import as_user, die_with_parent, environment, unprivileged_user
from app.embedded.errors import EmbeddedPostgresError
from app.embedded.files import last_lines, sync, write_private
from app.embedded.programs import reachable_programs

# Seconds for the previous server, which may still be ending, to release its port.
_PORT_PATIENCE = 3.0
_POLL = 0.02


class Cluster:
    """The files of PostgreSQL, created if they are missing."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.pgdata = folder / "pgdata"
        self.port = 0
        self._password = ""
        self._state = folder / "connection.json"
        self._lock = lock
        self._user = unprivileged_user(folder, self.pgdata)
        self._programs = reachable_programs(folder, self._user)

    @property
    def url(self) -> str:
        """The URL of the database."""
        return f"postgresql://tracker:{self._password}@127.0.0.1:{self.port}/tracker"

    def prepare(self) -> None:
        """Create what is missing: password, port, files; no server may run."""
        if self._state.exists():
            saved = json.loads(self._state.read_bytes())
            self._password, self.port = saved["password"], saved["port"]
        else:
            self._password = os.urandom(24).hex()
            if self.pgdata.exists():
                sql = f"ALTER ROLE tracker PASSWORD '{self._password}';"
                self._run("postgres", "--single", "-D", self.pgdata, "tracker", sql=sql)
        self.choose_port()
        if not self.pgdata.exists():
            self._create()

    def choose_port(self) -> None:
        """Keep the port of the last start, or choose another if a program has it."""
        port = free_port(self.port, patience=_PORT_PATIENCE)
        if port != self.port:
            self.port = port
            state = {"password": self._password, "port": port}
            write_private(self._state, json.dumps(state))

    def command(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        """Return the options of `subprocess` that run a program of PostgreSQL.

        Only the main thread may use them, see `die_with_parent`.
        """
        return {
            "args": [self._programs / program, *arguments],
            "cwd": "/",
            "env": environment() | {"LC_ALL": "C"},
            "preexec_fn": die_with_parent(),
            **as_user(self._user),
        }

    def _create(self) -> None:
        """Create the files and the database; an interrupted attempt leaves nothing half made."""
        temporary, pwfile = self.folder / "pgdata.tmp", self.folder / "pwfile.tmp"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(mode=0o700)
        write_private(pwfile, self._password)
        if self._user:
            os.chown(temporary, *self._user)
            os.chown(pwfile, *self._user)
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        login = ("--username=tracker", f"--pwfile={pwfile}", "--auth=scram-sha-256")
        self._run("initdb", "-D", temporary, "--encoding=UTF8", *locale, *login)
        pwfile.unlink()
        sql = "CREATE DATABASE tracker;"
        self._run("postgres", "--single", "-D", temporary, "postgres", sql=sql)
        temporary.rename(self.pgdata)
        sync(self.folder)

    def _run(self, program: str, *arguments: str | Path, sql: str = "") -> None:
        """Run a program, which gets the supervisor's lock: no other supervisor starts meanwhile."""
        done = subprocess.run(
            **self.command(program, *arguments),
            input=sql.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._lock],
            check=False,
        )
        # A single-user PostgreSQL reports success even if its statement failed.
        if done.returncode != 0 or b"ERROR:" in done.stdout:
            raise EmbeddedPostgresError(
                f"{program} failed in {self.folder}:\n{last_lines(done.stdout)}"
            )


def free_port(wanted: int = 0, *, patience: float = 0.0) -> int:
    """Return the wanted port if it becomes free within `patience` seconds, else another.

    The other lies outside the ranges that systems use for outgoing connections.
    """
    deadline = time.monotonic() + patience
    while wanted:
        if _is_free(wanted):
            return wanted
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    for _ in range(100):
        port = 20_000 + int.from_bytes(os.urandom(2)) % 12_000
        if _is_free(port):
            return port
    raise EmbeddedPostgresError("There is no free port for PostgreSQL on 127.0.0.1.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
