"""Every kind of problem, provoked for real: its shape, its headers, and that it leaks nothing."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import psycopg
import pytest
from fastapi import HTTPException, Request, Response
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from app import PROJECT_DIR
from app.errors import Problem
from app.main import create_app
from app.postgres.url import connection_parameters
from app.settings import Settings
from app.web.openapi import describe
from lab.database import new_database
from lab.github.answers import Answer, bad_credentials, hang_up, html, rate_limited, silence
from lab.github.server import GitHub
from lab.service import environment, running
from tests.support.database import closed

pytestmark = pytest.mark.direct

JSON = {"Content-Type": "application/json"}
MEMBERS = {"type", "title", "status", "detail", "instance"}
EXTRA_MEMBERS = {
    "already-tracked": {"repository_id"},
    "database-unavailable": {"retry_after"},
    "github-rate-limited": {"retry_after"},
    "invalid-request": {"errors"},
    "name-held": {"repository_id"},
}
# The problems that belong to no operation of the API.
OF_NO_OPERATION = {"malformed-request", "method-not-allowed", "route-not-found"}


def kinds(parent: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Yield every kind of problem that has a name of its own."""
    for kind in parent.__subclasses__():
        if "slug" in vars(kind):
            yield kind
        yield from kinds(kind)


KINDS = {kind.slug: kind for kind in sorted(set(kinds()), key=lambda kind: kind.slug)}
every_kind = pytest.mark.parametrize("slug", KINDS)


class _Provocations:
    """A service, its GitHub and its database, of which each method provokes a problem."""

    def __init__(self, client: httpx.Client, github: GitHub, postgresql: str, url: str) -> None:
        self.client, self.github = client, github
        self.postgresql, self.url = postgresql, url
        github.add("octocat", "Hello-World", stars=80, id=1)
        github.add("octocat", "Spoon-Knife", stars=9, id=2)
        self.path = self.track("octocat", "Hello-World").headers["location"]
        self.track("octocat", "Spoon-Knife")

    def track(self, owner: str = "fastapi", name: str = "fastapi") -> httpx.Response:
        return self.client.post("/repos", json={"owner": owner, "repo_name": name})

    def track_answered(self, answer: Answer) -> httpx.Response:
        self.github.script("fastapi/fastapi", answer, repeat=True)
        return self.track()

    def malformed_request(self) -> httpx.Response:
        return self.client.request("WRONG", "/")

    def host_not_allowed(self) -> httpx.Response:
        return self.client.get(self.path, headers={"Host": "evil.test"})

    def route_not_found(self) -> httpx.Response:
        return self.client.get("/nowhere")

    def method_not_allowed(self) -> httpx.Response:
        return self.client.patch(self.path)

    def body_too_large(self) -> httpx.Response:
        return self.client.post("/repos", content=b" " * 70_000, headers=JSON)

    def unsupported_media_type(self) -> httpx.Response:
        return self.client.post("/repos", data={"owner": "fastapi"})

    def encoded_body(self) -> httpx.Response:
        return self.client.post("/repos", content=b"", headers={**JSON, "Content-Encoding": "br"})

    def invalid_request(self) -> httpx.Response:
        return self.client.post("/repos", json={})

    def repository_not_found(self) -> httpx.Response:
        return self.client.get(f"/repos/{uuid4()}")

    def already_tracked(self) -> httpx.Response:
        return self.track("octocat", "Hello-World")

    def precondition_failed(self) -> httpx.Response:
        return self.client.put(self.path, headers={"If-Match": '"other"'})

    def not_on_github(self) -> httpx.Response:
        return self.track("nobody", "nothing")

    def gone_from_github(self) -> httpx.Response:
        self.github.script("/repositories/1", Answer(451))
        return self.client.put(self.path)

    def name_held(self) -> httpx.Response:
        self.github.remove("octocat/Spoon-Knife")
        self.github.rename("octocat/Hello-World", "octocat", "Spoon-Knife")
        return self.client.put(self.path)

    def github_bad_answer(self) -> httpx.Response:
        return self.track_answered(html(200))

    def github_refused(self) -> httpx.Response:
        return self.track_answered(bad_credentials())

    def github_unavailable(self) -> httpx.Response:
        return self.track_answered(hang_up())

    def github_timeout(self) -> httpx.Response:
        return self.track_answered(silence())

    def github_rate_limited(self) -> httpx.Response:
        return self.track_answered(rate_limited())

    def database_unavailable(self) -> httpx.Response:
        with closed(self.postgresql, self.url):
            return self.client.get(self.path)

    def internal_error(self) -> httpx.Response:
        with psycopg.connect(**connection_parameters(self.url)) as connection:
            connection.execute("ALTER TABLE repositories RENAME stars TO elsewhere")
        return self.client.get(self.path)


