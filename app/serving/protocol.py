"""HTTP as uvicorn speaks it, with bounds on what one connection may cost."""

import asyncio
from typing import Any

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import MalformedRequest
from app.logs import new_request_id
from app.web.problems import details

# Bytes of one request, head and body. A longer body is answered 413 before this is reached.
LARGEST_REQUEST = 256 * 1024
# Seconds from a connection, or a request's first byte, to the request's last.
PATIENCE = 30.0
# Requests are parsed by so many bytes, and held as bytes while others wait before them: parsed
# they take a hundred times as much memory.
PIECE = 4096
MOST_HELD = 1024 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections that send a request too slowly or without an end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began: float | None = self.loop.time()
        self._size = 0
        self._held = b""
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._watching = self.loop.call_later(PATIENCE / 2, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nothing behind."""
        self._watching.cancel()
        self._give_up()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.transport.is_closing():
            return
        if self._began is not None and self.loop.time() - self._began > PATIENCE:
            self._hang_up()
        else:
            self._watching = self.loop.call_later(PATIENCE / 2, self._watch)

    def _hang_up(self) -> None:
        """Close the connection, whether or not the client reads what was written."""
        self._give_up()
        self.transport.abort()

    def _give_up(self) -> None:
        # Uvicorn tells only the last of several requests that nobody waits for its answer.
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as its turn has come."""
        if self._held or self.pipeline:
            self._hold(data)
        elif len(data) <= PIECE:
            self._parse(data)
        else:
            self._parse_in_pieces(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > MOST_HELD:
            self._hang_up()

    def _parse_in_pieces(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing():
                return
            if self.pipeline:
                self._hold(data[start:])
                return
            self._parse(data[start : start + PIECE])

    def _parse(self, data: bytes) -> None:
        if self._began is None:
            self._began = self.loop.time()
        self._size += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("")
        if self._size > LARGEST_REQUEST and not self.transport.is_closing():
            if self._answering is not None and not self._answering.response_complete:
                self.transport.close()
            else:
                self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        """Parse; the parser stops where a request asks for another protocol.

        A server may ignore that (RFC 9110, section 7.8): the request is parsed again without it.
        """
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                # One that has seen `Connection: close` would take no more.
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise HttpParserError("CONNECT asks for a tunnel without any header")
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join(
            [b"%b %b HTTP/%b" % (method, self.url, version.encode()), *fields, b"", b""]
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """Begin to watch a request that comes together with the end of another, too."""
        super().on_message_begin()
        if self._began is None:
            self._began = self.loop.time()

    def on_headers_complete(self) -> None:
        """Let the request begin; a trailer that comes after its body is none of its headers."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.headers = []

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        if not self.parser.should_upgrade():
            self._began = None
            self._size = 0
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what was held."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        # What waited here for its turn is not late.
        self._began = self._began and self.loop.time()
        if self.pipeline:
            self.flow.pause_reading()
        elif self._held:
            held, self._held = self._held, b""
            self._parse_in_pieces(held)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (It is plain text.)
        """Answer with a problem, and close the connection."""
        body = orjson.dumps(details(MalformedRequest(), "/"))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            b"cache-control: no-store\r\nconnection: close\r\nx-request-id: %b\r\n"
            b"content-length: %d\r\n\r\n%b" % (new_request_id().encode(), len(body), body)
        )
        self.transport.close()
