"""The cluster in one data folder: its files, its password and its port."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from app.embedded.children import (
    as_user,
    die_with_parent,
    environment,
    require_name,
    unprivileged_user,
)
from app.embedded.errors import EmbeddedPostgresError
from app.embedded.files import full_disk, last_lines, sync, write_private
from app.embedded.programs import reachable_programs, safe_for_a_shell

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
        self.programs = reachable_programs(folder, self._user)

    @property
    def url(self) -> str:
        """The URL of the database."""
        return f"postgresql://tracker:{self._password}@127.0.0.1:{self.port}/tracker"

    def prepare(self) -> None:
        """Create what is missing: password, port, files; no server may run.

        Raises EmbeddedPostgresError.
        """
        if self.pgdata.exists():
            self._check_version()
        if self._state.exists():
            self._load_state()
        else:
            self._password = os.urandom(24).hex()
            if self.pgdata.exists():
                sql = f"ALTER ROLE tracker PASSWORD '{self._password}';"
                self._run_single(self.pgdata, "tracker", sql)
        self.choose_port()
        if not self.pgdata.exists():
            self._create()

    def _load_state(self) -> None:
        try:
            saved = json.loads(self._state.read_bytes())
            self._password, self.port = saved["password"], saved["port"]
        except (ValueError, TypeError, KeyError):
            raise EmbeddedPostgresError(
                f"{self._state} is damaged. Remove it; the data stays, and gets a new password."
            ) from None

    def choose_port(self) -> None:
        """Keep the port of the last start, or choose another if a program has it."""
        port = free_port(self.port, patience=_PORT_PATIENCE)
        if port != self.port:
            self.port = port
            state = {"password": self._password, "port": port}
            write_private(self._state, json.dumps(state))

    def child(self) -> dict[str, Any]:
        """Return the options of `subprocess` for a program of PostgreSQL.

        Only the main thread may use them, see `die_with_parent`.
        """
        return {
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
        require_name(self._user)
        with safe_for_a_shell(self.programs) as programs:
            self._run(programs / "initdb", "-D", temporary, "--encoding=UTF8", *locale, *login)
        pwfile.unlink()
        self._run_single(temporary, "postgres", "CREATE DATABASE tracker;")
        temporary.rename(self.pgdata)
        sync(self.folder)

    def _check_version(self) -> None:
        """Raise EmbeddedPostgresError if another major version made the files."""
        theirs = (self.pgdata / "PG_VERSION").read_text().strip()
        version = self._run(self.programs / "postgres", "--version").decode().split()[-1]
        ours = version.partition(".")[0]
        if theirs != ours:
            raise EmbeddedPostgresError(
                f"The data in {self.folder} was made by PostgreSQL {theirs}, and PostgreSQL {ours} "
                "cannot read it. Set DATA_DIR to another folder, and move the data there with "
                f"the pg_dump of PostgreSQL {theirs}."
            )

    def _run_single(self, pgdata: Path, database: str, sql: str) -> None:
        """Run a statement without a server."""
        require_name(self._user)
        self._run(self.programs / "postgres", "--single", "-D", pgdata, database, sql=sql)

    def _run(self, program: Path, *arguments: str | Path, sql: str = "") -> bytes:
        """Return the output of a program; raise EmbeddedPostgresError with its end if it fails.

        The program gets the supervisor's lock: no other supervisor starts before it has ended.
        """
        done = subprocess.run(
            [program, *arguments],
            **self.child(),
            input=sql.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._lock],
            check=False,
        )
        # A single-user PostgreSQL reports success even if its statement failed.
        if b"No space left on device" in done.stdout:
            raise EmbeddedPostgresError(full_disk(self.folder))
        if done.returncode != 0 or b"ERROR:" in done.stdout:
            raise EmbeddedPostgresError(
                f"{program.name} failed in {self.folder}:\n{last_lines(done.stdout)}"
            )
        output: bytes = done.stdout
        return output


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
