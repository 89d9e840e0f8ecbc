"""POST: the time that it adds to GitHub's own, and its throughput."""

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import urlsplit

from lab.bench import meter
from lab.bench.client import Client, ask_github, track
from lab.bench.database import postmaster
from lab.bench.servers import OURS, TOKEN, running
from lab.github.process import github_process
from lab.service import Service

_BUSY_LATENCY = 0.1
_CLIENTS = 100
_CALLS_AT_ONCE = 20


@dataclass
class Posts:
    """What POSTs one after the other cost, in milliseconds, for each repeat."""

    added: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def one_by_one(database_url: str, *, latency: float, repeats: int, pairs: int) -> Posts:
    """Measure the median time of a POST less that of GitHub asked directly, and what it costs.

    One request at a time, in turn to GitHub, which takes `latency` seconds, and to the service.
    The processor time is that of the service and of PostgreSQL.
    """

    async def measure(server: Service, github_port: int) -> Posts:
        service, github = await Client.connect(server.port), await Client.connect(github_port)
        pids = server.process.pid, postmaster(database_url)
        for _ in range(10):
            await ask_github(github)
            await track(service)
        posts = Posts()
        for _ in range(repeats):
            direct, through = [], []
            before = [meter.time_of(pid) for pid in pids]
            for _ in range(pairs):
                started = time.perf_counter()
                await ask_github(github)
                between = time.perf_counter()
                if (status := await track(service)) != 201:
                    raise RuntimeError(f"The service answers {status} to a POST.")
                direct.append(between - started)
                through.append(time.perf_counter() - between)
            after = [meter.time_of(pid) for pid in pids]
            posts.added.append((median(through) - median(direct)) * 1000)
            spent = sum(a.total - b.total for a, b in zip(after, before, strict=True))
            posts.processor.append(spent / pairs * 1000)
        service.close()
        github.close()
        return posts

    with github_process("--generate", "--token", TOKEN, "--latency", str(latency)) as github:
        url = github.url
        with running(OURS, database_url, GITHUB_API_URL=url) as server:
            return asyncio.run(measure(server, urlsplit(url).port or 0))


def throughput(database_url: str, *, repeats: int, seconds: float) -> tuple[list[float], int]:
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
        running(OURS, database_url, GITHUB_API_URL=github.url) as server,
    ):
        return asyncio.run(measure(server.port))
