"""Waiting for a condition, never for a time, and reporting figures."""

import asyncio
import sys
import time
from collections.abc import Callable

# Seconds. Longer than any promise of the service, so that a broken one is seen.
PATIENCE = 15.0
POLL = 0.02


async def until(
    condition: Callable[[], object], otherwise: str, seconds: float = 4 * PATIENCE
) -> None:
    """Wait until the condition holds, without blocking the event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(POLL)


def eventually(
    condition: Callable[[], object],
    otherwise: Callable[[], str] = lambda: "it did not happen in time",
    seconds: float = 4 * PATIENCE,
) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(POLL)


def tell(text: object) -> None:
    """Write figures, which `pytest -rP` or `-s` shows."""
    sys.stdout.write(f"{text}\n")
