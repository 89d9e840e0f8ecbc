"""A small HTTP/1.1 server: reads requests, counts them, and sends answers when they may go."""

import asyncio
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Protocol, cast

from lab.github.answers import Answer

CONTROL = "/_control"
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)
    at: float = field(default_factory=time.monotonic)


def alarm() -> tuple[Awaitable[None], Callable[[], object]]:
    """Return an awaitable, and a function that ends the wait from any thread."""
    loop = asyncio.get_running_loop()
    rings: asyncio.Future[None] = loop.create_future()

    def ring() -> None:
        if not rings.done():
            rings.set_result(None)

    def wake() -> None:
        with suppress(RuntimeError):  # The loop that waited is closed.
            loop.call_soon_threadsafe(ring)

    return rings, wake


class Traffic:
    """The requests that arrived, and a gate for the answers; usable from any thread."""

    def __init__(self) -> None:
        """Begin without a request."""
        super().__init__()
        self.calls: list[Call] = []
        self.keep_calls = True
        self.count = self.in_flight = self.concurrent_peak = 0
        self.held = False
        self._lock = threading.Lock()
        self._wake: list[Callable[[], object]] = []
        self._expecting: list[tuple[int, Callable[[], object]]] = []

    @property
    def paths(self) -> list[str]:
        """Return the paths that were asked for, in order."""
        return [call.path for call in self.calls]

    def hold(self) -> None:
        """Keep back all answers from now on."""
        self.held = True

    def release(self) -> None:
        """Send the answers that were kept back, and keep back no more."""
        with self._lock:
            self.held = False
            wake, self._wake = self._wake, []
        for waker in wake:
            waker()

    async def called(self, count: int) -> None:
        """Wait until `count` requests have arrived since the beginning."""
        arrived, wake = alarm()
        with self._lock:
            if self.count >= count:
                return
            self._expecting.append((count, wake))
        try:
            await asyncio.wait_for(arrived, PATIENCE)
        except TimeoutError:
            message = f"{self.count} requests arrived, not {count}"
            raise AssertionError(message) from None

    def note(self, call: Call) -> None:
        """Count a request that has arrived, and wake those who wait for it."""
        with self._lock:
            self.count += 1
            if self.keep_calls:
                self.calls.append(call)
            self.in_flight += 1
            self.concurrent_peak = max(self.concurrent_peak, self.in_flight)
            due = [wake for count, wake in self._expecting if count <= self.count]
            self._expecting = [item for item in self._expecting if item[0] > self.count]
        for wake in due:
            wake()

    async def wait_for_leave(self, delay: float) -> None:
        """Wait while answers are kept back, and then for the delay in seconds."""
        with self._lock:
            if self.held:
                leave, wake = alarm()
                self._wake.append(wake)
            else:
                leave = None
        if leave is not None:
            await leave
        if delay:
            await asyncio.sleep(delay)


class Host(Protocol):
    """What decides on the answers."""

    latency: float
    held: bool
    in_flight: int
    close_after_each: bool
    violations: list[str]

    def arrived(self, call: Call) -> Answer:
        """Count a request and choose its answer."""

    def control(self, call: Call) -> Answer:
        """Carry out an order."""

    def bytes_of(self, answer: Answer, call: Call) -> tuple[bytes, bytes]:
        """Return head and body."""

    async def wait_for_leave(self, delay: float) -> None:
        """Wait until an answer may go."""


class Connection(asyncio.Protocol):
    """One client, answered one request after another."""

    def __init__(self, github: Host, others: set["Connection"]) -> None:
        """Belong to a stand-in."""
        self.github, self.others = github, others
        self.buffer = bytearray()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.others.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop answering."""
        self.others.discard(self)
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Collect requests and answer them in turn."""
        self.buffer += data
        self.pump()

    def pump(self) -> None:
        """Answer at once what can be answered at once, and the rest in a task."""
        while self.task is None and not self.transport.is_closing():
            if (call := self.take()) is None:
                return
            if call.path == CONTROL:
                self.send(call, self.github.control(call))
                continue
            answer = self.github.arrived(call)
            if answer.wire or answer.delay or self.github.latency or self.github.held:
                self.task = asyncio.ensure_future(self.send_later(call, answer))
                self.task.add_done_callback(self.sent)
            else:
                self.github.in_flight -= 1
                self.send(call, answer)

    def take(self) -> Call | None:
        """Take one whole request out of the buffer; return None while none is complete."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "")
        body_end = end + 4 + (int(length) if length.isdecimal() else 0)
        if len(self.buffer) < body_end:
            return None
        method, _, rest = first.partition(" ")
        body = bytes(self.buffer[end + 4 : body_end])
        del self.buffer[:body_end]
        return Call(method, rest.rpartition(" ")[0], headers, body)

    def send(self, call: Call, answer: Answer) -> None:
        """Send an answer at once."""
        self.write(b"".join(self.github.bytes_of(answer, call)))
        if self.github.close_after_each or call.headers.get("connection") == "close":
            self.close()

    async def send_later(self, call: Call, answer: Answer) -> None:
        """Send an answer late, or in a broken way."""
        await self.github.wait_for_leave(answer.delay or self.github.latency)
        if answer.wire is None:
            self.send(call, answer)
        else:
            await answer.wire(self, *self.github.bytes_of(answer, call))

    def sent(self, task: asyncio.Task[None]) -> None:
        """Go on with the next request."""
        self.task = None
        self.github.in_flight -= 1
        if not task.cancelled() and (error := task.exception()):
            self.github.violations.append(f"the stand-in itself failed: {error!r}")
            self.abort()
        self.pump()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    def close(self) -> None:
        """Close, after what was written."""
        self.transport.close()

    def abort(self) -> None:
        """Reset the connection: the client gets an error and not an end of file."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        self.transport.abort()
