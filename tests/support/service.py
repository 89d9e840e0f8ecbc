"""The service as a process of its own, as its users start it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from app import PROJECT_DIR

# Seconds. At its first start it may have to make a PostgreSQL of its own.
START_PATIENCE = 60
PATIENCE = 20
AS_MODULE = ("-m", "app")
# Each setting as it is by default, so that nobody's .env has a say. A blank token is none.
DEFAULTS = {
    "GITHUB_TOKEN": " ",
    "GITHUB_API_URL": "http://127.0.0.1:9",
    "HOST": "127.0.0.1",
    "PORT": "0",
    "WORKERS": "1",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
}
ADDRESS = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
STARTED = "startup complete"


class Service:
    """The service as a process of its own; what it writes is kept."""

    def __init__(self, command: tuple[str, ...], settings: dict[str, str]) -> None:
        self.url = ""
        self.log: list[str] = []
        self.printed: list[str] = []
        variables = environment(**settings)
        self._workers = int(variables["WORKERS"])
        self._serves_or_ended = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=PROJECT_DIR,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True),
            threading.Thread(target=self._read_printed, args=(self.process.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return urlsplit(self.url).port or 0

    @property
    def serves(self) -> bool:
        """Whether it has said where it listens, and each of its workers that it is ready."""
        return bool(self.url) and self.said(STARTED) >= self._workers

    @property
    def written(self) -> str:
        """All that it wrote: what it printed, and its log."""
        return "".join([*self.printed, *self.log])

    def said(self, words: str) -> int:
        """Count the lines of its log that have these words."""
        return sum(words in line for line in self.log)

    def wait_until_it_serves(self) -> None:
        """Wait until its log says so."""
        self._serves_or_ended.wait(START_PATIENCE)
        assert self.serves, self.written

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal and return the exit status; all that it wrote is then here."""
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return self.process.returncode

    def _read_log(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.log.append(line)
                if found := ADDRESS.search(line):
                    self.url = found[1]
                if not self._serves_or_ended.is_set() and self.serves:
                    self._serves_or_ended.set()
        self._serves_or_ended.set()

    def _read_printed(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.printed.append(line)


@contextmanager
def running(*command: str, **settings: str) -> Iterator[Service]:
    """Run the service with these settings while inside."""
    service = Service(command or AS_MODULE, settings)
    try:
        service.wait_until_it_serves()
        yield service
    finally:
        service.stop()


def embedded_in(data: Path) -> dict[str, str]:
    """Return the settings of a service with a PostgreSQL of its own, in this folder."""
    return {"DATABASE_URL": "", "DATA_DIR": str(data)}


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, **DEFAULTS, **settings}


def ran(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Return how a program ended, for example a service that could not start."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT_DIR,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
