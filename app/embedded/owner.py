"""A process's share in the embedded PostgreSQL; starts a supervisor if none runs."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from app.embedded.children import environment
from app.embedded.errors import EmbeddedPostgresError
from app.embedded.files import full_disk, open_private, tail, try_lock

_POLL = 0.02
_PROBE_SECONDS = 2.0
_RETRY_SECONDS = 5.0
_LEAST_SPACE = 2**20  # Bytes; below, neither PostgreSQL nor its supervisor can write why.
# The message of PostgreSQL's protocol that asks for TLS: its length and its code.
_SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)


class Owner:
    """One share in the server, and the duty to keep a supervisor running."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self.failure = ""
        self._patience = patience
        self._left = threading.Event()
        self._spawning = threading.Lock()

    def take_share(self) -> int:
        """Take the shared lock, after a server that is stopping has stopped."""
        try:
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.folder.mkdir(mode=mode, parents=True, exist_ok=True)
            share = open_private(self.folder / "owners.lock")
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The data folder {self.folder} cannot be used ({error.strerror}). Set DATA_DIR "
                "to a folder that this user can write to, or set DATABASE_URL."
            ) from error
        deadline = time.monotonic() + self._patience
        while not try_lock(share, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                os.close(share)
                raise EmbeddedPostgresError(
                    f"The PostgreSQL in {self.folder} is still stopping "
                    f"after {self._patience:.0f} s."
                )
            time.sleep(_POLL)
        return share

    def wait_for_url(self) -> str:
        """Return the URL as soon as PostgreSQL is ready."""
        deadline = time.monotonic() + self._patience
        while not self.failure and time.monotonic() < deadline:
            if (url := self._published_url()) and _accepts_connections(url):
                return url
            time.sleep(_POLL)
        if self.failure:
            raise EmbeddedPostgresError(self.failure)
        log, waited = self.folder / "postgres.log", f"{self._patience:.0f} s"
        raise EmbeddedPostgresError(
            f"PostgreSQL is not ready after {waited}. {log} ends with:\n{tail(log)}"
        )

    def _published_url(self) -> str | None:
        """Return the URL that a supervisor published; one that was killed has left the lock."""
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
            self._left.wait(_RETRY_SECONDS if self.failure else _POLL)

    def leave(self) -> None:
        """Start no further supervisor; the thread ends when it gets its lock."""
        with self._spawning:
            self._left.set()

    def _supervise_once(self) -> str:
        """Start a supervisor as soon as there is none, wait for its end, return why it failed."""
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
            if shutil.disk_usage(self.folder).free < _LEAST_SPACE:
                return full_disk(self.folder)
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


def _accepts_connections(url: str) -> bool:
    """Return whether a server at this URL answers.

    The locks of a process that is killed outlive it by some milliseconds, on a busy machine by
    fifty: the kernel releases them when its last thread has ended. PostgreSQL answers a request for
    TLS by one letter, from a process that it forks for the connection, which it cannot when dead.
    """
    where = urlsplit(url)
    try:
        with socket.create_connection((where.hostname, where.port), _PROBE_SECONDS) as connection:
            connection.sendall(_SSL_REQUEST)
            return bool(connection.recv(1))
    except OSError:
        return False
