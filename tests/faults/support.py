"""What all tests of faults need: to wait, and to say what they measured."""

import asyncio
import sys
import time
from collections.abc import Callable

# Seconds. Longer than any promise, so that a broken one is seen for what it is.
PATIENCE = 15.0
POLL = 0.02


async def until(
    condition: Callable[[], object], otherwise: str, seconds: float = 2 * PATIENCE
) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(POLL)


def tell(text: object) -> None:
    """Write figures where `pytest -rP` or `-s` shows them."""
    sys.stdout.write(f"{text}\n")
