"""POST: the time that it adds to GitHub's own, and how many it gets through."""

import asyncio
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench.client import Client, ask_github, track
from bench.servers import OURS, TOKEN, running
from tests.support.process import github_process

_QUIET_LATENCY = 0.05
_BUSY_LATENCY = 0.1
_CLIENTS = 100
_CALLS_AT_ONCE = 20


def added_milliseconds(database_url: str, folder: Path, *, repeats: int, pairs: int) -> list[float]:
    """Return, for each repeat, the median time of a POST less that of GitHub asked directly.

    One request at a time, in turn to GitHub and to the service.
    """

    async def measure(port: int, github_port: int) -> list[float]:
        service, github = await Client.connect(port), await Client.connect(github_port)
        for _ in range(10):
            await ask_github(github)
            await track(service)
        results = []
        for _ in range(repeats):
            direct, through = [], []
            for _ in range(pairs):
                started = time.perf_counter()
                await ask_github(github)
                between = time.perf_counter()
                await track(service)
                direct.append(between - started)
                through.append(time.perf_counter() - between)
            results.append((median(through) - median(direct)) * 1000)
        service.close()
        github.close()
        return results

    with github_process("--generate", "--token", TOKEN, "--latency", str(_QUIET_LATENCY)) as github:
        url = github.url
        with running(OURS, database_url, folder, GITHUB_API_URL=url) as server:
            return asyncio.run(measure(server.port, urlsplit(url).port or 0))


def throughput(
    database_url: str, folder: Path, *, repeats: int, seconds: float
) -> tuple[list[float], int]:
    """Return, for each repeat, records made per second as a share of what 20 calls at once allow.

    And how many POSTs failed.
    """
    allowed = _CALLS_AT_ONCE / _BUSY_LATENCY

    async def measure(port: int) -> tuple[list[float], int]:
        done = failed = 0
        stopping = False

        async def post() -> None:
            nonlocal done, failed
            client = await Client.connect(port)
            while not stopping:
                if await track(client) == 201:
                    done += 1
                else:
                    failed += 1
            client.close()

        posts = [asyncio.create_task(post()) for _ in range(_CLIENTS)]
        await asyncio.sleep(2)
        shares = []
        for _ in range(repeats):
            before, started = done, time.perf_counter()
            await asyncio.sleep(seconds)
            shares.append((done - before) / (time.perf_counter() - started) / allowed)
        stopping = True
        await asyncio.gather(*posts)
        return shares, failed

    with (
        github_process("--generate", "--token", TOKEN, "--latency", str(_BUSY_LATENCY)) as github,
        running(OURS, database_url, folder, GITHUB_API_URL=github.url) as server,
    ):
        return asyncio.run(measure(server.port))
