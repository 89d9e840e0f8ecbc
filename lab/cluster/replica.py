"""One replica of the service: `python -m app` on a port of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2 as httpx

from app.embedded.server import free_port
from lab.cluster.tools import PROJECT, detached

NOBODY = "/repos/00000000-0000-0000-0000-000000000000"

_START_PATIENCE = 45.0
_POLL = 0.05


class Replica:
    """Runs the service while inside, with these settings on top of the environment's."""

    def __init__(self, log: Path, settings: Mapping[str, str], port: int = 0) -> None:
        self.port = free_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._settings = {**settings, "PORT": str(self.port), "HOST": "127.0.0.1"}

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app"],
                cwd=PROJECT,
                env=os.environ | self._settings,
                stdout=log,
                stderr=log,
                **detached(),
            )
        deadline = time.monotonic() + _START_PATIENCE
        while self.status() != httpx.codes.NOT_FOUND:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise TimeoutError(f"The service did not start: see {self.log}")
            time.sleep(_POLL)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop it as an operator would."""
        self.stop()

    def stop(self, patience: float = 30.0) -> float:
        """Stop it and return the seconds that took."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return time.monotonic() - started

    def status(self) -> int | None:
        """Ask for a record that cannot exist: 404 means that all is well."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}{NOBODY}", timeout=10, trust_env=False).status_code
        return None
