"""The service as a process of its own, as its users start it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

from app import PROJECT_DIR

# Seconds allowed for a start. The first one may have to make a PostgreSQL of its own.
START_PATIENCE = 60
# Seconds allowed for a stop.
PATIENCE = 20
POLL = 0.005
AS_MODULE = ("-m", "app")
# Each setting with its default, so that no .env file counts. A blank token is none.
DEFAULTS = {
    "GITHUB_TOKEN": " ",
    "GITHUB_API_URL": "http://127.0.0.1:9",
    "HOST": "127.0.0.1",
    "PORT": "0",
    "ROOT_PATH": "/",
    "FORWARDED_ALLOW_IPS": "127.0.0.1",
    "WORKERS": "1",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
}
ADDRESS = re.compile(r"(?:running on|listening at) (http://127\.0\.0\.1:\d+)")
STARTED = "startup complete"


class Service:
    """A program that serves HTTP, by default written in Python; what it writes is kept.

    It is ready if it has logged its address, and each of its workers the word `ready`.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: dict[str, str],
        *,
        program: str = sys.executable,
        ready: str = STARTED,
    ) -> None:
        # Files, because a reader of pipes would take processor time from what is measured.
        self._folder = Path(mkdtemp(prefix="tracker-service-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        variables = environment(**settings)
        self._ready, self._workers = ready, int(variables["WORKERS"])
        self._url = ""
        with (self._folder / "printed").open("wb") as out, (self._folder / "log").open("wb") as err:
            self.process = subprocess.Popen(  # noqa: S603 - the caller's command
                [program, *command],
                cwd=PROJECT_DIR,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def log(self) -> list[str]:
        """The lines that it wrote to standard error."""
        return self._read("log").splitlines(keepends=True)

    @property
    def printed(self) -> list[str]:
        """The lines that it wrote to standard output."""
        return self._read("printed").splitlines(keepends=True)

    @property
    def written(self) -> str:
        """All that it wrote."""
        return self._read("printed") + self._read("log")

    @property
    def url(self) -> str:
        """The address that it has logged, or an empty string."""
        if not self._url and (found := ADDRESS.search(self.written)):
            self._url = found[1]
        return self._url

    @property
    def port(self) -> int:
        """The port of that address."""
        return urlsplit(self.url).port or 0

    @property
    def serves(self) -> bool:
        """Whether it is ready."""
        return bool(self.url) and self.written.count(self._ready) >= self._workers

    def said(self, words: str) -> int:
        """Count the lines of its log that contain these words."""
        return sum(words in line for line in self.log)

    def wait_until_it_serves(self) -> None:
        """Wait until it is ready. Raise RuntimeError if it ends or takes too long."""
        deadline = time.monotonic() + START_PATIENCE
        while not self.serves:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The service did not start:\n{self.written}")
            time.sleep(POLL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal and return its exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def _read(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(*command: str, **settings: str) -> Iterator[Service]:
    """Run the service with these settings while inside."""
    with started(Service(command or AS_MODULE, settings)) as service:
        yield service


@contextmanager
def started(service: Service) -> Iterator[Service]:
    """Wait until a service is ready, and stop it at the end."""
    try:
        service.wait_until_it_serves()
        yield service
    finally:
        service.stop()


def embedded_in(data: Path) -> dict[str, str]:
    """Return the settings of a service with a PostgreSQL of its own in this folder."""
    return {"DATABASE_URL": "", "DATA_DIR": str(data)}


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings and defaults for the others."""
    return {**os.environ, **DEFAULTS, **settings}


def ran(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Return how a program ended, for example a service that could not start."""
    return subprocess.run(  # noqa: S603 - the caller's command
        [sys.executable, *command],
        cwd=PROJECT_DIR,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=START_PATIENCE,
        check=False,
    )
