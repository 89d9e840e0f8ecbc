"""Closing a connection so that the client still reads the answer."""

import asyncio
from typing import Any

# Bytes that are read and dropped after an answer, so that the client can read it.
LARGEST_REST = 32 * 1024 * 1024


class LingeringTransport:
    """A transport whose `close()` goes on reading while the client is still sending.

    A system resets a connection that is closed while data arrives, and the client loses the answer
    with it (RFC 9112, section 9.6). Instead, only our side is closed at first, and `drop()` takes
    what still comes. The user of this class sets a time limit, and calls `close()` again to end it.
    """

    def __init__(self, transport: asyncio.Transport, sending_since: float | None) -> None:
        # When the client began to send a request; None if it has sent all of it.
        self.sending_since = sending_since
        self._transport = transport
        self._rest = LARGEST_REST
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        """Return what is the same for every transport."""
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        """Send what is written, and close the connection when the client has sent the rest."""
        if self.is_closing() or self.sending_since is None:
            self._transport.close()
        else:
            self._lingers = True
            self._transport.write_eof()
            self._transport.resume_reading()

    def drop(self, data: bytes) -> None:
        """Take data that nobody reads; too much of it aborts the connection."""
        self._rest -= len(data)
        if self._rest < 0:
            self._transport.abort()
