"""Those who use the embedded PostgreSQL, and see to it that it is supervised."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from app.embedded.files import open_private, tail, try_lock
from app.embedded.programs import environment
from app.errors import EmbeddedPostgresError

_PATIENCE = 60.0  # Seconds that an owner waits, once for its share and once for the server.
_POLL = 0.02


class Owner:
    """One share in the server, and the duty to see to it that a supervisor runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failure = ""
        self._left = threading.Event()
        self._spawning = threading.Lock()

    def take_share(self) -> int:
        """Take the shared lock; a server that is being stopped has to be gone first."""
        try:
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.folder.mkdir(mode=mode, parents=True, exist_ok=True)
            share = open_private(self.folder / "owners.lock")
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The data folder {self.folder} cannot be used ({error.strerror}). Set DATA_DIR "
                "to a folder that this user may write to, or set DATABASE_URL."
            ) from error
        deadline = time.monotonic() + _PATIENCE
        while not try_lock(share, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                os.close(share)
                raise EmbeddedPostgresError(
                    f"The PostgreSQL in {self.folder} is still stopping after {_PATIENCE:.0f} s."
                )
            time.sleep(_POLL)
        return share

    def wait_for_url(self) -> str:
        """Wait until a supervisor says that PostgreSQL is ready."""
        deadline = time.monotonic() + _PATIENCE
        while not self.failure and time.monotonic() < deadline:
            if url := self._published_url():
                return url
            time.sleep(_POLL)
        log = self.folder / "postgres.log"
        raise EmbeddedPostgresError(
            self.failure
            or f"PostgreSQL is not ready after {_PATIENCE:.0f} s. {log} ends with:\n{tail(log)}"
        )

    def _published_url(self) -> str | None:
        """Read where PostgreSQL is, unless a supervisor that was killed left that behind."""
        try:
            with (self.folder / "server.json").open("rb") as published:
                if try_lock(published.fileno(), fcntl.LOCK_SH):
                    return None
                return str(json.load(published)["url"])
        except FileNotFoundError:
            return None

    def keep_supervised(self) -> None:
        """Start a supervisor whenever there is none; runs in a thread until the share is left."""
        while not self._left.is_set():
            try:
                self.failure = self._supervise_once()
            except OSError as error:
                self.failure = f"The supervisor of PostgreSQL cannot be started: {error}"
            # A failure may pass (a full disk); a supervisor that was killed is replaced at once.
            self._left.wait(5 if self.failure else _POLL)

    def leave(self) -> None:
        """Start no supervisor from here on; the thread ends when it gets its lock."""
        with self._spawning:
            self._left.set()

    def _supervise_once(self) -> str:
        """Wait until there is no supervisor, start one, and wait for its end; why it failed."""
        lock = open_private(self.folder / "supervisor.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._spawning:
                if self._left.is_set():
                    return ""
                supervisor, log = self._spawn(lock)
        finally:
            os.close(lock)
        with log:
            if supervisor.wait() <= 0:
                return ""
            log.seek(0)
            return log.read().decode(errors="replace").strip() or "The supervisor failed."

    def _spawn(self, lock: int) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """Start a supervisor that inherits the lock, so that there is never a second one."""
        path = self.folder / "supervisor.log"
        path.unlink(missing_ok=True)
        log = os.fdopen(open_private(path), "r+b")
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "app.embedded", self.folder, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=[lock],
            cwd=Path(__file__).resolve().parents[2],
            env=environment(),
            start_new_session=True,  # Ctrl-C in the owner's terminal is not for the supervisor.
        )
        return supervisor, log