# What changes the world for those that come after comes last.
LAST = ["name-held", "github-rate-limited", "database-unavailable", "internal-error"]


@pytest.fixture(scope="module")
def answers(postgresql: str) -> Iterator[dict[str, httpx.Response]]:
    """An answer of each kind of problem."""
    with GitHub.in_thread() as github, new_database(postgresql) as url:
        settings = {"DATABASE_URL": url, "GITHUB_API_URL": github.url}
        with (
            running(**settings) as service,
            httpx.Client(base_url=service.url, timeout=10) as client,
        ):
            provocations = _Provocations(client, github, postgresql, url)
            order = sorted(KINDS, key=lambda slug: LAST.index(slug) if slug in LAST else -1)
            yield {slug: provocation(provocations, slug)() for slug in order}


def provocation(provocations: _Provocations, slug: str) -> Callable[[], httpx.Response]:
    call: Callable[[], httpx.Response] = getattr(provocations, slug.replace("-", "_"))
    return call


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(create_app(Settings()))


@every_kind
def test_a_problem_has_the_status_of_its_kind(
    answers: dict[str, httpx.Response], slug: str
) -> None:
    assert (answers[slug].status_code, answers[slug].json()["type"]) == (
        KINDS[slug].status,
        f"/problems/{slug}",
    )


@every_kind
def test_a_problem_has_exactly_its_members(answers: dict[str, httpx.Response], slug: str) -> None:
    assert set(answers[slug].json()) == MEMBERS | EXTRA_MEMBERS.get(slug, set())


@every_kind
def test_a_problem_repeats_status_title_and_path(
    answers: dict[str, httpx.Response], slug: str
) -> None:
    answer, body = answers[slug], answers[slug].json()
    assert (body["status"], body["title"], body["instance"]) == (
        answer.status_code,
        KINDS[slug].title,
        answer.request.url.path,
    )


@every_kind
def test_a_problem_says_in_words_what_is_the_matter(
    answers: dict[str, httpx.Response], slug: str
) -> None:
    assert len(answers[slug].json()["detail"].split()) >= 3


@every_kind
def test_a_problem_has_the_media_type_of_problems(
    answers: dict[str, httpx.Response], slug: str
) -> None:
    assert answers[slug].headers["content-type"] == "application/problem+json"


@every_kind
def test_a_problem_is_kept_by_no_cache(answers: dict[str, httpx.Response], slug: str) -> None:
    assert answers[slug].headers["cache-control"] == "no-store"


