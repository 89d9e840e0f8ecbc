"""Strangers, against the real process: odd bytes, odd names, foreign origins and hosts."""

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx2 as httpx
import pytest

from lab.github.process import GitHubProcess
from lab.service import Service
from tests.faults.raw_http import HEAD, READ, ask, status
from tests.support.promises import assert_only_refusals

GOOD = b'{"owner": "a", "repo_name": "b"}'
NO_JSON = {
    "nothing": b"",
    "NUL": b"\x00",
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "overlong UTF-8": GOOD.replace(b"a", b"\xc1\xa1"),
    "overlong NUL": GOOD.replace(b"a", b"\xc0\x80"),
    "a surrogate in UTF-8": GOOD.replace(b"a", b"\xed\xa0\x80"),
    "a surrogate, escaped": GOOD.replace(b"a", rb"\ud800"),
    "two surrogates, the wrong way round": GOOD.replace(b"a", rb"\udc00\ud800"),
    "beyond Unicode": GOOD.replace(b"a", b"\xf4\x90\x80\x80"),
    "Latin-1": GOOD.replace(b"a", b"\xe4"),
    "a bare line end in a string": GOOD.replace(b"a", b"a\n"),
    "a bare NUL in a string": GOOD.replace(b"a", b"a\x00"),
    "a tower of brackets": b"[" * 60_000,
    "a tower of objects": b'{"owner":' * 6_000,
    "NaN": b"NaN",
    "a number without an end": b"1" * 60_000,
    "two values": GOOD + GOOD,
    "a member too many": GOOD.replace(b"{", rb'{"\u0000\u202e": 1, '),
    "a name that is a list": GOOD.replace(b'"a"', b'["a"]'),
    "a name that is a number": GOOD.replace(b'"a"', b"1e400"),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
ODD_NAMES = {
    "a NUL": "a\0",
    "a bell": "a\a",
    "a delete": "a\x7f",
    "a control character of Latin-1": "a\x9b",
    "a line end within": "a\nb",
    "a carriage return and a header": "a\r\nX-Evil: 1",
    "a byte order mark": "\ufeffa",
    "a right-to-left override": "\u202ea",
    "an isolate": "\u2066a\u2069",
    "a zero-width space": "a\u200b",
    "a zero-width joiner": "a\u200db",
    "a word joiner": "\u2060a",
    "a soft hyphen": "a\u00ad",
    "fullwidth letters": "\uff41\uff42",
    "a fullwidth solidus": "a\uff0fb",
    "a Cyrillic a": "\u0430",
    "a dotless i": "\u0131",
    "a Kelvin sign": "\u212a",
    "a long s": "\u017f",
    "a combining accent": "a\u0301",
    "a tower of accents": "a" + "\u0301" * 90,
    "digits of another script": "\u0661",
    "a tag": "a\U000e0061",
    "a variation selector": "a\ufe0f",
    "an emoji": "\U0001f984",
    "a noncharacter": "\uffff",
    "a private character": "\ue000",
    "a fraction slash": "a\u2044b",
    "one dot leader": "\u2024\u2024",
    "the parent": "..",
    "the parent and more": "../../etc/passwd",
    "the parent, encoded": "..%2f..%2fuser",
    "a slash": "a/b",
    "a backslash": "..\\a",
    "a query": "a?b",
    "a fragment": "a#b",
    "an at sign": "a@b",
    "a colon": "a:b",
    "an encoded NUL": "a%00",
    "a semicolon": "a;b",
    "a template": "{{7*7}}${7*7}",
    "markup": "<script>alert(1)</script>",
    "SQL": "a'; DROP TABLE repositories; --",
}
PATHS = [
    "/repos/../repos/x",
    "/repos/..%2f..%2fetc%2fpasswd",
    "/repos/%2e%2e/docs",
    "/repos/%00",
    "/repos/%ff%fe",
    "/repos/%ed%a0%80",
    "/repos/%c0%ae%c0%ae/",
    "/repos/%e2%80%ae",
    "/repos/%0d%0aX-Evil:%201",
    "/repos/\\..\\..",
    "//evil.test/repos",
    "/repos//",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/repos/{0}",
    "/repos/" + "a" * 8000,
    "/repos/\u0660\u0660\u0660\u0660".encode().decode("latin-1"),
]


@pytest.fixture(scope="module", autouse=True)
def _nothing_unforeseen(service: Service) -> Iterator[None]:
    """Nothing that was sent caused an error of the service."""
    yield
    assert_only_refusals(service)


@pytest.fixture
def nothing_is_stored(service: Service, generous_github: GitHubProcess) -> Iterator[None]:
    """The test fails if the service asked GitHub for anything; without that it stores nothing."""
    calls = generous_github.report()["calls"]
    yield
    assert generous_github.report()["calls"] == calls


def assert_refused(response: httpx.Response, *statuses: int) -> None:
    """Fail unless this is a problem of one of these statuses."""
    assert response.status_code in statuses
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["status"], response.json()["type"][:10]) == (
        response.status_code,
        "/problems/",
    )


