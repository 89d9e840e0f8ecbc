"""What every request passes first: its id and the Host check, the odd bytes of raw sockets too."""

import json
import re
import socket

import httpx2 as httpx
import pytest
from starlette.responses import PlainTextResponse

from app.web.middleware import RequestGuard
from lab.database import new_database
from lab.service import Service, running

MADE = re.compile(r"[A-Za-z0-9._-]{16,}")
# What is not worth being repeated, as bytes on the wire.
INSANE_IDS = {
    "empty": b"",
    "white space": b"   ",
    "129 characters": b"a" * 129,
    "8 KiB": b"a" * 8192,
    "a space within": b"a b",
    "a tab within": b"a\tb",
    "a comma": b"a,b",
    "a quote": b'a"b',
    "markup": b"<script>",
    "a colour": b"a[31m",
    "a percent sign": b"a%0d%0aX-Evil: 1",
    "a non-ASCII letter": "ä".encode(),
    "Latin-1": b"\xe4",
    "digits beyond ASCII": "\u0661".encode(),
}
SANE_IDS = [
    "a",
    "0",
    "a" * 128,
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "trace_1.2-3",
    "01:AF=x+/y",
]

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# The hosts that are allowed, the Host header, and the status of the answer.
HOSTS: list[tuple[tuple[str, ...], str, int]] = [
    (DEFAULT_HOSTS, "localhost", 200),
    (DEFAULT_HOSTS, "localhost:8000", 200),
    (DEFAULT_HOSTS, "LOCALHOST", 200),
    (DEFAULT_HOSTS, "127.0.0.1:1", 200),
    (DEFAULT_HOSTS, "[::1]", 200),
    (DEFAULT_HOSTS, "[::1]:8000", 200),
    (DEFAULT_HOSTS, "::1", 400),
    (DEFAULT_HOSTS, "example.org", 400),
    (DEFAULT_HOSTS, "localhost.example.org", 400),
    (DEFAULT_HOSTS, "evil-localhost", 400),
    (DEFAULT_HOSTS, "127.0.0.1.nip.io", 400),
    (DEFAULT_HOSTS, "127.0.0.2", 400),
    (DEFAULT_HOSTS, "0.0.0.0", 400),  # noqa: S104 - a name like others here
    (DEFAULT_HOSTS, "[::2]", 400),
    (DEFAULT_HOSTS, "localhost:", 400),
    (DEFAULT_HOSTS, "localhost:port", 400),
    (DEFAULT_HOSTS, "localhost:80:80", 400),
    (DEFAULT_HOSTS, "localhost, example.org", 400),
    (DEFAULT_HOSTS, "user@localhost", 400),
    (DEFAULT_HOSTS, "localhost/", 400),
    (DEFAULT_HOSTS, "example.org#localhost", 400),
    (("*.example.org",), "a.example.org", 200),
    (("*.example.org",), "a.b.EXAMPLE.org:443", 200),
    (("*.example.org",), "example.org", 400),
    (("*.example.org",), "evil-example.org", 400),
    (("*.example.org",), "a.example.org.evil.test", 400),
    (("*.example.org",), "localhost", 400),
    (("example.org", "*.example.org"), "example.org", 200),
    (("*",), "anything.test", 200),
    (("*",), "[::2]:80", 200),
    (("*",), "not a host", 400),
]


def exchange(service: Service, *lines: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request as bytes and return status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        with connection.makefile("rb") as stream:
            answer = stream.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return int(first.split()[1]), headers, body


def answered_id(service: Service, request_id: bytes) -> str:
    lines = (b"GET /nowhere HTTP/1.1", b"Host: localhost", b"X-Request-ID: " + request_id)
    _, headers, _ = exchange(service, *lines)
    return headers["x-request-id"]


# X-Request-ID


@pytest.mark.parametrize("request_id", SANE_IDS)
def test_a_sane_request_id_is_echoed(service: Service, request_id: str) -> None:
    assert answered_id(service, request_id.encode()) == request_id


@pytest.mark.parametrize("request_id", INSANE_IDS.values(), ids=INSANE_IDS)
def test_an_insane_request_id_is_replaced(service: Service, request_id: bytes) -> None:
    answered = answered_id(service, request_id)
    assert MADE.fullmatch(answered)
    assert answered.encode() != request_id


def test_a_request_without_an_id_is_given_one(service: Service) -> None:
    assert MADE.fullmatch(httpx.get(f"{service.url}/docs").headers["x-request-id"])


def test_every_request_is_given_an_id_of_its_own(service: Service) -> None:
    ids = {httpx.get(f"{service.url}/nowhere").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/docs", "localhost", 200),
        ("GET", "/nowhere", "localhost", 404),
        ("PATCH", "/repos", "localhost", 405),
        ("POST", "/repos", "localhost", 415),
        ("GET", "/repos/1", "localhost", 422),
        ("GET", "/docs", "example.org", 400),
    ],
)
def test_the_request_id_is_echoed_whatever_the_answer(
    service: Service, method: str, path: str, host: str, status: int
) -> None:
    headers = {"X-Request-ID": "mine", "Host": host}
    response = httpx.request(method, f"{service.url}{path}", headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (status, "mine")


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-ID: a\rX-Evil: 1",
        b"X-Request-ID: a\nX-Evil: 1",
        b"X-Request-ID: a\r\n X-Evil: 1",
    ],
    ids=["carriage return", "line feed", "folded line"],
)
def test_a_line_break_in_a_request_id_adds_no_header(service: Service, line: bytes) -> None:
    _, headers, _ = exchange(service, b"GET /nowhere HTTP/1.1", b"Host: localhost", line)
    assert "x-evil" not in headers
    assert "X-Evil" not in headers.get("x-request-id", "")