@every_kind
def test_a_problem_has_a_request_id(answers: dict[str, httpx.Response], slug: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", answers[slug].headers["x-request-id"])


@every_kind
def test_a_problem_leaks_nothing(
    answers: dict[str, httpx.Response], slug: str, postgresql: str
) -> None:
    text = answers[slug].text
    parameters = connection_parameters(postgresql)
    leaks = ["SELECT", "psycopg", "sqlalchemy", "Traceback", 'File "', "tracker_test_", "elsewhere"]
    leaks += [
        "evil.test",
        "127.0.0.1",
        str(PROJECT_DIR),
        str(parameters.get("password", "psycopg")),
    ]
    assert [leak for leak in leaks if leak in text] == []


@pytest.mark.parametrize("slug", sorted(set(KINDS) - OF_NO_OPERATION))
def test_a_problem_is_one_that_the_document_knows_for_the_operation(
    answers: dict[str, httpx.Response], document: dict[str, Any], slug: str
) -> None:
    answer = answers[slug]
    path = "/repos" if answer.request.url.path == "/repos" else "/repos/{repo_id}"
    operation = document["paths"][path][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    assert slug in content["application/problem+json"]["examples"]


@every_kind
def test_a_problem_is_valid_by_the_schema_of_the_document(
    answers: dict[str, httpx.Response], document: dict[str, Any], slug: str
) -> None:
    reference = {"$ref": "#/components/schemas/ProblemDetails"}
    validator = Draft202012Validator({**reference, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(answers[slug].json())] == []


@pytest.mark.parametrize("slug", ["database-unavailable", "github-rate-limited"])
def test_a_problem_that_passes_says_when_in_its_body_and_in_its_headers(
    answers: dict[str, httpx.Response], slug: str
) -> None:
    retry_after = answers[slug].json()["retry_after"]
    assert retry_after >= 1
    assert answers[slug].headers["retry-after"] == str(retry_after)


def test_the_anonymous_limit_says_what_raises_it(answers: dict[str, httpx.Response]) -> None:
    assert "GITHUB_TOKEN" in answers["github-rate-limited"].json()["detail"]


def test_an_unforeseen_error_says_under_which_id_the_log_has_more(
    answers: dict[str, httpx.Response],
) -> None:
    answer = answers["internal-error"]
    assert answer.headers["x-request-id"] in answer.json()["detail"]


# HTTPException: its status, detail and headers, and what is answered: the kind and the sentence.
HTTP_EXCEPTIONS = [
    (400, "There was an error parsing the body", {}, "bad-request", "There was an error parsing"),
    (401, None, {"WWW-Authenticate": "Basic"}, "unauthorized", "401, Unauthorized"),
    (404, "No such thing", {}, "not-found", "No such thing"),
    (405, "Not today", {"Allow": "GET"}, "method-not-allowed", "Not today"),
    (418, None, {}, "i-m-a-teapot", "I'm a Teapot"),
    (422, ["not", "a", "sentence"], {}, "unprocessable", "422, Unprocessable"),
    (429, None, {"Retry-After": "7"}, "too-many-requests", "429, Too Many Requests"),
    (499, None, {}, "status-499", "499, Status 499"),
    (500, "password=hunter2", {}, "internal-server-error", "500, Internal Server Error"),
    (503, "db.internal is down", {"Retry-After": "9"}, "service-unavailable", "503, Service"),
]


async def answer_to(error: HTTPException) -> httpx.Response:
    """Return the application's answer to a request whose endpoint raises this."""

    async def endpoint(_request: Request) -> Response:
        raise error

    application = create_app(Settings())
    application.add_route("/endpoint", endpoint)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/endpoint")


@pytest.mark.parametrize(("status", "detail", "headers", "slug", "sentence"), HTTP_EXCEPTIONS)
async def test_an_http_exception_is_a_problem_with_its_status_and_headers(
    status: int, detail: Any, headers: dict[str, str], slug: str, sentence: str
) -> None:
    answer = await answer_to(HTTPException(status, detail, headers))
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert (body["status"], body["instance"]) == (status, "/endpoint")
    assert body["type"].startswith(f"/problems/{slug}")
    assert sentence in body["detail"]
    assert {name: answer.headers[name] for name in headers} == headers


async def test_what_an_http_exception_says_of_the_service_itself_is_not_passed_on() -> None:
    answer = await answer_to(HTTPException(503, "db.internal is down"))
    assert "db.internal" not in answer.text


async def test_an_http_exception_that_is_no_failure_keeps_its_status_and_headers() -> None:
    answer = await answer_to(HTTPException(307, headers={"Location": "/elsewhere"}))
    assert (answer.status_code, answer.headers["location"], answer.content) == (
        307,
        "/elsewhere",
        b"",
    )


LOGGING_PROGRAM = """
import asyncio, sys
from starlette.exceptions import HTTPException
from app.logs import configure_logging
from tests.web.test_problems import answer_to

configure_logging("info", "json")
asyncio.run(answer_to(HTTPException(int(sys.argv[1]), "db.internal is down")))
"""


@pytest.mark.parametrize(("status", "lines"), [(429, 0), (503, 1)])
def test_an_http_exception_is_logged_if_it_is_a_failure_of_the_service(
    status: int, lines: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOGGING_PROGRAM, str(status)],
        cwd=PROJECT_DIR,
        env=environment(),
        stderr=subprocess.PIPE,
        check=True,
    )
    logged = [json.loads(line) for line in ended.stderr.splitlines()]
    failures = [line for line in logged if line["event"] == "request failed"]
    assert len(failures) == lines
    assert all("db.internal is down" in line["exception"] for line in failures)
    assert all(line["request_id"] for line in failures)
