"""The stand-in for GitHub in another process or container, and how to give it orders."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lab.github.loopback import CONTROL, PATIENCE

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class GitHubProcess:
    """A stand-in that is known by its address only."""

    url: str

    def report(self) -> dict[str, Any]:
        """Return the count of calls, the violations and more."""
        return self._control(None)

    def order(self, **orders: Any) -> dict[str, Any]:
        """Change its world, for example `order(stars={"owner/name": 5}, latency=0.1)`."""
        return self._control(json.dumps(orders).encode())

    def _control(self, body: bytes | None) -> dict[str, Any]:
        request = Request(f"http://{urlsplit(self.url).netloc}{CONTROL}", body)
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            report: dict[str, Any] = json.load(answer)
            return report


@contextmanager
def github_process(*arguments: str) -> Iterator[GitHubProcess]:
    """Run the stand-in with these arguments (`--index PATH`, `--generate`, …)."""
    command = [sys.executable, "-m", "lab.github", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                message = "the stand-in for GitHub did not start"
                raise RuntimeError(message)
            yield GitHubProcess(url)
        finally:
            process.terminate()
