"""One connection, byte by byte: pipelined requests, refused bodies, and one answer for each."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.serving.protocol import LARGEST_REQUEST
from lab.github.process import GitHubProcess
from lab.service import Service
from tests.serving.connection import (
    CHUNKED,
    HOST,
    NOWHERE,
    PATIENCE,
    READ,
    TRACK,
    Answer,
    connected,
    in_chunks,
    reference,
    with_length,
)

KB = 1024
MB = 1024 * KB
# As many as are enough to see a reset connection, if one in fifty were reset.
TRIES = 100


def deleting(location: bytes) -> bytes:
    return b"DELETE %b HTTP/1.1\r\n" % location + HOST + b"\r\n"


def location(answer: Answer) -> bytes:
    assert answer.status == 201
    return answer.headers["Location"].encode()


@pytest.fixture
def record(service: Service) -> bytes:
    """The path of a record."""
    with connected(service) as connection:
        connection.send(TRACK + with_length(reference()))
        return location(connection.answer())


@pytest.fixture
def slow_github(generous_github: GitHubProcess) -> Iterator[GitHubProcess]:
    """GitHub, which takes half a second for each answer."""
    generous_github.order(latency=0.5)
    yield generous_github
    generous_github.order(latency=0.0)


def exists(service: Service, path: bytes) -> bool:
    with connected(service) as connection:
        connection.send(b"GET %b HTTP/1.1\r\n" % path + HOST + b"\r\n")
        return connection.status() == 200


# Pipelining


def test_a_pipelined_request_is_neither_answered_nor_executed(
    service: Service, record: bytes
) -> None:
    with connected(service) as connection:
        connection.send(READ + b"\r\n" + deleting(record))
        answer = connection.answer()
        assert (answer.status, answer.headers["Connection"]) == (404, "close")
        assert connection.is_closed()
    assert exists(service, record)


def test_a_request_that_comes_before_the_answer_is_not_executed(
    service: Service, record: bytes, slow_github: GitHubProcess
) -> None:
    with connected(service) as connection:
        calls = slow_github.report()["calls"]
        connection.send(TRACK + with_length(reference()))
        deadline = time.monotonic() + PATIENCE
        while slow_github.report()["calls"] == calls:
            assert time.monotonic() < deadline
        connection.send(deleting(record))
        assert connection.status() == 201
        assert connection.is_closed()
    assert exists(service, record)


def test_what_follows_a_pipelined_request_is_never_parsed(service: Service, record: bytes) -> None:
    with connected(service) as connection:
        connection.send(READ + b"\r\n" + b"\0 no HTTP at all" + deleting(record) * 5000)
        assert connection.status() == 404
        assert connection.is_closed()
    assert exists(service, record)


def test_requests_that_wait_for_the_answer_share_a_connection(service: Service) -> None:
    with connected(service) as connection:
        for _ in range(3):
            connection.send(TRACK + with_length(reference()))
            path = location(connection.answer())
            connection.send(b"\r\n" + deleting(path))
            assert connection.status() == 204


# Bodies that nobody wants


REFUSED = {
    "announced": with_length,
    "in chunks": lambda body: in_chunks(
        *(body[start : start + 8 * KB] for start in range(0, len(body), 8 * KB))
    ),
}


@pytest.mark.parametrize("framed", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("size", [70 * KB, 300 * KB, MB])
def test_a_client_that_sends_all_of_a_refused_body_gets_its_413(
    service: Service, framed: type[bytes], size: int
) -> None:
    request = TRACK + framed(b"a" * size)

    def status(_: int) -> int:
        with connected(service) as connection:
            connection.send(request)
            answer = connection.answer()
            assert connection.is_closed()
            return answer.status

    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(status, range(TRIES))) == [413] * TRIES


def test_a_body_of_20_mb_is_refused_with_a_413(service: Service) -> None:
    with connected(service) as connection:
        connection.send(TRACK + with_length(b"a" * 20 * MB))
        assert connection.status() == 413
        assert connection.is_closed()


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"GET"])
@pytest.mark.parametrize("size", [MB, 20 * MB])
def test_a_request_has_one_answer_however_large_a_body_it_does_not_need(
    service: Service, method: bytes, size: int
) -> None:
    with connected(service) as connection:
        connection.send(b"%b %b HTTP/1.1\r\n" % (method, NOWHERE) + HOST)
        connection.send(with_length(b"a" * size))
        assert connection.status() == 404
        assert connection.is_closed()


def test_an_answer_before_the_end_of_the_request_closes_the_connection(service: Service) -> None:
    with connected(service) as connection:
        connection.send(READ + b"Content-Length: 9\r\n\r\n")
        answer = connection.answer()
        assert (answer.status, answer.headers["Connection"]) == (404, "close")
        connection.send(b"no matter")
        assert connection.is_closed()


def test_a_body_that_is_not_needed_does_not_close_the_connection(service: Service) -> None:
    with connected(service) as connection:
        for _ in range(3):
            connection.send(b"DELETE %b HTTP/1.1\r\n" % NOWHERE + HOST + with_length(b"no matter"))
            assert connection.status() == 404


@pytest.mark.parametrize(
    "rest", [b"no number\r\n", b"1;" + b"a" * 2 * LARGEST_REQUEST], ids=["malformed", "too large"]
)
def test_a_body_that_breaks_while_it_is_read_has_one_answer(service: Service, rest: bytes) -> None:
    with connected(service) as connection:
        connection.send(TRACK + CHUNKED + b"Expect: 100-continue\r\n\r\n")
        assert connection.status() == 100
        connection.send(rest)
        assert connection.status() == 400
        assert connection.is_closed()
