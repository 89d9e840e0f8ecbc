"""The stand-in for GitHub as a process of its own, for tests of the real server and for loads."""

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

from .loopback import CONTROL, PATIENCE

PACKAGE = __package__ or "tests.support"


@dataclass(frozen=True)
class GitHubProcess:
    """A stand-in elsewhere, known by its address."""

    url: str

    def report(self) -> dict[str, Any]:
        """Ask for the count of calls and the violations."""
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
    command = [sys.executable, "-m", f"{PACKAGE}.github", *arguments]
    top = Path(__file__).parents[PACKAGE.count(".") + 1]
    with subprocess.Popen(command, cwd=top, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                message = "the stand-in for GitHub did not start"
                raise RuntimeError(message)
            yield GitHubProcess(url)
        finally:
            process.terminate()
