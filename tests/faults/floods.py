"""Many connections and endless requests, and what other callers see of the service meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lab.processes import memory, open_files
from lab.service import Service
from tests.faults.postgresql import CONNECTIONS
from tests.faults.raw_http import READ, ask, status
from tests.support.waiting import tell, until

MOST_MEMORY = 150  # MB of one worker, whatever is sent to it.
MOST_WAIT = 2.0  # Seconds that the request of another caller takes meanwhile.
MANY = 1000


@dataclass
class Probes:
    """What another caller measured: seconds of each request, MB of the service."""

    waits: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.waits)} probes, at most {max(self.waits):.2f} s each; "
            f"memory {self.memory[0]:.0f} MB before, at most {max(self.memory):.0f} MB"
        )

    def more(self, count: int = 20) -> Callable[[], bool]:
        """Return a condition: `count` more probes were answered from now."""
        enough = len(self.waits) + count
        return lambda: len(self.waits) >= enough


@asynccontextmanager
async def others_are_served(service: Service) -> AsyncIterator[Probes]:
    """Check, while inside, that others are served and memory is bounded; and both afterwards."""
    pid, probes = service.process.pid, Probes()
    files = open_files(pid)
    probes.memory.append(memory(pid))

    async def probe() -> None:
        # Not ended by cancel(), which wait_for() of Python 3.11 may swallow.
        while not over.is_set():
            started = time.monotonic()
            answer = await ask(service, READ + b"Connection: close\r\n\r\n")
            probes.waits.append(time.monotonic() - started)
            probes.memory.append(memory(pid))
            assert status(answer) == 404
            assert probes.memory[-1] < 2 * MOST_MEMORY, "it would go on growing"
            await asyncio.sleep(0.05)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        await until(lambda: probes.waits, "nobody was served before it began")
        yield probes
        over.set()
    tell(probes)
    assert max(probes.waits) < MOST_WAIT
    assert max(probes.memory) < MOST_MEMORY
    await until(lambda: open_files(pid) <= files + CONNECTIONS, "connections were left open")
    assert memory(pid) < MOST_MEMORY


@asynccontextmanager
async def connections(
    service: Service, count: int = MANY
) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Keep this many connections open while inside."""
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writers.append(writer)
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def send_endlessly(service: Service, begin: bytes, piece: bytes, *, most: int) -> int:
    """Send pieces and read nothing until the connection is closed; return the bytes sent."""
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
