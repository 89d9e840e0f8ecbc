"""What is served under which path, and how a body is taken in."""

import gzip
import json
import socket
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import httpx2 as httpx
import pytest
from fastapi import Depends, Header, Request, Response

from app.schemas import RepositoryReference
from app.web.routing import LeanRoute
from lab.service import Service

RECORD = "/repos/5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a"
ALLOWED = {
    "/repos": "POST",
    RECORD: "DELETE, GET, HEAD, PUT",
    "/repos/1": "DELETE, GET, HEAD, PUT",
}
DOCUMENTATION = ["/docs", "/redoc", "/openapi.json"]
NOTHING_BUT_WHITE_SPACE = b" " * 50_000


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


def kind(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


async def answers(request: Request) -> Response:
    return Response()


async def ignores_a_query(request: Request, owner: str = "fastapi") -> Response:
    return Response()


async def ignores_a_header(request: Request, accept: Annotated[str, Header()] = "*/*") -> Response:
    return Response()


async def ignores_a_dependency(
    request: Request, other: Annotated[Any, Depends(answers)]
) -> Response:
    return Response()


async def reads_the_body_twice(
    request: Request, one: RepositoryReference, two: RepositoryReference
) -> Response:
    return Response()


async def takes_no_request() -> Response:
    return Response()


@pytest.mark.parametrize(
    ("endpoint", "parameter"),
    [
        (ignores_a_query, "owner"),
        (ignores_a_header, "accept"),
        (ignores_a_dependency, "other"),
        (reads_the_body_twice, "two"),
        (takes_no_request, "request"),
    ],
)
def test_a_parameter_that_would_not_be_passed_is_refused_when_the_route_is_made(
    endpoint: Callable[..., Any], parameter: str
) -> None:
    with pytest.raises(TypeError, match=rf"{endpoint.__name__}: .* so {parameter} cannot be"):
        LeanRoute("/", endpoint)


@pytest.mark.parametrize("options", [{"dependencies": [Depends(answers)]}, {"max_body_size": 1}])
def test_an_option_that_would_be_ignored_is_refused_when_the_route_is_made(
    options: dict[str, Any],
) -> None:
    with pytest.raises(TypeError, match="answers: LeanRoute ignores"):
        LeanRoute("/", answers, **options)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/repos/",
        f"{RECORD}/",
        f"{RECORD}/stars",
        "/repos//",
        "//repos",
        "/Repos",
        "/repo",
        "/health",
        "/docs/",
        "/docs/oauth2-redirect",
        "/%00",
        "/%FF",
        "/problems/invalid-request",
    ],
)
def test_an_unknown_path_is_404(service: Service, path: str) -> None:
    assert kind(httpx.get(service.url + path)) == (404, "route-not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_an_unknown_path_is_404_for_every_method(client: httpx.Client, method: str) -> None:
    assert kind(client.request(method, "/nowhere")) == (404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "/repos") for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")),
        *((method, RECORD) for method in ("POST", "PATCH", "OPTIONS", "TRACE")),
        ("POST", "/repos/1"),
    ],
)
def test_another_method_is_405_with_all_that_are_allowed(
    client: httpx.Client, method: str, path: str
) -> None:
    response = client.request(method, path)
    assert kind(response) == (405, "method-not-allowed")
    assert response.headers["allow"] == ALLOWED[path]


@pytest.mark.parametrize("path", DOCUMENTATION)
def test_the_documentation_can_only_be_read(client: httpx.Client, path: str) -> None:
    response = client.post(path)
    assert kind(response) == (405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [RECORD, "/repos/1", "/nowhere", *DOCUMENTATION, "/docs/x"])
def test_a_head_is_answered_as_a_get_is_without_the_body(client: httpx.Client, path: str) -> None:
    got, asked = client.get(path), client.head(path)
    by_request = {"date", "x-request-id"}
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert {name: value for name, value in asked.headers.items() if name not in by_request} == {
        name: value for name, value in got.headers.items() if name not in by_request
    }


def test_a_head_is_405_where_a_get_is(client: httpx.Client) -> None:
    response = client.head("/repos")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_connection_lives_on_after_a_head(service: Service) -> None:
    head = f"HEAD {RECORD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection,
        connection.makefile("rb") as stream,
    ):
        for _ in range(2):
            connection.sendall(head)
            assert stream.readline() == b"HTTP/1.1 404 Not Found\r\n"
            while stream.readline() != b"\r\n":
                pass


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP", "x"])
def test_a_body_in_a_content_coding_is_415_and_says_what_is_taken(
    client: httpx.Client, coding: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = client.post("/repos", content=gzip.compress(b"{}"), headers=headers)
    assert kind(response) == (415, "encoded-body")
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_is_declared_to_be_plain_is_read(client: httpx.Client, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = client.post("/repos", content=b"{}", headers=headers)
    assert kind(response) == (422, "invalid-request")


def test_a_byte_order_mark_before_the_json_is_ignored(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/repos", content=BOM_UTF8 + b'{"owner": "a"}', headers=headers)
    assert [error["type"] for error in response.json()["errors"]] == ["missing"]


@pytest.mark.parametrize("body", [BOM_UTF8, BOM_UTF8 * 2 + b"{}", b"{}" + BOM_UTF8])
def test_a_byte_order_mark_elsewhere_is_no_json(client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/repos", content=body, headers=headers)
    assert [error["type"] for error in response.json()["errors"]] == ["json_invalid"]


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/nowhere", "/nowhere"),
        ("/nowhere?owner=fastapi", "/nowhere"),
        ("/no%20where", "/no%20where"),
        ("/n%C3%B6where", "/n%C3%B6where"),
        ("/%3Cscript%3E", "/%3Cscript%3E"),
    ],
)
def test_a_problem_names_the_path_as_it_was_sent(
    client: httpx.Client, path: str, instance: str
) -> None:
    assert client.get(path).json()["instance"] == instance


def test_a_query_changes_nothing(client: httpx.Client) -> None:
    assert kind(client.get(RECORD, params={"owner": "a"})) == (404, "repository-not-found")


def test_a_message_for_the_path_does_not_repeat_what_was_sent(client: httpx.Client) -> None:
    body = client.get("/repos/something-else").json()
    assert "something-else" not in json.dumps({**body, "instance": ""})


def test_a_message_for_a_name_does_not_repeat_what_was_sent(client: httpx.Client) -> None:
    reference = {"owner": "some/thing", "repo_name": "else?"}
    assert "thing" not in client.post("/repos", json=reference).text


def test_a_connection_lives_on_after_a_body_that_nobody_read(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        head = "POST /repos HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        length = f"Content-Length: {len(NOTHING_BUT_WHITE_SPACE)}\r\n\r\n"
        connection.sendall((head + length).encode() + NOTHING_BUT_WHITE_SPACE)
        connection.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as stream:
            answers = stream.read()
    assert answers.startswith(b"HTTP/1.1 415 ")
    assert b"HTTP/1.1 200 " in answers


def test_a_connection_ends_after_a_body_that_is_too_large(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/repos", content=NOTHING_BUT_WHITE_SPACE * 2, headers=headers)
    assert (response.status_code, response.headers["connection"]) == (413, "close")


def test_a_client_that_asks_first_is_not_told_to_send_too_large_a_body(service: Service) -> None:
    head = (
        "POST /repos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_comes_byte_by_byte_is_put_together(service: Service) -> None:
    body = b'{"owner": "a/b", "repo_name": "c"}'
    head = (
        "POST /repos HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
        connection.sendall(head.encode())
        for byte in body:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        with connection.makefile("rb") as stream:
            assert b'"github_owner"' in stream.read()
