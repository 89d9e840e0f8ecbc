"""The HTTP contract of the four endpoints."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import psycopg
import pytest

from lab.github.answers import (
    Answer,
    bad_credentials,
    blocked,
    forbidden,
    hang_up,
    html,
    not_found,
    rate_limited,
    redirect,
    secondary_limit,
    silence,
)
from lab.github.server import ANY, GitHub

JSON = {"Content-Type": "application/json"}
LARGEST_BODY = 64 * 1024

# Names that would be more than a name in GitHub's URL; test_schemas.py has the rest.
NO_NAMES = ["", "..", "a/../b", "%2e%2e", "a?b", "a#b", "f\u0430stapi", "fastapi\0", "a" * 101]

# Bodies that name nothing, with the place and the kind of what is wrong; test_schemas.py likewise.
NO_REFERENCES = {
    "no body": (b"", ["body"], "json_invalid"),
    "broken JSON": (b'{"owner": "fastapi", ', ["body"], "json_invalid"),
    "invalid UTF-8": (b'{"owner": "\xff\xfe", "repo_name": "b"}', ["body"], "json_invalid"),
    "deep nesting": (b"[" * 60_000, ["body"], "json_invalid"),
    "null": (b"null", ["body"], "model_type"),
    "a list": (b'["fastapi", "fastapi"]', ["body"], "model_type"),
    "no owner": (b'{"repo_name": "b"}', ["body", "owner"], "missing"),
    "owner a number": (b'{"owner": 1, "repo_name": "b"}', ["body", "owner"], "string_type"),
    "owner null": (b'{"owner": null, "repo_name": "b"}', ["body", "owner"], "string_type"),
    "a member too many": (
        b'{"owner": "a", "repo_name": "b", "stars": 1}',
        ["body", "stars"],
        "extra_forbidden",
    ),
}

# What GitHub may answer, and what our caller is told; 404 and the blocks depend on the endpoint.
Failure = tuple[Callable[[], Answer], int, str]
FAILURES: dict[str, Failure] = {
    "a page for people": (lambda: html(200), 502, "github-bad-answer"),
    "another shape": (lambda: Answer(body={"id": "1"}), 502, "github-bad-answer"),
    "an answer to nothing": (lambda: Answer(204), 502, "github-bad-answer"),
    "a foreign redirect": (lambda: redirect("{foreign}/repos/a/b"), 502, "github-bad-answer"),
    "refused credentials": (bad_credentials, 502, "github-refused"),
    "a refusal": (forbidden, 502, "github-refused"),
    "an illness": (html, 502, "github-unavailable"),
    "a lost connection": (hang_up, 502, "github-unavailable"),
    "an exhausted limit": (rate_limited, 503, "github-rate-limited"),
    "a secondary limit": (secondary_limit, 503, "github-rate-limited"),
}
BLOCKS: dict[str, Callable[[], Answer]] = {
    "not found": not_found,
    "taken down for the law": blocked,
    "blocked for the terms of service": lambda: blocked("tos"),
    "blocked as unavailable": lambda: blocked("unavailable"),
}

failures = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
blocks = pytest.mark.parametrize("answer", BLOCKS.values(), ids=BLOCKS)
conditions_that_fail = pytest.mark.parametrize(
    ("header", "condition"),
    [
        ("If-Match", '"other"'),
        ("If-Match", "W/{etag}"),
        ("If-None-Match", "*"),
        ("If-None-Match", '"other", W/{etag}'),
    ],
)
Rows = psycopg.Connection[Any]


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the kind of problem."""
    body = response.json()
    assert body["type"].startswith("/problems/")
    return response.status_code, body["type"].removeprefix("/problems/")


def stored(rows: Rows) -> list[tuple[Any, ...]]:
    return rows.execute(
        "SELECT owner, repo_name, stars, github_id FROM repositories"
        " JOIN github_links ON repository_id = id ORDER BY owner, repo_name"
    ).fetchall()


async def track(client: httpx.AsyncClient, owner: str, name: str) -> httpx.Response:
    return await client.post("/repos", json={"owner": owner, "repo_name": name})