def track(service: Service, body: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(f"{service.url}/repos", content=body, headers=headers)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_good_json_is_refused(service: Service, body: bytes) -> None:
    assert_refused(track(service, body), 422)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("member", ["owner", "repo_name"])
@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_a_name_that_github_cannot_have_is_refused(
    service: Service, member: str, name: str
) -> None:
    reference = {"owner": "a", "repo_name": "b", member: name}
    assert_refused(track(service, json.dumps(reference).encode()), 422)
    assert_refused(track(service, json.dumps(reference, ensure_ascii=False).encode()), 422)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"owner=a&repo_name=b"),
        ("application/x-www-form-urlencoded", GOOD),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + GOOD + b"\r\n--x--"),
        ("text/plain", GOOD),
        ("text/plain; charset=application/json", GOOD),
        ("text/plain, application/json", GOOD),
        ("application/json, text/plain", GOOD),
        ("application/jsonp", GOOD),
        ("", GOOD),
    ],
)
def test_a_form_of_another_origin_is_refused(
    service: Service, media_type: str, body: bytes
) -> None:
    headers = {"Content-Type": media_type, "Origin": "https://evil.test"}
    answer = track(service, body, **headers)
    assert_refused(answer, 415)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_foreign_host_reads_changes_and_deletes_nothing(
    service: Service, generous_github: GitHubProcess
) -> None:
    name = f"r{uuid4().hex}"
    created = track(service, json.dumps({"owner": "a", "repo_name": name}).encode())
    assert created.status_code == 201
    calls = generous_github.report()["calls"]
    record = f"{service.url}{created.headers['location']}"
    foreign = {"Host": "evil.test:80"}
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
        answer = httpx.request(method, record, headers=foreign)
        assert answer.status_code == 400
    assert_refused(track(service, GOOD, **foreign), 400)
    assert generous_github.report()["calls"] == calls
    assert httpx.get(record).json() == created.json()


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_leads_to_nothing_but_the_api(service: Service, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "POST"):
        head = f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode("latin-1")
        answer = await ask(service, head + HEAD + b"Content-Length: 0\r\n\r\n")
        assert status(answer) in {400, 404, 405, 422}
        assert b"\r\nX-Evil" not in answer
        assert b"root:" not in answer


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("separator", [b"\r\n ", b"\r", b"\n", b"\0", b"\x0b", b"\x85", b"%0d%0a"])
async def test_a_request_id_adds_no_header_to_an_answer(service: Service, separator: bytes) -> None:
    injected = b"X-Request-ID: a" + separator + b"X-Evil: 1\r\n"
    answer = await ask(service, READ + injected + b"Connection: close\r\n\r\n")
    assert status(answer) in {400, 404}
    assert b"x-evil" not in answer.partition(b"\r\n\r\n")[0].lower()


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    "request_",
    [
        READ + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        READ + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\naaaaa",
        READ + b"Content-Length: -1\r\n\r\n",
        READ + b"Content-Length: 99999999999999999999999\r\n\r\n",
        READ + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        READ + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
        READ + b"Transfer-Encoding : chunked\r\n\r\n",
        READ + b" folded: 1\r\n\r\n",
        READ + b"no colon\r\n\r\n",
        READ.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n",
        READ.replace(b"GET", b"G\x00T") + b"\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET http://evil.test/repos HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n",
        b"GET evil HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET ?a HTTP/1.1\r\n" + HEAD + b"\r\n",
    ],
    ids=[
        "two lengths of a body",
        "two values of Content-Length",
        "a negative length",
        "a length beyond all numbers",
        "a chunk beyond all numbers",
        "a coding with a control character",
        "a space before a colon",
        "a folded header first",
        "no colon",
        "HTTP/9.9",
        "NUL in a method",
        "NULs",
        "CONNECT",
        "a proxy's request",
        "no path",
        "a query only",
    ],
)
async def test_what_is_hardly_http_is_refused_with_a_problem(
    service: Service, request_: bytes
) -> None:
    answer = await ask(service, request_)
    assert status(answer) in {400, 404, 405}
    assert b"\r\ncontent-type: application/problem+json\r\n" in answer.lower()
