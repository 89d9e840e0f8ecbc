"""From the start of the service to its first answer, the embedded PostgreSQL included."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from lab.bench.servers import OURS, get, running
from lab.service import PATIENCE


def seconds_to_first_answer(
    data_dir: Path, server_url: str, known: UUID, *, repeats: int
) -> list[float]:
    """Return how long each start took; no other process may use the PostgreSQL in `data_dir`."""
    port = urlsplit(server_url).port or 0
    results = []
    for _ in range(repeats):
        _wait_until_closed(port)
        started = time.perf_counter()
        with running(OURS, "", DATA_DIR=str(data_dir)) as server:
            answer = get(server, f"/repos/{known}")
            results.append(time.perf_counter() - started)
            if answer.status != 200:
                raise RuntimeError(f"The first answer was {answer.status}: {answer.read()!r}")
    _wait_until_closed(port)
    return results


def _wait_until_closed(port: int) -> None:
    """Wait until PostgreSQL has stopped, and half a second more for its supervisor."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL is still running; does another service use it?")
