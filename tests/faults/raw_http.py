"""HTTP in bytes, as no client library would send it, and the bytes of the answer."""

import asyncio

from lab.service import Service
from tests.support.waiting import PATIENCE

NOWHERE = "/repos/00000000-0000-4000-8000-000000000000"
HEAD = b"Host: localhost\r\n"
READ = f"GET {NOWHERE} HTTP/1.1\r\n".encode() + HEAD
TRACK = b"POST /repos HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


class Caller(asyncio.Protocol):
    """Sends a request and keeps the answer, even if the connection is reset after it."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answer = b""
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self.answer += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that nothing more will come."""
        self.over.set()


async def ask(service: Service, request: bytes, patience: float = 2 * PATIENCE) -> bytes:
    """Return what comes back for these bytes until the service closes the connection."""
    loop = asyncio.get_running_loop()
    caller = Caller(request)
    transport, _ = await loop.create_connection(lambda: caller, "127.0.0.1", service.port)
    try:
        await asyncio.wait_for(caller.over.wait(), patience)
    finally:
        transport.abort()
    return caller.answer


def status(answer: bytes) -> int:
    """Return the status of an answer, 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0
