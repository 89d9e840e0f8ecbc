"""The stand-in for GitHub as a program: `python -m lab.github --port 0 --latency 0.1 --generate`.

It prints its address on the first line. `POST /_control` then changes it, `GET /_control` reports.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from typing import Any

from lab.github.loopback import alarm
from lab.github.server import LOOPBACK, GitHub


async def _process(options: argparse.Namespace) -> None:
    """Serve until a signal arrives."""
    github = GitHub(options.prefix)
    github.token, github.latency = options.token, options.latency
    github.generate, github.keep_calls = options.generate, False
    for budget in (github.anonymous, github.authorised):
        budget.limit = budget.remaining = options.remaining
    if options.index:
        github.load_index(options.index)
    stopped, stop = alarm()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has no signal handlers in a loop.
            asyncio.get_running_loop().add_signal_handler(number, stop)
    async with github.listening(options.port, host=options.host, origin=options.url):
        sys.stdout.write(f"{github.url}\n")
        sys.stdout.flush()
        await stopped


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m lab.github", description=__doc__)
    options: Any = parser.add_argument
    options("--host", default=LOOPBACK, help="the address to listen on")
    options("--port", type=int, default=0)
    options("--url", default="", help="its address, if clients know it by another one")
    options("--index", help="JSON lines with id, full_name, stargazers_count")
    options("--latency", type=float, default=0.0, help="seconds before each answer")
    options("--generate", action="store_true", help="make up whatever is asked for")
    options("--remaining", type=int, default=10**9, help="requests until the hourly limit")
    options("--token", help="the token that requests must carry; else they must carry none")
    options("--prefix", default="", help="for example /api/v3")
    asyncio.run(_process(parser.parse_args()))


if __name__ == "__main__":
    main()
