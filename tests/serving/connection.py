"""A connection to the service that sends bytes as they are, and reads answers one by one."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from lab.service import Service

PATIENCE = 10
HOST = b"Host: localhost\r\n"
NOWHERE = b"/repos/00000000-0000-4000-8000-000000000000"
READ = b"GET %b HTTP/1.1\r\n" % NOWHERE + HOST
TRACK = b"POST /repos HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connection:
    """One connection to the service."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes at once, without waiting for more."""
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """Return the next answer."""
        status = int(self._stream.readline().split()[1])
        headers = http.client.parse_headers(self._stream)
        body = self._stream.read(int(headers.get("Content-Length", 0)))
        return Answer(status, headers, body)

    def status(self) -> int:
        """Return the status of the next answer."""
        return self.answer().status

    def is_closed(self) -> bool:
        """Return whether nothing more comes, because the service closed the connection."""
        return self._stream.read(1) == b""

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()


@contextmanager
def connected(service: Service) -> Iterator[Connection]:
    """Open a connection while inside."""
    connection = Connection(service.port)
    try:
        yield connection
    finally:
        connection.close()


def reference() -> bytes:
    """Return the name of a repository that nobody tracks yet, as a body."""
    return json.dumps({"owner": "octocat", "repo_name": f"r{uuid4().hex}"}).encode()


def with_length(body: bytes) -> bytes:
    """Return the end of a request with this body."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(*chunks: bytes) -> bytes:
    """Return the end of a request with a body of these chunks."""
    framed = (b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return CHUNKED + b"\r\n" + b"".join(framed)
