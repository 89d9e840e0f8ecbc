"""The server process of a cluster: started, found again, stopped, and published to its owners."""

import fcntl
import json
import os
import signal
import subprocess
import time

from app.embedded.cluster import Cluster
from app.embedded.files import open_private, write_private
from app.embedded.memory import shared_buffers_option

_POLL = 0.02
_LOG_LIMIT = 4 * 1024 * 1024  # Bytes.
STOP_SECONDS = 30  # Allowed for a fast shutdown; an immediate one follows.


class Server:
    """The PostgreSQL server of one cluster, as its supervisor sees it."""

    def __init__(self, cluster: Cluster) -> None:
        self.log = cluster.folder / "postgres.log"
        self._cluster = cluster
        self._pid_file = cluster.pgdata / "postmaster.pid"
        self._published = cluster.folder / "server.json"
        self._published_lock: int | None = None
        self._log_start = 0

    def start(self) -> subprocess.Popen[bytes]:
        """Start PostgreSQL; only the main thread may, see `die_with_parent`."""
        self.stop_leftover()
        settings = (
            "--listen_addresses=127.0.0.1",
            f"--port={self._cluster.port}",
            # The path of a Unix socket is limited to 107 bytes, that of the folder is not.
            "--unix_socket_directories=",
            "--max_connections=100",
            shared_buffers_option(),
        )
        log = open_private(self.log, os.O_APPEND)
        self._log_start = os.fstat(log).st_size
        try:
            return subprocess.Popen(
                [self._cluster.programs / "postgres", "-D", self._cluster.pgdata, *settings],
                **self._cluster.child(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(log)

    def is_ready(self, pid: int) -> bool:
        """Return whether the server with this pid accepts connections."""
        match self._pid_lines():
            case [owner, _, _, _, _, _, _, status, *_]:
                return owner == str(pid) and status.strip() == "ready"
        return False

    def publish(self, pid: int) -> bool:
        """Write the URL for the owners, who trust the file only while it is locked, see `Owner`.

        Return whether that succeeded. On a full disk it can be repeated later; owners that know the
        URL can read meanwhile.
        """
        server = {"url": self._cluster.url, "supervisor": os.getpid(), "postgres": pid}
        try:
            write_private(self._published, json.dumps(server))
        except OSError:
            return False
        self._published_lock = open_private(self._published)
        fcntl.flock(self._published_lock, fcntl.LOCK_EX)
        return True

    def retract(self) -> None:
        """Remove the published URL."""
        self._published.unlink(missing_ok=True)
        if self._published_lock is not None:
            os.close(self._published_lock)
            self._published_lock = None

    def log_since_start(self) -> str:
        """Return what was written to the log since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def limit_log(self) -> None:
        """Empty a log that has become too long; PostgreSQL appends, so it continues at the top."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            os.truncate(self.log, 0)
            self._log_start = 0

    def stop_leftover(self) -> None:
        """Stop the server of a supervisor that was killed, and remove its pid file.

        PostgreSQL refuses to start if the pid in that file belongs to another process of its user,
        as it does in a restarted container. PostgreSQL recognizes backends that outlived their
        server, which the file protects from, by their shared memory too.
        """
        lines = self._pid_lines()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        for number in (signal.SIGINT, signal.SIGQUIT):
            if pid and self._runs_as(pid):
                os.kill(pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while pid and self._runs_as(pid) and time.monotonic() < deadline:
                time.sleep(_POLL)
        self._pid_file.unlink(missing_ok=True)

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _runs_as(self, pid: int) -> bool:
        """Return whether the process is the server of this cluster; a pid may be used again."""
        # The container image has neither PostgreSQL nor psutil, which comes with it.
        import psutil  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            program, *arguments = psutil.Process(pid).cmdline() or [""]
        except psutil.Error:
            return False
        return program.endswith("/postgres") and str(self._cluster.pgdata) in arguments
