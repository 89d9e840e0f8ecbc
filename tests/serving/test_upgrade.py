"""Requests that offer to upgrade to another protocol: each is answered as if it did not."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from app.serving.lingering import LARGEST_REST
from app.web.routing import LARGEST_BODY
from lab.service import Service
from tests.serving.connection import (
    CHUNKED,
    HOST,
    READ,
    TRACK,
    connected,
    in_chunks,
    reference,
    with_length,
)

WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
)
HTTP2 = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)
UPGRADES = {
    "HTTP/2, as curl offers it": HTTP2,
    "a WebSocket": WEBSOCKET,
    "several": b"upgrade: TLS/1.2, h2c\r\nUPGRADE: foo/2\r\nconnection: keep-alive, upgrade\r\n",
}

upgrades = pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)


@pytest.fixture(scope="module", autouse=True)
def _no_warning(service: Service) -> Iterator[None]:
    """Fail if the service logged a warning, except of a request that is invalid."""
    yield
    lines = [json.loads(line) for line in service.log if line.startswith("{")]
    events = {line["event"] for line in lines if line["level"] not in {"info", "debug"}}
    assert events <= {"Invalid HTTP request received."}


@upgrades
def test_the_body_of_a_request_with_an_upgrade_is_read(service: Service, upgrade: bytes) -> None:
    with connected(service) as connection:
        connection.send(TRACK + upgrade + with_length(reference()))
        assert connection.status() == 201


@upgrades
def test_its_body_may_come_in_chunks(service: Service, upgrade: bytes) -> None:
    body = reference()
    with connected(service) as connection:
        connection.send(TRACK + upgrade + in_chunks(body[:9], body[9:]))
        assert connection.status() == 201


@upgrades
def test_its_body_may_come_later(service: Service, upgrade: bytes) -> None:
    body = reference()
    with connected(service) as connection:
        connection.send(TRACK + upgrade + b"Expect: 100-continue\r\n")
        connection.send(b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.status() == 100
        for byte in body:
            connection.send(bytes([byte]))
        assert connection.status() == 201


def test_its_body_is_never_taken_for_a_request(service: Service) -> None:
    body = READ + b"\r\n"
    with connected(service) as connection:
        connection.send(TRACK + HTTP2 + b"Expect: 100-continue\r\n")
        connection.send(b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.status() == 100
        connection.send(body)
        assert connection.status() == 422
        connection.send(TRACK + with_length(reference()))
        assert connection.status() == 201


@upgrades
def test_its_head_may_come_byte_by_byte(service: Service, upgrade: bytes) -> None:
    with connected(service) as connection:
        for byte in TRACK + upgrade + with_length(reference()):
            connection.send(bytes([byte]))
        assert connection.status() == 201


@upgrades
def test_the_connection_can_be_used_again(service: Service, upgrade: bytes) -> None:
    with connected(service) as connection:
        for _ in range(3):
            connection.send(TRACK + upgrade + with_length(reference()))
            assert connection.status() == 201


@upgrades
def test_a_pipelined_one_is_not_answered(service: Service, upgrade: bytes) -> None:
    with connected(service) as connection:
        connection.send((TRACK + upgrade + with_length(reference())) * 2)
        assert connection.status() == 201
        assert connection.is_closed()


@pytest.mark.parametrize(
    "request_",
    [
        TRACK + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n",
        TRACK.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    ],
    ids=["close", "HTTP/1.0"],
)
def test_the_connection_is_closed_if_the_request_asks_for_that_too(
    service: Service, request_: bytes
) -> None:
    with connected(service) as connection:
        connection.send(request_ + with_length(reference()))
        assert connection.status() == 201
        assert connection.is_closed()


@pytest.mark.parametrize(("path", "status"), [(b"/docs", 200), (b"/nowhere", 404)])
def test_the_handshake_of_a_websocket_is_a_plain_get(
    service: Service, path: bytes, status: int
) -> None:
    with connected(service) as connection:
        connection.send(b"GET %b HTTP/1.1\r\n" % path + HOST + WEBSOCKET + b"\r\n")
        assert connection.status() == status


@upgrades
def test_a_body_that_is_too_large_is_refused(service: Service, upgrade: bytes) -> None:
    spaces = b" " * (LARGEST_BODY + 1)
    for body in (with_length(spaces), in_chunks(spaces)):
        with connected(service) as connection:
            connection.send(TRACK + upgrade + body)
            assert connection.status() == 413
            assert connection.is_closed()


@pytest.mark.parametrize(
    "begin",
    [
        READ + WEBSOCKET + b"X-Endless: ",
        TRACK + WEBSOCKET + CHUNKED + b"\r\n1;",
        READ + WEBSOCKET + b"\r\n" + READ + WEBSOCKET + b"X-Endless: ",
    ],
    ids=["header", "extension of a chunk", "header of the next"],
)
def test_a_request_without_an_end_is_cut_off(service: Service, begin: bytes) -> None:
    with connected(service) as connection:
        connection.send(begin)
        with pytest.raises(ConnectionError):
            connection.send(b"a" * 2 * LARGEST_REST)


def test_a_tunnel_is_refused(service: Service) -> None:
    for connect in (b"CONNECT localhost:443 HTTP/1.1\r\n", b"CONNECT /repos HTTP/1.1\r\n"):
        with connected(service) as connection:
            connection.send(connect + HOST + WEBSOCKET + b"\r\n" + READ + b"\r\n")
            assert connection.status() == 400
            assert connection.is_closed()


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