@pytest.fixture
async def tracked(client: httpx.AsyncClient, github: GitHub) -> httpx.Response:
    """The answer to the POST that made the one record that there is."""
    github.add("octocat", "Hello-World", stars=80, id=1296269)
    response = await track(client, "octocat", "Hello-World")
    assert response.status_code == 201
    return response


@pytest.fixture
def path(tracked: httpx.Response) -> str:
    """The path of the one record."""
    return tracked.headers["location"]


@pytest.fixture
def etag(tracked: httpx.Response) -> str:
    """The ETag of the one record."""
    return tracked.headers["etag"]


# POST


async def test_tracking_a_repository_stores_what_github_says(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    github.add("FastAPI", "fastapi", stars=91234)
    response = await client.post("/repos", json={"owner": "fastapi", "repo_name": "FASTAPI"})
    assert response.status_code == 201
    record = response.json()
    assert record == {
        "id": record["id"],
        "owner": "FastAPI",
        "repo_name": "fastapi",
        "stars": 91234,
    }
    assert response.headers["location"] == f"/repos/{record['id']}"
    read = await client.get(response.headers["location"])
    assert read.json() == record
    assert read.headers["etag"] == response.headers["etag"]


async def test_the_id_of_a_record_is_a_uuid(tracked: httpx.Response) -> None:
    assert str(UUID(tracked.json()["id"])) == tracked.json()["id"]


async def test_a_record_is_json(tracked: httpx.Response) -> None:
    assert tracked.headers["content-type"] == "application/json"


async def test_an_etag_is_strong_and_quoted(etag: str) -> None:
    assert etag[0] == etag[-1] == '"'
    assert len(etag) > 2


async def test_a_new_record_has_one_row_and_one_link(tracked: httpx.Response, rows: Rows) -> None:
    assert stored(rows) == [("octocat", "Hello-World", 80, 1296269)]


async def test_a_name_that_github_redirects_is_stored_as_it_is_today(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    github.add("tiangolo", "fastapi")
    github.rename("tiangolo/fastapi", "fastapi", "fastapi")
    response = await track(client, "tiangolo", "fastapi")
    assert response.status_code == 201
    assert response.json()["owner"] == "fastapi"


async def test_white_space_around_names_is_trimmed(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    github.add("fastapi", "fastapi")
    response = await track(client, " \t fastapi\v", "\n fastapi \r\f")
    assert response.status_code == 201
    assert github.paths == ["/repos/fastapi/fastapi"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [("a" * 100, "b" * 100), ("microsoft", ".github"), ("-old_", "-_.-")],
    ids=["100 characters", "leading dot", "odd marks"],
)
async def test_every_name_that_github_may_have_can_be_tracked(
    client: httpx.AsyncClient, github: GitHub, owner: str, name: str
) -> None:
    github.add(owner, name)
    response = await track(client, owner, name)
    assert response.status_code == 201
    assert (response.json()["owner"], response.json()["repo_name"]) == (owner, name)


@pytest.mark.parametrize("member", ["owner", "repo_name"])
@pytest.mark.parametrize("name", NO_NAMES)
async def test_what_cannot_be_a_name_is_422_and_does_not_reach_github(
    client: httpx.AsyncClient, github: GitHub, member: str, name: str
) -> None:
    body = {"owner": "fastapi", "repo_name": "fastapi", member: name}
    response = await client.post("/repos", json=body)
    assert problem(response) == (422, "invalid-request")
    assert [error["loc"] for error in response.json()["errors"]] == [["body", member]]
    assert github.count == 0


@pytest.mark.parametrize(("body", "loc", "kind"), NO_REFERENCES.values(), ids=NO_REFERENCES)
async def test_a_body_that_names_no_repository_is_422(
    client: httpx.AsyncClient, github: GitHub, body: bytes, loc: list[str], kind: str
) -> None:
    response = await client.post("/repos", content=body, headers=JSON)
    assert problem(response) == (422, "invalid-request")
    assert [(error["loc"], error["type"]) for error in response.json()["errors"]] == [(loc, kind)]


async def test_every_error_of_a_body_is_told_at_once(client: httpx.AsyncClient) -> None:
    response = await client.post("/repos", json={"owner": "", "repository": "fastapi"})
    assert {error["loc"][-1] for error in response.json()["errors"]} == {
        "owner",
        "repo_name",
        "repository",
    }


async def test_each_error_of_a_body_has_a_place_a_message_and_a_type(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/repos", json={"owner": "fastapi"})
    (error,) = response.json()["errors"]
    assert error == {"loc": ["body", "repo_name"], "msg": "Field required", "type": "missing"}


async def test_the_answer_to_a_body_of_thousands_of_errors_is_short(
    client: httpx.AsyncClient,
) -> None:
    """Nobody gets more out of the service than goes in."""
    body = json.dumps(dict.fromkeys(range(6000), 0), separators=(",", ":")).encode()
    assert len(body) <= LARGEST_BODY
    response = await client.post("/repos", content=body, headers=JSON)
    assert response.status_code == 422
    assert len(response.content) <= LARGEST_BODY


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "Application/JSON", "application/json ;charset=UTF-8"],
)
async def test_json_may_be_declared_in_any_spelling(
    client: httpx.AsyncClient, github: GitHub, content_type: str
) -> None:
    github.add("fastapi", "fastapi")
    response = await client.post(
        "/repos",
        content=b'{"owner": "fastapi", "repo_name": "fastapi"}',
        headers={"Content-Type": content_type},
    )
    assert response.status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/plain; application/json", "multipart/form-data; boundary=x"],
)
async def test_a_body_that_is_not_declared_as_json_is_415_and_does_not_reach_github(
    client: httpx.AsyncClient, github: GitHub, content_type: str | None
) -> None:
    response = await client.post(
        "/repos",
        content=b'{"owner": "fastapi", "repo_name": "fastapi"}',
        headers={} if content_type is None else {"Content-Type": content_type},
    )
    assert problem(response) == (415, "unsupported-media-type")
    assert github.count == 0


async def test_a_form_of_a_web_page_is_415(client: httpx.AsyncClient) -> None:
    response = await client.post("/repos", data={"owner": "fastapi", "repo_name": "fastapi"})
    assert problem(response) == (415, "unsupported-media-type")


async def test_a_body_of_64_kib_is_read(client: httpx.AsyncClient, github: GitHub) -> None:
    github.add("fastapi", "fastapi")
    body = b'{"owner": "fastapi", "repo_name": "fastapi"}'.ljust(LARGEST_BODY)
    response = await client.post("/repos", content=body, headers=JSON)
    assert response.status_code == 201


async def test_a_body_of_one_byte_more_is_413(client: httpx.AsyncClient) -> None:
    body = b'{"owner": "fastapi", "repo_name": "fastapi"}'.ljust(LARGEST_BODY + 1)
    response = await client.post("/repos", content=body, headers=JSON)
    assert problem(response) == (413, "body-too-large")


async def test_a_body_that_is_announced_as_too_large_is_413_before_any_of_it_comes(
    client: httpx.AsyncClient,
) -> None:
    answer = await _send_part_of_a_body(client, f"Content-Length: {10**9}", b"")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_in_chunks_is_413_before_it_has_ended(client: httpx.AsyncClient) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = await _send_part_of_a_body(client, "Transfer-Encoding: chunked", chunk * 3)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def _send_part_of_a_body(client: httpx.AsyncClient, header: str, part: bytes) -> bytes:
    """Return the head of the answer, which comes although the body never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    head = f"POST /repos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{header}"
    writer.write(f"{head}\r\n\r\n".encode() + part)
    try:
        async with asyncio.timeout(5):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def test_a_repository_that_github_does_not_have_is_404(
    client: httpx.AsyncClient, rows: Rows
) -> None:
    response = await track(client, "fastapi", "no-such-repository")
    assert problem(response) == (404, "not-on-github")
    assert stored(rows) == []


@blocks
async def test_a_repository_that_github_does_not_show_is_404(
    client: httpx.AsyncClient, github: GitHub, answer: Callable[[], Answer]
) -> None:
    github.script("fastapi/fastapi", answer())
    assert problem(await track(client, "fastapi", "fastapi")) == (404, "not-on-github")


@pytest.mark.parametrize(
    ("owner", "name"),
    [("octocat", "Hello-World"), ("OCTOCAT", "hello-world"), (" octocat ", "Hello-World")],
    ids=["same name", "other case", "white space"],
)
async def test_tracking_a_name_again_is_409_and_does_not_ask_github(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, owner: str, name: str
) -> None:
    response = await track(client, owner, name)
    assert problem(response) == (409, "already-tracked")
    assert response.json()["repository_id"] == tracked.json()["id"]
    assert response.headers["location"] == tracked.headers["location"]
    assert github.count == 1


async def test_tracking_a_name_that_github_redirects_to_a_record_is_409(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, rows: Rows
) -> None:
    """The record still has its old name: it is found by GitHub's number."""
    github.rename("octocat/Hello-World", "github", "hello")
    response = await track(client, "github", "hello")
    assert problem(response) == (409, "already-tracked")
    assert response.json()["repository_id"] == tracked.json()["id"]
    assert response.headers["location"] == tracked.headers["location"]
    assert len(stored(rows)) == 1


async def test_a_name_that_a_record_without_a_repository_holds_is_409(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, rows: Rows
) -> None:
    github.rename("octocat/Hello-World", "octocat", "renamed")
    github.remove("octocat/renamed")
    github.add("other", "Hello-World")
    github.rename("other/Hello-World", "octocat", "Hello-World")
    response = await track(client, "other", "Hello-World")
    assert problem(response) == (409, "name-held")
    assert response.json()["repository_id"] == tracked.json()["id"]
    assert len(stored(rows)) == 1


async def test_tracking_a_name_that_is_stale_elsewhere_refreshes_the_other_record_too(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, rows: Rows
) -> None:
    """The request names the newcomer by an old name, since the new one is known to be taken."""
    github.rename("octocat/Hello-World", "octocat", "renamed")
    github.add("octocat", "newcomer", stars=1, id=2)
    github.rename("octocat/newcomer", "octocat", "Hello-World")
    response = await track(client, "octocat", "newcomer")
    assert response.status_code == 201
    assert stored(rows) == [("octocat", "Hello-World", 1, 2), ("octocat", "renamed", 80, 1296269)]


async def test_a_hundred_posts_of_one_repository_make_one_record_with_one_call(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.add("fastapi", "fastapi")
    github.hold()
    posts = asyncio.gather(*(track(client, "fastapi", "fastapi") for _ in range(100)))
    await github.called(1)
    github.release()
    statuses = sorted(response.status_code for response in await posts)
    assert statuses == [201] + [409] * 99
    assert len(stored(rows)) == 1
    assert github.count == 1


@failures
async def test_a_failure_of_github_is_told_to_who_tracks_and_stores_nothing(
    client: httpx.AsyncClient,
    github: GitHub,
    rows: Rows,
    failure: Failure,
) -> None:
    answer, *told = failure
    github.script(ANY, answer(), repeat=True)
    assert [*problem(await track(client, "fastapi", "fastapi"))] == told
    assert stored(rows) == []


async def test_tracking_is_504_within_six_seconds_when_github_is_silent(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    github.script(ANY, silence())
    async with asyncio.timeout(6):
        assert problem(await track(client, "fastapi", "fastapi")) == (504, "github-timeout")


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(lambda: secondary_limit(7), range(6, 8)), (lambda: rate_limited(1200), range(1190, 1203))],
    ids=["secondary", "primary"],
)
async def test_a_limit_of_github_tells_when_to_come_back(
    client: httpx.AsyncClient, github: GitHub, answer: Callable[[], Answer], seconds: range
) -> None:
    github.script(ANY, answer())
    response = await track(client, "fastapi", "fastapi")
    assert int(response.headers["retry-after"]) in seconds
    assert response.json()["retry_after"] == int(response.headers["retry-after"])


async def test_while_githubs_limit_is_spent_github_is_not_asked(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    github.script(ANY, rate_limited())
    await track(client, "fastapi", "fastapi")
    assert problem(await track(client, "fastapi", "typer")) == (503, "github-rate-limited")
    assert github.count == 1


# GET


async def test_reading_a_record_answers_with_exactly_its_four_members(
    client: httpx.AsyncClient, tracked: httpx.Response, path: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert response.json() == {
        "id": tracked.json()["id"],
        "owner": "octocat",
        "repo_name": "Hello-World",
        "stars": 80,
    }
    assert response.headers["content-type"] == "application/json"


async def test_a_read_is_to_be_asked_again_before_reuse(
    client: httpx.AsyncClient, path: str, etag: str
) -> None:
    response = await client.get(path)
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["etag"] == etag


async def test_a_read_does_not_ask_github(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    await client.get(path)
    assert github.count == 1


async def test_a_read_sees_what_was_committed_before(
    client: httpx.AsyncClient, path: str, etag: str, rows: Rows
) -> None:
    rows.execute("UPDATE repositories SET stars = 81")
    response = await client.get(path)
    assert response.json()["stars"] == 81
    assert response.headers["etag"] != etag


async def test_the_id_in_a_path_may_be_in_upper_case(client: httpx.AsyncClient, path: str) -> None:
    head, _, record_id = path.rpartition("/")
    assert (await client.get(f"{head}/{record_id.upper()}")).status_code == 200


@pytest.mark.parametrize(
    "condition",
    [
        "{etag}",
        "W/{etag}",
        "*",
        '"other" ,\t W/{etag} , "another"',
    ],
)
async def test_a_read_of_what_the_client_has_is_304_without_a_body(
    client: httpx.AsyncClient, path: str, etag: str, condition: str
) -> None:
    response = await client.get(path, headers={"If-None-Match": condition.format(etag=etag)})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag
    assert response.headers["cache-control"] == "no-cache"
    assert "content-type" not in response.headers


async def test_a_condition_may_be_spread_over_several_headers(
    client: httpx.AsyncClient, path: str, etag: str
) -> None:
    headers = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
    assert (await client.get(path, headers=headers)).status_code == 304


@pytest.mark.parametrize("condition", ['"other"', '"*"', "", '"other'])
async def test_a_read_of_what_the_client_does_not_have_is_200(
    client: httpx.AsyncClient, path: str, condition: str
) -> None:
    response = await client.get(path, headers={"If-None-Match": condition})
    assert response.status_code == 200


async def test_a_record_that_has_changed_is_200_for_who_has_it_as_it_was(
    client: httpx.AsyncClient, path: str, etag: str, rows: Rows
) -> None:
    rows.execute("UPDATE repositories SET stars = 81")
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("condition", [{}, {"If-Match": "*"}], ids=str)
async def test_a_record_that_does_not_exist_is_404_whatever_the_conditions(
    client: httpx.AsyncClient, github: GitHub, method: str, condition: dict[str, str]
) -> None:
    response = await client.request(method, f"/repos/{uuid4()}", headers=condition)
    assert problem(response) == (404, "repository-not-found")
    assert github.count == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("record_id", ["1", "%00", "5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7"])
async def test_an_id_that_is_no_uuid_is_422(
    client: httpx.AsyncClient, method: str, record_id: str
) -> None:
    response = await client.request(method, f"/repos/{record_id}")
    assert problem(response) == (422, "invalid-request")
    (error,) = response.json()["errors"]
    assert error["loc"] == ["path", "repo_id"]


# PUT


async def test_refreshing_stores_the_stars_of_today(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.known("octocat/Hello-World").stars = 99
    response = await client.put(path)
    assert response.status_code == 200
    assert response.json()["stars"] == 99
    assert stored(rows) == [("octocat", "Hello-World", 99, 1296269)]


async def test_refreshing_answers_with_the_whole_record_and_its_etag(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    github.known("octocat/Hello-World").stars = 99
    response = await client.put(path)
    read = await client.get(path)
    assert response.content == read.content
    assert response.headers["etag"] == read.headers["etag"]


async def test_refreshing_what_has_not_changed_keeps_the_etag(
    client: httpx.AsyncClient, path: str, etag: str
) -> None:
    assert (await client.put(path)).headers["etag"] == etag


async def test_refreshing_asks_github_by_number(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    await client.put(path)
    assert github.paths[1:] == ["/repositories/1296269"]


async def test_refreshing_follows_a_rename(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.rename("octocat/Hello-World", "github", "Hello")
    response = await client.put(path)
    assert response.status_code == 200
    assert (response.json()["owner"], response.json()["repo_name"]) == ("github", "Hello")
    assert stored(rows) == [("github", "Hello", 80, 1296269)]


async def test_refreshing_follows_a_change_of_case(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    github.rename("octocat/Hello-World", "OctoCat", "hello-world")
    response = await client.put(path)
    assert (response.json()["owner"], response.json()["repo_name"]) == ("OctoCat", "hello-world")


async def test_refreshing_notes_when_it_was(
    client: httpx.AsyncClient, path: str, rows: Rows
) -> None:
    rows.execute("UPDATE github_links SET checked_at = '2001-01-01T00:00:00Z'")
    await client.put(path)
    age = rows.execute("SELECT now() - checked_at < interval '1 minute' FROM github_links")
    assert age.fetchone() == (True,)


async def test_refreshing_a_name_that_another_record_still_holds_refreshes_both(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.add("octocat", "Spoon-Knife", stars=1, id=2)
    await track(client, "octocat", "Spoon-Knife")
    github.rename("octocat/Spoon-Knife", "octocat", "Fork")
    github.rename("octocat/Hello-World", "octocat", "Spoon-Knife")
    assert (await client.put(path)).status_code == 200
    assert stored(rows) == [("octocat", "Fork", 1, 2), ("octocat", "Spoon-Knife", 80, 1296269)]


async def test_two_records_may_trade_names(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.add("octocat", "Spoon-Knife", stars=1, id=2)
    await track(client, "octocat", "Spoon-Knife")
    github.rename("octocat/Spoon-Knife", "octocat", "aside")
    github.rename("octocat/Hello-World", "octocat", "Spoon-Knife")
    github.rename("octocat/aside", "octocat", "Hello-World")
    assert (await client.put(path)).status_code == 200
    names = [("octocat", "Hello-World", 1, 2), ("octocat", "Spoon-Knife", 80, 1296269)]
    assert stored(rows) == names


async def test_a_new_name_that_a_record_without_a_repository_holds_is_409(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.add("octocat", "Spoon-Knife", stars=1, id=2)
    other = await track(client, "octocat", "Spoon-Knife")
    github.remove("octocat/Spoon-Knife")
    github.rename("octocat/Hello-World", "octocat", "Spoon-Knife")
    before = stored(rows)
    response = await client.put(path)
    assert problem(response) == (409, "name-held")
    assert response.json()["repository_id"] == other.json()["id"]
    assert stored(rows) == before


async def test_a_refresh_has_no_need_of_a_body_and_ignores_one(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.put(path, content=b"<stars>1000</stars>")
    assert response.status_code == 200
    assert response.json()["stars"] == 80


@blocks
async def test_a_repository_gone_from_github_is_409_and_leaves_the_record(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows, answer: Callable[[], Answer]
) -> None:
    github.script("/repositories/1296269", answer())
    assert problem(await client.put(path)) == (409, "gone-from-github")
    assert stored(rows) == [("octocat", "Hello-World", 80, 1296269)]


async def test_a_record_whose_repository_is_gone_can_still_be_read(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, path: str
) -> None:
    github.remove("octocat/Hello-World")
    await client.put(path)
    assert (await client.get(path)).json() == tracked.json()


@failures
async def test_a_failure_of_github_is_told_to_who_refreshes_and_leaves_the_record(
    client: httpx.AsyncClient,
    github: GitHub,
    path: str,
    rows: Rows,
    failure: Failure,
) -> None:
    answer, *told = failure
    github.script(ANY, answer(), repeat=True)
    assert [*problem(await client.put(path))] == told
    assert stored(rows) == [("octocat", "Hello-World", 80, 1296269)]


async def test_refreshing_is_504_within_six_seconds_when_github_is_silent(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    github.script(ANY, silence())
    async with asyncio.timeout(6):
        assert problem(await client.put(path)) == (504, "github-timeout")


@pytest.mark.parametrize("condition", ["{etag}", "*", '"other", {etag}'])
async def test_a_refresh_of_the_record_that_the_client_means_is_200(
    client: httpx.AsyncClient, path: str, etag: str, condition: str
) -> None:
    response = await client.put(path, headers={"If-Match": condition.format(etag=etag)})
    assert response.status_code == 200


@conditions_that_fail
async def test_a_refresh_of_a_record_in_another_state_is_412_and_does_not_ask_github(
    client: httpx.AsyncClient, github: GitHub, tracked: httpx.Response, header: str, condition: str
) -> None:
    etag = tracked.headers["etag"]
    headers = {header: condition.format(etag=etag)}
    response = await client.put(tracked.headers["location"], headers=headers)
    assert problem(response) == (412, "precondition-failed")
    assert response.headers["etag"] == etag
    assert github.count == 1


@conditions_that_fail
async def test_a_delete_of_a_record_in_another_state_is_412_and_leaves_it(
    client: httpx.AsyncClient, rows: Rows, tracked: httpx.Response, header: str, condition: str
) -> None:
    etag = tracked.headers["etag"]
    headers = {header: condition.format(etag=etag)}
    response = await client.delete(tracked.headers["location"], headers=headers)
    assert problem(response) == (412, "precondition-failed")
    assert response.headers["etag"] == etag
    assert stored(rows) == [("octocat", "Hello-World", 80, 1296269)]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_if_match_counts_for_more_than_an_if_none_match_that_fits(
    client: httpx.AsyncClient, path: str, method: str
) -> None:
    headers = {"If-Match": '"other"', "If-None-Match": '"other"'}
    response = await client.request(method, path, headers=headers)
    assert problem(response) == (412, "precondition-failed")


async def test_a_record_that_changes_while_github_is_asked_is_412_for_if_match(
    client: httpx.AsyncClient, github: GitHub, path: str, etag: str, rows: Rows
) -> None:
    github.hold()
    refresh = asyncio.create_task(client.put(path, headers={"If-Match": etag}))
    await github.called(2)
    rows.execute("UPDATE repositories SET stars = 81")
    github.release()
    assert problem(await refresh) == (412, "precondition-failed")
    assert stored(rows) == [("octocat", "Hello-World", 81, 1296269)]


async def test_a_record_that_is_deleted_while_github_is_asked_is_404(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.hold()
    refresh = asyncio.create_task(client.put(path))
    await github.called(2)
    assert (await client.delete(path)).status_code == 204
    github.release()
    assert problem(await refresh) == (404, "repository-not-found")
    assert stored(rows) == []


# DELETE


async def test_untracking_is_204_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    response = await client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    assert "content-length" not in response.headers


async def test_untracking_deletes_the_record_and_its_link(
    client: httpx.AsyncClient, path: str, rows: Rows
) -> None:
    await client.delete(path)
    left = "SELECT (SELECT count(*) FROM repositories), (SELECT count(*) FROM github_links)"
    assert rows.execute(left).fetchone() == (0, 0)


async def test_untracking_leaves_other_records(
    client: httpx.AsyncClient, github: GitHub, path: str, rows: Rows
) -> None:
    github.add("fastapi", "fastapi", stars=5, id=7)
    await track(client, "fastapi", "fastapi")
    await client.delete(path)
    assert stored(rows) == [("fastapi", "fastapi", 5, 7)]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_untracked_record_is_404(
    client: httpx.AsyncClient, path: str, method: str
) -> None:
    await client.delete(path)
    assert problem(await client.request(method, path)) == (404, "repository-not-found")


async def test_what_was_untracked_can_be_tracked_again_under_a_new_id(
    client: httpx.AsyncClient, path: str
) -> None:
    await client.delete(path)
    response = await track(client, "octocat", "Hello-World")
    assert response.status_code == 201
    assert response.headers["location"] != path


async def test_untracking_does_not_ask_github(
    client: httpx.AsyncClient, github: GitHub, path: str
) -> None:
    await client.delete(path)
    assert github.count == 1


@pytest.mark.parametrize("condition", ["{etag}", "*"])
async def test_untracking_the_record_that_the_client_means_is_204(
    client: httpx.AsyncClient, path: str, etag: str, condition: str
) -> None:
    response = await client.delete(path, headers={"If-Match": condition.format(etag=etag)})
    assert response.status_code == 204


async def test_of_ten_simultaneous_deletes_one_is_204_and_nine_are_404(
    client: httpx.AsyncClient, path: str
) -> None:
    responses = await asyncio.gather(*(client.delete(path) for _ in range(10)))
    assert sorted(response.status_code for response in responses) == [204] + [404] * 9
