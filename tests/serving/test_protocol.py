"""The protocol, byte by byte: requests that ask for another one are answered all the same."""

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from app.serving.protocol import LARGEST_REQUEST
from app.web.routing import LARGEST_BODY
from lab.service import Service

PATIENCE = 10
HOST = b"Host: localhost\r\n"
READ = b"GET /repos/00000000-0000-4000-8000-000000000000 HTTP/1.1\r\n" + HOST
TRACK = b"POST /repos HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
)
UPGRADES = {
    "HTTP/2, as curl asks": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    ),
    "a WebSocket": WEBSOCKET,
    "several": b"upgrade: TLS/1.2, h2c\r\nUPGRADE: foo/2\r\nconnection: keep-alive, upgrade\r\n",
}

upgrades = pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)


class Caller:
    """One connection to the service, bytes as they come."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes at once, without waiting for more."""
        self._socket.sendall(data)

    def status(self) -> int:
        """Return the status of the next answer, read to its end."""
        status = int(self._stream.readline().split()[1])
        headers = http.client.parse_headers(self._stream)
        self._stream.read(int(headers.get("Content-Length", 0)))
        return status

    def statuses(self, count: int) -> list[int]:
        """Return the statuses of the next answers."""
        return [self.status() for _ in range(count)]

    def is_hung_up_on(self) -> bool:
        """Whether nothing more comes, because the service has closed the connection."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Leave."""
        self._stream.close()
        self._socket.close()


@contextmanager
def calling(service: Service) -> Iterator[Caller]:
    caller = Caller(service.port)
    try:
        yield caller
    finally:
        caller.close()


def reference() -> bytes:
    """Return the name of a repository that nobody tracks yet, as a body."""
    return json.dumps({"owner": "octocat", "repo_name": f"r{uuid4().hex}"}).encode()


def with_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@upgrades
def test_a_request_for_another_protocol_keeps_its_body(service: Service, upgrade: bytes) -> None:
    with calling(service) as caller:
        caller.send(TRACK + upgrade + with_length(reference()))
        assert caller.status() == 201


@upgrades
def test_its_body_may_come_in_chunks(service: Service, upgrade: bytes) -> None:
    body = reference()
    with calling(service) as caller:
        caller.send(TRACK + upgrade + CHUNKED + b"\r\n" + in_chunks(body[:9], body[9:]))
        assert caller.status() == 201


@upgrades
def test_its_body_may_come_later(service: Service, upgrade: bytes) -> None:
    body = reference()
    expectation = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    with calling(service) as caller:
        caller.send(TRACK + upgrade + expectation)
        assert caller.status() == 100
        for byte in body:
            caller.send(bytes([byte]))
        assert caller.status() == 201


def test_its_body_is_never_taken_for_the_next_request(service: Service) -> None:
    body = READ + b"\r\n"
    expectation = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    with calling(service) as caller:
        caller.send(TRACK + UPGRADES["HTTP/2, as curl asks"] + expectation)
        assert caller.status() == 100
        caller.send(body + TRACK + with_length(reference()))
        assert caller.statuses(2) == [422, 201]


@upgrades
def test_its_head_may_come_byte_by_byte(service: Service, upgrade: bytes) -> None:
    with calling(service) as caller:
        for byte in TRACK + upgrade + with_length(reference()):
            caller.send(bytes([byte]))
        assert caller.status() == 201


@upgrades
def test_others_may_follow_it_without_waiting_for_answers(service: Service, upgrade: bytes) -> None:
    with calling(service) as caller:
        track = TRACK + upgrade + with_length(reference())
        in_pieces = TRACK + upgrade + CHUNKED + b"\r\n" + in_chunks(reference())
        read = READ + upgrade + b"\r\n"
        caller.send(READ + b"\r\n" + track + read + in_pieces + READ + b"\r\n")
        assert caller.statuses(5) == [404, 201, 404, 201, 404]


@upgrades
def test_the_connection_can_be_used_again_after_it(service: Service, upgrade: bytes) -> None:
    with calling(service) as caller:
        for _ in range(3):
            caller.send(TRACK + upgrade + with_length(reference()))
            assert caller.status() == 201


@pytest.mark.parametrize(
    "request_",
    [
        TRACK + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n",
        TRACK.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    ],
    ids=["close", "HTTP/1.0"],
)
def test_the_connection_is_closed_after_it_where_it_asks_for_that_too(
    service: Service, request_: bytes
) -> None:
    with calling(service) as caller:
        caller.send(request_ + with_length(reference()))
        assert caller.status() == 201
        assert caller.is_hung_up_on()


@pytest.mark.parametrize(("path", "status"), [(b"/docs", 200), (b"/nowhere", 404)])
def test_the_handshake_of_a_websocket_is_a_plain_get(
    service: Service, path: bytes, status: int
) -> None:
    with calling(service) as caller:
        caller.send(b"GET %b HTTP/1.1\r\n" % path + HOST + WEBSOCKET + b"\r\n")
        assert caller.status() == status


@upgrades
def test_a_body_that_is_too_large_is_refused_all_the_same(service: Service, upgrade: bytes) -> None:
    spaces = b" " * (LARGEST_BODY + 1)
    for body in (with_length(spaces), CHUNKED + b"\r\n" + in_chunks(spaces)):
        with calling(service) as caller:
            caller.send(TRACK + upgrade + body)
            assert caller.status() == 413
            assert caller.is_hung_up_on()


@pytest.mark.parametrize(
    "begin",
    [
        READ + WEBSOCKET + b"X-Endless: ",
        TRACK + WEBSOCKET + CHUNKED + b"\r\n1;",
        READ + WEBSOCKET + b"\r\n" + READ + WEBSOCKET + b"X-Endless: ",
    ],
    ids=["header", "extension of a chunk", "header of the next"],
)
def test_one_without_an_end_is_cut_off_all_the_same(service: Service, begin: bytes) -> None:
    with calling(service) as caller:
        caller.send(begin)
        with pytest.raises(ConnectionError):
            caller.send(b"a" * 100 * LARGEST_REQUEST)


def test_a_tunnel_is_refused(service: Service) -> None:
    for connect in (b"CONNECT localhost:443 HTTP/1.1\r\n", b"CONNECT /repos HTTP/1.1\r\n"):
        with calling(service) as caller:
            caller.send(connect + HOST + WEBSOCKET + b"\r\n" + READ + b"\r\n")
            assert caller.status() == 400
            assert caller.is_hung_up_on()


def curl_speaks_http2() -> bool:
    curl = shutil.which("curl")
    return bool(curl) and b"HTTP2" in subprocess.check_output([str(curl), "--version"])


@pytest.mark.skipif(not curl_speaks_http2(), reason="needs a curl that speaks HTTP/2")
def test_curl_may_prefer_http2(service: Service) -> None:
    command = ["curl", "--silent", "--http2", "--data", reference().decode()]
    written = subprocess.check_output(
        [*command, "--header", "Content-Type: application/json", f"{service.url}/repos"]
    )
    assert json.loads(written)["owner"] == "octocat"


def test_nothing_of_this_was_worth_a_warning_but_the_tunnels(service: Service) -> None:
    """The last of the tests of this process."""
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    events = {line["event"] for line in lines if line["level"] not in {"info", "debug"}}
    assert events <= {"Invalid HTTP request received."}
