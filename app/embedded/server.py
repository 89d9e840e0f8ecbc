"""The PostgreSQL of one data folder: made, started, and found again."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from app.embedded.files import last_lines, open_private, sync, write_private
from app.embedded.programs import (
    as_user,
    die_with_parent,
    environment,
    reachable_programs,
    unprivileged_user,
)
from app.errors import EmbeddedPostgresError

_POLL = 0.02
_LOG_LIMIT = 4 * 1024 * 1024
STOP_SECONDS = 30  # For a fast shutdown, before an immediate one.


class Server:
    """The PostgreSQL of one data folder, as its supervisor sees it."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.log = folder / "postgres.log"
        self._pgdata = folder / "pgdata"
        self._state = folder / "connection.json"
        self._lock = lock
        self._user = unprivileged_user(folder, self._pgdata)
        self._programs = reachable_programs(folder, self._user)
        self._password = ""
        self._port = 0
        self._published: int | None = None

    def prepare(self) -> None:
        """Make what is missing: password, port, cluster."""
        self.retract()  # What a killed supervisor said.
        self._stop_leftover()  # It would hold the port.
        if self._state.exists():
            saved = json.loads(self._state.read_bytes())
            self._password, self._port = saved["password"], saved["port"]
        else:
            self._password = os.urandom(24).hex()
            if self._pgdata.exists():
                sql = f"ALTER ROLE tracker PASSWORD '{self._password}';"
                self._run("postgres", "--single", "-D", self._pgdata, "tracker", sql=sql)
        self.choose_port()
        if not self._pgdata.exists():
            self._create()

    def choose_port(self) -> None:
        """Keep the port of last time, or take another if somebody else has it now."""
        port = free_port(self._port)
        if port != self._port:
            self._port = port
            state = {"password": self._password, "port": port}
            write_private(self._state, json.dumps(state))

    def _create(self) -> None:
        """Make the cluster and its database; an interrupted attempt leaves nothing half made."""
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
        temporary.rename(self._pgdata)
        sync(self.folder)

    def _run(self, program: str, *arguments: str | Path, sql: str = "") -> None:
        """Run a program that holds the supervisor's lock too: nobody else starts before its end."""
        done = subprocess.run(
            [self._programs / program, *arguments],
            input=sql.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[self._lock],
            check=False,
            **self._child_options(),
        )
        # A single-user PostgreSQL reports success even when its statement failed.
        if done.returncode != 0 or b"ERROR:" in done.stdout:
            raise EmbeddedPostgresError(
                f"{program} failed in {self.folder}:\n{last_lines(done.stdout)}"
            )

    def start(self) -> subprocess.Popen[bytes]:
        """Start PostgreSQL; only ever from the main thread, see `die_with_parent`."""
        self._stop_leftover()
        # No Unix socket: its path may have 107 bytes, the folder's any number.
        network = ("--listen_addresses=127.0.0.1", f"--port={self._port}")
        settings = (*network, "--unix_socket_directories=", "--max_connections=100", _cache())
        log = open_private(self.log, os.O_APPEND)
        try:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", self._pgdata, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._child_options(),
            )
        finally:
            os.close(log)

    def is_ready(self, pid: int) -> bool:
        """Whether the PostgreSQL with this very pid takes connections."""
        match self._pid_file():
            case [owner, _, _, _, _, _, _, status, *_]:
                return owner == str(pid) and status.strip() == "ready"
        return False

    def publish(self, pid: int) -> bool:
        """Tell the owners where it is; they believe a file that is locked, see `Owner`.

        Return whether that could be written: on a full disk it can be said again later, and those
        who know where it is can read meanwhile.
        """
        url = f"postgresql://tracker:{self._password}@127.0.0.1:{self._port}/tracker"
        server = {"url": url, "supervisor": os.getpid(), "postgres": pid}
        path = self.folder / "server.json"
        try:
            write_private(path, json.dumps(server))
        except OSError:
            return False
        self._published = open_private(path)
        fcntl.flock(self._published, fcntl.LOCK_EX)
        return True

    def retract(self) -> None:
        """Give no new owner the URL."""
        (self.folder / "server.json").unlink(missing_ok=True)
        if self._published is not None:
            os.close(self._published)
            self._published = None

    def limit_log(self) -> None:
        """Empty a log that has grown too long; PostgreSQL appends, so it goes on at the start."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            os.truncate(self.log, 0)

    def _pid_file(self) -> list[str]:
        try:
            return (self._pgdata / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _stop_leftover(self) -> None:
        """Stop the PostgreSQL that a killed supervisor may have left, and only that.

        Its pid file goes too: PostgreSQL refuses to start if the pid in it now belongs to another
        process of its user, as happens in a restarted container. Orphaned backends, which the file
        guards against, are recognised by their shared memory without it.
        """
        lines = self._pid_file()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        for number in (signal.SIGINT, signal.SIGQUIT):
            deadline = time.monotonic() + STOP_SECONDS
            if pid and is_postgres(pid, self._pgdata):
                os.kill(pid, number)
            while pid and is_postgres(pid, self._pgdata) and time.monotonic() < deadline:
                time.sleep(_POLL)
        (self._pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _child_options(self) -> dict[str, Any]:
        return {
            "cwd": "/",
            "env": environment() | {"LC_ALL": "C"},
            "preexec_fn": die_with_parent(),
            **as_user(self._user),
        }


def _cache() -> str:
    """Choose the size of PostgreSQL's own cache: a quarter of the memory, as its manual advises.

    It takes memory only as it fills; two gigabytes hold ten million records and their index.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"--shared_buffers={min(memory // 4, 2**31) // 2**20}MB"


def is_postgres(pid: int, pgdata: Path) -> bool:
    """Whether this process is the server of this cluster, and not one that got its pid."""
    if not Path("/proc/self").exists():
        ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        command = subprocess.run(ps, capture_output=True, check=False).stdout
        return b"bin/postgres -D " + os.fsencode(pgdata) in command
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return arguments[0].endswith(b"/postgres") and os.fsencode(pgdata) in arguments


def free_port(port: int) -> int:
    """Return the port if it is free, else another, outside the ranges for outgoing connections."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                if port:
                    probe.bind(("127.0.0.1", port))
                    return port
            except OSError:
                pass
        port = 20_000 + int.from_bytes(os.urandom(2)) % 12_000
    raise EmbeddedPostgresError("There is no free port for PostgreSQL on 127.0.0.1.")