def test_an_answer_has_one_request_id(service: Service) -> None:
    response = httpx.get(f"{service.url}/docs", headers={"X-Request-ID": "mine"})
    assert response.headers.get_list("x-request-id") == ["mine"]


# Host


@pytest.mark.parametrize(("allowed", "host", "status"), HOSTS)
async def test_only_the_allowed_hosts_are_let_through(
    allowed: tuple[str, ...], host: str, status: int
) -> None:
    guard = RequestGuard(PlainTextResponse("passed"), allowed_hosts=allowed)
    transport = httpx.ASGITransport(app=guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/", headers={"Host": host})
    assert response.status_code == status


def test_a_foreign_host_is_400_with_a_problem(service: Service) -> None:
    response = httpx.get(f"{service.url}/docs", headers={"Host": "evil.test"})
    assert (response.status_code, response.json()["type"]) == (400, "/problems/host-not-allowed")


def test_a_foreign_host_is_not_repeated(service: Service) -> None:
    response = httpx.get(f"{service.url}/docs", headers={"Host": "evil.test"})
    assert "evil" not in response.text


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b"Host:"],
        [b"Host: localhost", b"Host: localhost"],
        [b"Host: localhost", b"Host: evil.test"],
        [b"Host: evil.test", b"Host: localhost"],
        [b"Host: local\xe4host"],
    ],
    ids=["none", "empty", "twice", "a foreign one second", "a foreign one first", "Latin-1"],
)
def test_a_request_without_exactly_one_good_host_is_400(
    service: Service, hosts: list[bytes]
) -> None:
    status, headers, body = exchange(service, b"GET /docs HTTP/1.1", *hosts)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["type"] == "/problems/host-not-allowed"


def test_a_forwarded_host_counts_for_nothing(service: Service) -> None:
    headers = {"Host": "evil.test", "X-Forwarded-Host": "localhost"}
    assert httpx.get(f"{service.url}/docs", headers=headers).status_code == 400


def test_no_page_of_another_origin_is_given_leave(service: Service) -> None:
    headers = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
    response = httpx.options(f"{service.url}/repos", headers=headers)
    assert not any(name.startswith("access-control-") for name in response.headers)


def test_the_answers_do_not_name_the_server(service: Service) -> None:
    assert "server" not in httpx.get(f"{service.url}/docs").headers


# The caller's address

FORWARDED = {
    "by nobody": ("127.0.0.1", None, "127.0.0.1"),
    "by a proxy that is trusted": ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
    "by two, of which one is trusted": ("127.0.0.1", "2001:db8::1, 203.0.113.7", "203.0.113.7"),
    "as what is no address": ("127.0.0.1", "<script>", None),
    "by a proxy that is not trusted": ("10.0.0.0/8", "203.0.113.7", "127.0.0.1"),
}


@pytest.mark.parametrize(("allowed", "forwarded", "logged"), FORWARDED.values(), ids=FORWARDED)
def test_the_log_has_the_callers_address_as_a_trusted_proxy_gives_it(
    postgresql: str, allowed: str, forwarded: str | None, logged: str | None
) -> None:
    headers = {"X-Request-ID": "mine"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    with (
        new_database(postgresql) as url,
        running(DATABASE_URL=url, FORWARDED_ALLOW_IPS=allowed) as service,
    ):
        httpx.get(f"{service.url}/nowhere", headers=headers)
        service.stop()
        (line,) = (json.loads(line) for line in service.log if '"request_id":"mine"' in line)
    assert line["client"] == logged
