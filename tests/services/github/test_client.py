"""What is asked of GitHub, and how its answers are taken."""

import tracemalloc

import pytest

from app.errors import (
    GitHubBadAnswer,
    GitHubRateLimited,
    GitHubRefused,
    GitHubUnavailable,
)
from app.models import GitHubRepository
from app.services.github.client import GitHub
from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import ANY
from lab.github.server import GitHub as StandIn
from tests.services.conftest import Ask
from tests.services.github.support import MOMENT, TOKEN, assert_unharmed, by_number, error_of

# What is asked, and how


async def test_a_repository_is_found_by_its_name_in_any_case(
    asker: GitHub, github: StandIn
) -> None:
    known = github.add("octocat", "Hello-World", stars=80)
    found = await asker.repository("OctoCat", "hello-world")
    assert (found.github_id, found.owner, found.name, found.stars) == (
        known.id,
        "octocat",
        "Hello-World",
        80,
    )


async def test_a_repository_is_found_by_its_number(asker: GitHub, github: StandIn) -> None:
    known = github.add("octocat", "Hello-World", stars=80)
    found = await by_number(asker, known.id)
    assert (found.owner, found.name, found.stars) == ("octocat", "Hello-World", 80)


@pytest.mark.parametrize("name", [".github", "a..b", "...", "-", "_", "x.git", "A-b_C.d"])
async def test_an_odd_name_reaches_github_as_it_is(
    asker: GitHub, github: StandIn, name: str
) -> None:
    github.add("octocat_acme", name)
    assert (await asker.repository("octocat_acme", name)).name == name
    assert github.paths == [f"/repos/octocat_acme/{name}"]


async def test_an_enterprise_server_is_asked_below_its_prefix(ask: Ask) -> None:
    async with StandIn.serve(prefix="/api/v3") as server, ask(server.url) as client:
        known = server.add("octocat", "new")
        server.add("octocat", "old", id=5)
        server.rename("octocat/old", "octocat", "renamed")
        assert (await client.repository("octocat", "new")).github_id == known.id
        assert (await client.repository("octocat", "old")).name == "renamed"
        assert (await by_number(client, 5)).name == "renamed"
        assert server.violations == []
        assert {path[:8] for path in server.paths} == {"/api/v3/"}


async def test_the_address_may_end_with_a_slash(ask: Ask, github: StandIn) -> None:
    github.add("a", "b")
    async with ask(f"{github.url}/") as client:
        assert (await client.repository("a", "b")).name == "b"


# The token


