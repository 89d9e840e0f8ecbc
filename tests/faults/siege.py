"""A siege: what comes at the service from many sides, and what others see of it meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.postgresql import CONNECTIONS
from tests.faults.processes import Worker
from tests.faults.raw_http import READ, ask, status
from tests.faults.support import tell, until
from tests.support.service import Service

MOST_MEMORY = 150  # MB of one worker, whatever comes.
MOST_WAIT = 2.0  # Seconds that somebody else's request takes meanwhile.
CROWD = 1000


@dataclass
class Watch:
    """What others saw of the service while it was under siege."""

    waits: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in figures."""
        return (
            f"{len(self.waits)} probes, at most {max(self.waits):.2f} s each; "
            f"memory {self.memory[0]:.0f} MB before, at most {max(self.memory):.0f} MB"
        )


@asynccontextmanager
async def besieged(service: Service) -> AsyncIterator[Watch]:
    """Watch, while inside, that others are served and memory is bounded; then, that all is back."""
    worker, watch = Worker(service.process.pid), Watch()
    files = worker.files
    watch.memory.append(worker.memory)

    async def probe() -> None:
        # Not ended by cancel(), which wait_for() of Python 3.11 may swallow.
        while not over.is_set():
            started = time.monotonic()
            answer = await ask(service, READ + b"Connection: close\r\n\r\n")
            watch.waits.append(time.monotonic() - started)
            watch.memory.append(worker.memory)
            assert status(answer) == 404
            assert watch.memory[-1] < 2 * MOST_MEMORY, "it would go on growing"
            await asyncio.sleep(0.05)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        await until(lambda: watch.waits, "nobody was served before it began")
        yield watch
        over.set()
    tell(watch)
    assert max(watch.waits) < MOST_WAIT
    assert max(watch.memory) < MOST_MEMORY
    await until(lambda: worker.files <= files + CONNECTIONS, "connections were left open")
    assert worker.memory < MOST_MEMORY


def seen(watch: Watch, probes: int = 20) -> Callable[[], bool]:
    """Return whether so many more probes were answered."""
    enough = len(watch.waits) + probes
    return lambda: len(watch.waits) >= enough


@asynccontextmanager
async def crowd(service: Service, size: int = CROWD) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Hold this many connections open while inside."""
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(size):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writers.append(writer)
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def pour(service: Service, begin: bytes, piece: bytes, *, most: int) -> int:
    """Send pieces, reading nothing, until the service hangs up; return how many bytes it took."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    sent = 0
    try:
        writer.write(begin)
        while sent < most:
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), 10)
            sent += len(piece)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return sent
