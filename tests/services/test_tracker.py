"""What the four endpoints do to the records, one at a time and all at once."""

import asyncio
from uuid import UUID

import httpx2 as httpx
import pytest

from app.errors import GitHubTimeout
from app.services.tracker import Tracker
from app.web.conditions import Conditions
from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import GitHub
from tests.conftest import Serve
from tests.services.support import (
    Rows,
    as_github_says,
    everything,
    post,
    problem,
    put,
    somebody_waits_for_a_lock,
    stored,
    track,
)

pytestmark = pytest.mark.usefixtures("whole")


# Tracking


async def test_of_a_hundred_who_track_one_repository_one_creates_it(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.add("FastAPI", "FastAPI", stars=5)
    github.hold()
    names = ["fastapi/fastapi", "FastAPI/FastAPI", "FASTAPI/FASTAPI", "fastAPI/fastApi"] * 25
    calls = [asyncio.create_task(post(client, name)) for name in names]
    await github.called(1)
    github.release()
    responses = await asyncio.gather(*calls)
    created = [response for response in responses if response.status_code == 201]
    refused = [response for response in responses if response.status_code == 409]
    assert (len(created), len(refused)) == (1, 99)
    key = created[0].json()["id"]
    assert {response.json()["repository_id"] for response in refused} == {key}
    assert {response.headers["location"] for response in refused} == {f"/repos/{key}"}
    assert [(name, record[0]) for name, record in stored(rows).items()] == [
        ("FastAPI/FastAPI", key)
    ]
    assert github.count == 1


async def test_a_name_that_is_stored_is_refused_without_asking_github(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    key, _ = await track(client, github, "a/b")
    response = await post(client, "A/B")
    assert problem(response) == (409, "already-tracked")
    assert response.json()["repository_id"] == key
    assert github.count == 1


async def test_a_name_that_leads_elsewhere_is_stored_as_what_it_leads_to(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.rename(github.add("a", "b", stars=4), "C", "D")
    response = await post(client, "a/b")
    assert response.status_code == 201
    assert response.json() == {**response.json(), "owner": "C", "repo_name": "D", "stars": 4}
    as_github_says(rows, github)


async def test_a_name_that_was_given_to_a_new_repository_can_be_tracked_after_a_refresh(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    old, first = await track(client, github, "a/x")
    github.rename(first, "a", "y")
    second = github.add("a", "x")
    assert problem(await post(client, "a/x")) == (409, "already-tracked")
    assert (await put(client, old)).status_code == 200
    response = await post(client, "a/x")
    assert response.status_code == 201
    assert stored(rows)["a/x"] == (response.json()["id"], 0, second.id)
    as_github_says(rows, github)


async def test_a_repository_can_be_tracked_again_after_it_was_untracked(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    key, _ = await track(client, github, "a/b")
    assert (await client.delete(f"/repos/{key}")).status_code == 204
    again = await post(client, "a/b")
    assert again.status_code == 201
    assert again.json()["id"] != key


async def test_a_hundred_repositories_are_tracked_at_once(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    for number in range(50):
        github.add("many", str(number), stars=number)
    github.anonymous.remaining = 1000
    names = [f"many/{number}" for number in range(50)] * 2
    responses = await asyncio.gather(*(post(client, name) for name in names))
    assert sorted(response.status_code for response in responses) == [201] * 50 + [409] * 50
    assert len(stored(rows)) == 50
    as_github_says(rows, github)


# Refreshing


async def test_a_refresh_stores_the_stars_of_now(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    known.stars = 2
    response = await put(client, key)
    assert response.json() == {"id": key, "owner": "a", "repo_name": "b", "stars": 2}
    assert response.json() == (await client.get(f"/repos/{key}")).json()
    as_github_says(rows, github)


@pytest.mark.parametrize("new", ["a/c", "c/b", "C/D", "A/B"])
async def test_a_refresh_follows_a_rename_and_a_transfer(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, new: str
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    github.rename(known, *new.split("/"))
    response = await put(client, key)
    assert response.status_code == 200
    assert stored(rows) == {new: (key, 1, known.id)}
    assert f"{response.json()['owner']}/{response.json()['repo_name']}" == new


FAILURES = {
    "not found": (answers.not_found(), (409, "gone-from-github")),
    "dmca": (answers.blocked(), (409, "gone-from-github")),
    "tos": (answers.blocked("tos"), (409, "gone-from-github")),
    "credentials": (answers.bad_credentials(), (502, "github-refused")),
    "forbidden": (answers.forbidden(), (502, "github-refused")),
    "secondary limit": (answers.secondary_limit(30), (503, "github-rate-limited")),
    "primary limit": (answers.rate_limited(), (503, "github-rate-limited")),
    "gone api": (Answer(410), (502, "github-bad-answer")),
    "server error": (answers.html(503), (502, "github-unavailable")),
    "garbage": (answers.garbage(), (502, "github-unavailable")),
    "hang-up": (answers.hang_up(), (502, "github-unavailable")),
    "page": (answers.html(200), (502, "github-bad-answer")),
    "huge": (answers.huge(2_000_000), (502, "github-bad-answer")),
    "redirect": (answers.redirect("{foreign}/repositories/1"), (502, "github-bad-answer")),
    "unchanged": (Answer(304), (502, "github-bad-answer")),
    "another": (
        Answer(body={"id": 1, "full_name": "x/y", "stargazers_count": 3}),
        (502, "github-bad-answer"),
    ),
}


@pytest.mark.parametrize(("answer", "expected"), FAILURES.values(), ids=FAILURES)
async def test_a_record_stays_as_it_was_when_github_fails(
    client: httpx.AsyncClient,
    github: GitHub,
    rows: Rows,
    answer: Answer,
    expected: tuple[int, str],
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    known.stars = 2
    github.script(f"/repositories/{known.id}", answer, repeat=True)
    before = everything(rows)
    assert problem(await put(client, key)) == expected
    assert (await client.get(f"/repos/{key}")).json()["stars"] == 1
    assert everything(rows) == before


async def test_a_record_stays_as_it_was_when_github_is_silent(
    client: httpx.AsyncClient, hasty_tracker: Tracker, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    github.script(f"/repositories/{known.id}", answers.silence(), repeat=True)
    before = everything(rows)
    with pytest.raises(GitHubTimeout):
        await hasty_tracker.refresh(UUID(key), Conditions())
    assert everything(rows) == before


@pytest.mark.parametrize(
    "answer",
    [answers.not_found(), Answer(500), answers.html(200), answers.garbage(), answers.hang_up()],
    ids=["404", "500", "page", "garbage", "hang-up"],
)
async def test_nothing_is_tracked_when_github_fails(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, answer: Answer
) -> None:
    github.add("a", "b")
    github.script("a/b", answer, answer)
    assert (await post(client, "a/b")).status_code in {404, 502}
    assert everything(rows) == []


async def test_with_a_token_every_change_is_seen(
    with_token: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(with_token, github, "a/b", stars=1)
    for stars in (2, 2, 3):
        known.stars = stars
        assert (await put(with_token, key)).json()["stars"] == stars
    github.rename(known, "a", "c")
    assert (await put(with_token, key)).json()["repo_name"] == "c"
    as_github_says(rows, github)


# Everything at once


@pytest.mark.parametrize("_turn", range(5))
async def test_a_refresh_and_an_untracking_at_once_leave_nothing(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, _turn: int
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    known.stars = 2
    calls = [put(client, key), client.delete(f"/repos/{key}"), put(client, key)]
    first, removal, second = await asyncio.gather(*calls)
    assert removal.status_code == 204
    assert {first.status_code, second.status_code} <= {200, 404}
    assert everything(rows) == []


async def test_a_record_that_is_untracked_while_github_is_asked_does_not_come_back(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b")
    github.hold()
    refresh = asyncio.create_task(put(client, key))
    await github.called(2)
    assert (await client.delete(f"/repos/{key}")).status_code == 204
    github.release()
    assert problem(await refresh) == (404, "repository-not-found")
    assert everything(rows) == []


async def test_of_many_who_untrack_one_record_one_does(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b")
    removals = await asyncio.gather(*(client.delete(f"/repos/{key}") for _ in range(50)))
    assert sorted(removal.status_code for removal in removals) == [204] + [404] * 49
    assert everything(rows) == []


async def test_a_condition_that_fails_does_not_cost_a_call(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    key, _ = await track(client, github, "a/b")
    assert problem(await put(client, key, if_match='"old"')) == (412, "precondition-failed")
    assert github.count == 1


# Clients who go away


async def test_a_client_who_goes_away_while_github_is_asked_leaves_nothing_half_done(
    serve: Serve, github: GitHub, rows: Rows
) -> None:
    github.add("a", "b", stars=1)
    github.hold()
    async with serve() as client:
        call = asyncio.create_task(post(client, "a/b"))
        await github.called(1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        github.release()
        assert (await post(client, "a/b")).status_code in {201, 409}
    assert len(stored(rows)) == 1


async def test_a_client_who_goes_away_while_the_record_is_stored_leaves_a_whole_one(
    serve: Serve, github: GitHub, rows: Rows
) -> None:
    known = github.add("a", "b", stars=1)
    async with serve() as client:
        with rows.transaction():
            rows.execute("LOCK TABLE github_links IN ROW EXCLUSIVE MODE")
            rows.execute("LOCK TABLE github_links IN SHARE MODE")
            call = asyncio.create_task(post(client, "a/b"))
            await somebody_waits_for_a_lock(rows)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert everything(rows) == []
    assert [record[1:] for record in stored(rows).values()] == [(1, known.id)]


async def test_the_others_are_served_when_the_first_client_goes_away(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.add("a", "b")
    github.hold()
    first = asyncio.create_task(post(client, "a/b"))
    await github.called(1)
    others = [asyncio.create_task(post(client, "a/b")) for _ in range(5)]
    # The service has taken the others in when it has answered whoever came after them.
    await client.get("/docs")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    github.release()
    statuses = sorted(one.status_code for one in await asyncio.gather(*others))
    assert statuses in ([201] + [409] * 4, [409] * 5)
    assert len(stored(rows)) == 1
    assert github.count == 1