async def test_the_token_stands_in_one_header_only(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b")
    github.rename(known, "a", "c")
    async with ask(token=TOKEN) as client:
        found = await client.repository("a", "b")
        await client.check(found, asked_at=MOMENT)
    assert len(github.calls) == 3
    for call in github.calls:
        assert call.headers.pop("authorization") == f"Bearer {TOKEN}"
        assert TOKEN not in f"{call.path} {call.headers} {call.body!r}"


@pytest.mark.parametrize("refusal", [answers.bad_credentials(), answers.forbidden()])
@pytest.mark.parametrize(("token", "advice"), [(None, "set GITHUB_TOKEN"), (TOKEN, "Its operator")])
async def test_the_advice_to_a_refusal_fits_whether_there_is_a_token(
    ask: Ask, github: StandIn, refusal: Answer, token: str | None, advice: str
) -> None:
    async with ask(token=token) as client:
        github.script("a/b", refusal)
        error = await error_of(client)
    assert isinstance(error, GitHubRefused)
    assert advice in error.detail
    assert ("no token" in error.detail) is (token is None)


async def test_without_a_token_none_is_sent(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    await asker.repository("a", "b")
    assert "authorization" not in github.calls[0].headers


async def test_the_token_is_in_no_representation_and_no_error(ask: Ask, github: StandIn) -> None:
    async with ask(token=TOKEN) as client:
        github.token = "another"  # noqa: S105
        error = await error_of(client)
        assert TOKEN not in f"{client!r} {vars(client)} {error!r} {error.__cause__!r} {vars(error)}"
    assert isinstance(error, GitHubRefused)


# Conditional requests


async def test_an_etag_goes_with_a_token_and_is_answered_unchanged(
    ask: Ask, github: StandIn
) -> None:
    github.add("a", "b")
    async with ask(token=TOKEN) as client:
        found = await client.repository("a", "b")
        assert (await client.check(found, asked_at=MOMENT)).repository is found
    assert github.calls[1].headers["if-none-match"] == found.etag
    assert github.remaining == 4999


async def test_a_change_is_told_to_whoever_has_an_old_etag(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b", stars=1)
    async with ask(token=TOKEN) as client:
        old = await client.repository("a", "b")
        known.stars = 2
        new = (await client.check(old, asked_at=MOMENT)).repository
    assert new.stars == 2
    assert new.etag != old.etag


async def test_an_etag_is_not_sent_without_a_token(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    found = await asker.repository("a", "b")
    assert (await asker.check(found, asked_at=MOMENT)).repository == found
    assert "if-none-match" not in github.calls[1].headers


async def test_unchanged_is_a_bad_answer_to_whoever_did_not_ask(ask: Ask, github: StandIn) -> None:
    known = github.add("a", "b")
    github.script(ANY, Answer(304), repeat=True)
    async with ask(token=TOKEN) as client:
        assert isinstance(await error_of(client), GitHubBadAnswer)
        with pytest.raises(GitHubBadAnswer):
            await by_number(client, known.id)


async def test_an_answer_about_another_number_is_a_bad_answer(
    asker: GitHub, github: StandIn
) -> None:
    body = {"id": 6, "full_name": "a/b", "stargazers_count": 1}
    github.script("/repositories/5", Answer(body=body))
    with pytest.raises(GitHubBadAnswer):
        await by_number(asker, 5)


# The retry


PASSING = [
    answers.hang_up(),
    answers.hang_up(reset=True),
    answers.html(502),
    answers.html(503),
    Answer(504),
]


@pytest.mark.parametrize("failure", PASSING, ids=["close", "reset", "502", "503", "504"])
async def test_a_passing_failure_is_tried_once_more(
    asker: GitHub, github: StandIn, failure: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", failure)
    assert (await asker.repository("a", "b")).name == "b"
    assert github.count == 2


@pytest.mark.parametrize("failure", PASSING, ids=["close", "reset", "502", "503", "504"])
async def test_a_lasting_failure_is_tried_no_more_than_twice(
    asker: GitHub, github: StandIn, failure: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", failure, failure)
    assert isinstance(await error_of(asker), GitHubUnavailable)
    assert github.count == 2
    await assert_unharmed(asker, github)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 451, 500, 501, 520])
async def test_what_would_fail_again_is_not_tried_again(
    asker: GitHub, github: StandIn, status: int
) -> None:
    github.add("a", "b")
    github.script("a/b", Answer(status))
    await error_of(asker)
    assert github.count == 1


async def test_a_github_that_is_not_there_is_unavailable(ask: Ask) -> None:
    async with StandIn.serve() as gone:
        url = gone.url
    async with ask(url) as client:
        assert isinstance(await error_of(client), GitHubUnavailable)


async def test_a_connection_that_was_closed_in_the_meantime_does_no_harm(
    asker: GitHub, github: StandIn
) -> None:
    github.add("a", "b")
    github.script("a/b", *[answers.farewell()] * 10)
    for _ in range(10):
        assert (await asker.repository("a", "b")).name == "b"


# Bodies


BAD_BODIES = {
    "too large": answers.huge(2_000_000),
    "announced to be too large": answers.huge(2_000_000, announced=True),
    "a bomb": answers.gzip_bomb(8),
    "not gzip": Answer(headers={"Content-Encoding": "gzip"}, body=b"{}"),
    "cut": answers.cut(),
    "chunks without an end": answers.chunked(cut_off=True),
    "shorter than announced": answers.lie(-500),
    "no HTTP": answers.garbage(),
    "a page labelled JSON": answers.html(200),
    "a page": answers.html(200, "text/html"),
    "an empty one": Answer(),
    "a list": Answer(body=[]),
    "no content": Answer(204),
}


@pytest.mark.parametrize("answer", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_that_cannot_be_used_is_a_bad_gateway(
    asker: GitHub, github: StandIn, answer: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", answer, repeat=True)
    assert (await error_of(asker)).status == 502
    await assert_unharmed(asker, github)


async def test_a_body_in_chunks_is_read(asker: GitHub, github: StandIn) -> None:
    github.add("a", "b")
    github.script("a/b", answers.chunked())
    assert (await asker.repository("a", "b")).name == "b"


async def test_a_body_just_below_a_mebibyte_is_read(asker: GitHub, github: StandIn) -> None:
    body: dict[str, object] = {"id": 1, "full_name": "a/b", "stargazers_count": 2}
    github.script("a/b", answers.chunked(Answer(body=body | {"padding": "x" * 1_048_000})))
    assert (await asker.repository("a", "b")).stars == 2


@pytest.mark.parametrize(
    "description",
    [
        rb"half a smile \ud83d",
        b"a raw \x01 control character and a line\nbreak",
        "Latin-1: München".encode("latin-1"),
        b"bytes of nothing \xff\xfe\xed\xa0\x80",
    ],
    ids=["surrogate", "control", "latin-1", "bytes"],
)
async def test_a_field_that_is_not_read_spoils_nothing(
    asker: GitHub, github: StandIn, description: bytes
) -> None:
    body = b'{"id": 5, "description": "%b", "full_name": "a/b", "stargazers_count": 2}'
    github.script("a/b", Answer(body=body % description))
    assert await asker.repository("a", "b") == GitHubRepository(5, "a", "b", 2, None)


async def test_a_refusal_is_read_whatever_else_it_says(asker: GitHub, github: StandIn) -> None:
    body = b'{"message": "M\xfcnchen: \x01 secondary rate limit", "documentation_url": "\\ud83d"}'
    github.script("a/b", Answer(403, body=body))
    assert isinstance(await error_of(asker), GitHubRateLimited)


async def test_a_bomb_is_not_unpacked_into_memory(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.gzip_bomb(64))
    tracemalloc.start()
    try:
        await error_of(asker)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
