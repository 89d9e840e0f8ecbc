"""The tests' stand-in for GitHub in a container, where the others find it as `github`."""

import asyncio
import signal
import sys

from tests.support.github import GitHub
from tests.support.loopback import Connection

PORT = 8000
PLENTY = 10**9


async def main(token: str) -> None:
    """Serve whatever is asked for, to who has the token, until told to stop."""
    github = GitHub()
    github.token, github.latency = token, 0.05
    github.generate, github.keep_calls = True, False
    for budget in (github.anonymous, github.authorised):
        budget.limit = budget.remaining = PLENTY
    # Not by its own method, which listens to this container alone.
    github.url = f"http://github:{PORT}"
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    connections: set[Connection] = set()
    await loop.create_server(
        lambda: Connection(github, connections),
        "0.0.0.0",  # noqa: S104
        PORT,
        backlog=2048,
    )
    await stopped.wait()


asyncio.run(main(sys.argv[1]))
