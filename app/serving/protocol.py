"""HTTP/1.1 on uvicorn and httptools, with bounds, and with offers to upgrade ignored.

Both classes override methods that uvicorn does not document, so pyproject.toml bounds its version.
Another way out is uvicorn's own `--http zttp`, once it is no longer experimental (it is in 0.54):
that parser reads on after `Upgrade`.
"""

import asyncio
from typing import Any, cast

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.logs import new_request_id
from app.serving.lingering import LingeringTransport
from app.web.errors import MalformedRequest
from app.web.problems import details
from app.web.routing import LARGEST_BODY

# Bytes of a request without its body: the application limits that, and uvicorn pauses reading while
# the application does not read.
LARGEST_REQUEST = 256 * 1024
# Seconds from the opening of a connection, or from a request's first byte, to its last byte.
REQUEST_TIME = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """Limits the bytes and seconds of a request, and answers one request at a time.

    A connection that pipelines is closed after the answer to its first request. The others are not
    parsed, and the client can send them again (RFC 9112, section 9.3.2). An answer before the end
    of its request closes the connection too.
    """

    transport: LingeringTransport  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._size = 0
        self._room = LARGEST_BODY + 1
        self._drops = False
        self._keeps_alive = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the time."""
        lingering = LingeringTransport(transport, sending_since=self.loop.time())
        super().connection_made(cast("asyncio.Transport", lingering))
        self._timer = self.loop.call_later(REQUEST_TIME / 2, self._check_time)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch the time."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _check_time(self) -> None:
        since = self.transport.sending_since
        if since is not None and self.loop.time() - since > REQUEST_TIME:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(REQUEST_TIME / 2, self._check_time)

    def shutdown(self) -> None:
        """Close the connection after the answer that is under way; without one, now."""
        self._keeps_alive = False
        super().shutdown()
        if self.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse the data, or drop it if the connection is about to be closed."""
        if self._drops or self.transport.is_closing():
            self.transport.drop(data)
            return
        if self._is_unanswered():
            self._close_after_answer()
            return
        self._begin_request()
        self._size += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._reject()
        if self._size > LARGEST_REQUEST and not self.transport.is_closing():
            self._reject()

    def _begin_request(self) -> None:
        if self.transport.sending_since is None:
            self._unset_keepalive_if_required()
            self.transport.sending_since = self.loop.time()
            self.cycle = None  # type: ignore[assignment]

    def _is_unanswered(self) -> bool:
        """Return whether a whole request has been received and its answer not been sent."""
        return self.transport.sending_since is None and not self.cycle.response_complete

    def _close_after_answer(self) -> None:
        self._drops = True
        self.transport.sending_since = self.loop.time()
        self.cycle.keep_alive = False

    def _reject(self) -> None:
        """Answer 400 if nothing was answered yet, and close the connection."""
        if self._is_unanswered():
            self._close_after_answer()
            return
        is_answered = False
        if self.cycle is not None:  # The application has the head of this request.
            is_answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.cycle.body.clear()
        if not is_answered:
            self.logger.warning("Invalid HTTP request received.")
            self.transport.write(_malformed_request())
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request; raise an error, which stops the parser, if one is unanswered."""
        if self._is_unanswered():
            raise BlockingIOError
        self._begin_request()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the application; keep trailers, which come later, out of the headers."""
        super().on_headers_complete()
        self.headers = []
        self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        """Keep the body only until the application can see that it is too large."""
        self._size -= len(body)
        kept, self._room = body[: self._room], max(0, self._room - len(body))
        if kept:
            super().on_body(kept)

    def on_response_complete(self) -> None:
        """Free the memory of a body that the application did not read."""
        self.cycle.body.clear()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """End the request."""
        self.transport.sending_since = None
        self._size = 0
        self._room = LARGEST_BODY + 1
        self.cycle.keep_alive = self._keeps_alive and not self.cycle.response_started
        super().on_message_complete()


class UpgradeIgnoringProtocol(BoundedProtocol):
    """Answers a request that offers an upgrade as if it did not (RFC 9110, section 7.8).

    httptools stops after the head of such a request, and uvicorn loses its body; Java's HttpClient
    offers `Upgrade: h2c` by default. Delete this class when Kludex/uvicorn#2722 is closed.
    """

    def data_received(self, data: bytes) -> None:
        """Parse the data; a head with an upgrade is parsed again without it."""
        try:
            super().data_received(data)
        except HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self._reject()
                return
            head = self._head_without_upgrade()
            self.parser = HttpRequestParser(self)
            self.data_received(head + data[upgrade.args[0] :])

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        """Ignore the first pass over a head with an upgrade."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Ignore the end that httptools sees after a head with an upgrade."""
        if not self.parser.should_upgrade():
            super().on_message_complete()


def _malformed_request() -> bytes:
    # From here no middleware adds an id, and uvicorn's own 400 is plain text.
    body = orjson.dumps(details(MalformedRequest(), "/"))
    return (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
        b"cache-control: no-store\r\nconnection: close\r\nx-request-id: %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (new_request_id().encode(), len(body), body)
    )
