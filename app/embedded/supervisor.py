"""The process that runs PostgreSQL while it has owners."""

import fcntl
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

from app.embedded.cluster import Cluster
from app.embedded.errors import EmbeddedPostgresError
from app.embedded.files import open_private, tail, try_lock
from app.embedded.server import STOP_SECONDS, Server

_POLL = 0.02
_STABLE_SECONDS = 5  # After which a server counts as well, and its earlier failures as over.
_STOP, _DIED = "stop", "died"


class Supervisor:
    """Restarts PostgreSQL whenever it dies, until it has no owners."""

    def __init__(self, cluster: Cluster, server: Server, events: "queue.SimpleQueue[str]") -> None:
        self._cluster = cluster
        self._server = server
        self._events = events

    def run(self) -> None:
        """Run PostgreSQL; raise EmbeddedPostgresError if it dies again and again."""
        failures, was_ready, pause = 0, False, 0.0
        while self._next_event(pause) != _STOP:
            started = time.monotonic()
            event, ready = self._run_once()
            if event == _STOP:
                return
            was_ready |= ready
            if not was_ready:
                self._cluster.choose_port()
            if ready and time.monotonic() - started > _STABLE_SECONDS:
                failures = 0
            # Backends of a server that was killed may need a while to notice it.
            if "pre-existing shared memory block" not in self._server.log_since_start():
                failures += 1
            if failures > (10 if was_ready else 3):
                log = self._server.log
                raise EmbeddedPostgresError(
                    f"PostgreSQL does not stay up. {log} ends with:\n{tail(log)}"
                )
            pause = min(0.05 * 2**failures, 2)

    def _run_once(self) -> tuple[str, bool]:
        """Run PostgreSQL until an event; return that event and whether the server was ready."""
        self._server.limit_log()
        postgres = self._server.start()
        waiter = threading.Thread(target=self._report_death, args=[postgres], daemon=True)
        waiter.start()
        event, ready = None, False
        try:
            while not event:
                event = self._next_event(60 if ready else _POLL)
                if not ready and self._server.is_ready(postgres.pid):
                    ready = self._server.publish(postgres.pid)
                self._server.limit_log()
            return event, ready
        finally:
            self._server.retract()
            postgres.send_signal(signal.SIGINT)
            waiter.join(STOP_SECONDS)
            postgres.send_signal(signal.SIGQUIT)
            waiter.join()

    def _next_event(self, timeout: float) -> str | None:
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _report_death(self, postgres: subprocess.Popen[bytes]) -> None:
        postgres.wait()
        self._events.put(_DIED)


def supervise(folder: Path, lock: int) -> None:
    """Be the supervisor of this data folder, unless it has one; raises EmbeddedPostgresError."""
    if not try_lock(lock, fcntl.LOCK_EX):
        return
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: events.put(_STOP))
    for ignored in (signal.SIGINT, signal.SIGHUP):  # Not by SIG_IGN: PostgreSQL would inherit it.
        signal.signal(ignored, lambda *_: None)

    def report_unowned() -> None:
        fcntl.flock(open_private(folder / "owners.lock"), fcntl.LOCK_EX)  # Kept until the end.
        events.put(_STOP)

    threading.Thread(target=report_unowned, daemon=True).start()
    cluster = Cluster(folder, lock)
    server = Server(cluster)
    server.retract()  # The URL of a supervisor that was killed.
    server.stop_leftover()  # It has the port.
    cluster.prepare()
    Supervisor(cluster, server, events).run()
