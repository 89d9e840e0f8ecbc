"""What the four endpoints do to the records, one at a time and all at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2 as httpx
import psycopg
import pytest

from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import GitHub
from lab.github.world import GitHubRepository
from tests.conftest import Serve

Rows = psycopg.Connection[Any]
Record = tuple[Any, ...]

TOKEN = "ghp_very5ecret"  # noqa: S105


@pytest.fixture(autouse=True)
def whole(rows: Rows) -> Iterator[None]:
    """No test may leave a record without its link."""
    yield
    halves = (
        "SELECT count(*) FROM repositories WHERE id NOT IN (SELECT repository_id FROM github_links)"
    )
    assert rows.execute(halves).fetchone() == (0,)


@pytest.fixture
async def with_token(serve: Serve, github: GitHub) -> AsyncIterator[httpx.AsyncClient]:
    """Serve with a token."""
    github.token = TOKEN
    async with serve(github_token=TOKEN) as client:
        yield client


def stored(rows: Rows) -> dict[str, tuple[str, int, int]]:
    """Return id, stars and GitHub's number of each record, by its name."""
    query = (
        "SELECT owner || '/' || repo_name, id::text, stars, github_id"
        " FROM repositories JOIN github_links ON id = repository_id"
    )
    return {name: (key, stars, number) for name, key, stars, number in rows.execute(query)}


def everything(rows: Rows) -> list[Record]:
    """Return all that is stored."""
    query = "SELECT * FROM repositories FULL JOIN github_links ON id = repository_id ORDER BY id"
    return rows.execute(query).fetchall()


async def post(client: httpx.AsyncClient, full_name: str) -> httpx.Response:
    owner, _, name = full_name.partition("/")
    return await client.post("/repos", json={"owner": owner, "repo_name": name})


async def put(client: httpx.AsyncClient, key: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(f"/repos/{key}", headers=named)


async def track(
    client: httpx.AsyncClient, github: GitHub, full_name: str, stars: int = 0
) -> tuple[str, GitHubRepository]:
    """Track a repository that is new to GitHub too; return the record's id and the repository."""
    owner, _, name = full_name.partition("/")
    known = github.add(owner, name, stars=stars)
    response = await post(client, full_name)
    assert response.status_code == 201
    return response.json()["id"], known


def trade(github: GitHub, *circle: GitHubRepository) -> None:
    """Let each repository take the name of the next."""
    names = [(one.owner, one.name) for one in circle]
    for number, one in enumerate(circle):
        github.rename(one, "on-the-way", str(number))
    for one, name in zip(circle, [*names[1:], names[0]], strict=True):
        github.rename(one, *name)


def as_github_says(rows: Rows, github: GitHub) -> None:
    """Assert that each record is what GitHub says of it."""
    for name, (_, stars, number) in stored(rows).items():
        assert (github.ids[number].full_name, github.ids[number].stars) == (name, stars)


async def somebody_waits_for_a_lock(rows: Rows) -> None:
    """Wait until a connection of the service is held up by a lock."""
    async with asyncio.timeout(4):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while rows.execute(f"{waiting} AND datname = current_database()").fetchone() == (0,):
            await asyncio.sleep(0.01)
            rows.execute("SELECT pg_stat_clear_snapshot()")


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


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


@pytest.mark.parametrize("_turn", range(5))
async def test_an_old_and_a_new_name_at_once_make_one_record(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, _turn: int
) -> None:
    github.rename(github.add("a", "old", stars=3), "a", "new")
    names = ["a/old", "a/new", "A/OLD", "A/New"] * 3
    responses = await asyncio.gather(*(post(client, name) for name in names))
    assert sorted(response.status_code for response in responses) == [201] + [409] * 11
    key = next(one.json()["id"] for one in responses if one.status_code == 201)
    refused = {one.json()["repository_id"] for one in responses if one.status_code == 409}
    assert refused == {key}
    assert [(name, record[0]) for name, record in stored(rows).items()] == [("a/new", key)]


async def test_a_name_that_is_stored_is_refused_without_asking_github(
    client: httpx.AsyncClient, github: GitHub
) -> None:
    key, _ = await track(client, github, "a/b")
    response = await post(client, "A/B")
    assert problem(response) == (409, "already-tracked")
    assert response.json()["repository_id"] == key
    assert github.count == 1


async def test_a_former_name_is_refused_with_the_record_that_exists(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b")
    github.rename(known, "c", "d")
    before = everything(rows)
    response = await post(client, "c/d")
    assert problem(response) == (409, "already-tracked")
    assert response.json()["repository_id"] == key
    assert response.headers["location"] == f"/repos/{key}"
    assert everything(rows) == before


async def test_a_name_that_leads_elsewhere_is_stored_as_what_it_leads_to(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.rename(github.add("a", "b", stars=4), "C", "D")
    response = await post(client, "a/b")
    assert response.status_code == 201
    assert response.json() == {**response.json(), "owner": "C", "repo_name": "D", "stars": 4}
    as_github_says(rows, github)


async def test_a_name_that_a_stale_record_holds_is_freed_in_the_same_go(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    old, first = await track(client, github, "a/x", stars=1)
    github.rename(first, "a", "y")
    first.stars = 2
    second = github.add("b", "z", stars=9)
    github.rename(second, "a", "x")
    response = await post(client, "b/z")
    assert response.status_code == 201
    assert stored(rows) == {
        "a/x": (response.json()["id"], 9, second.id),
        "a/y": (old, 2, first.id),
    }


async def test_a_name_that_a_vanished_repository_holds_is_refused_with_its_record(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    old, first = await track(client, github, "a/x")
    github.remove(first)
    github.rename(github.add("b", "z"), "a", "x")
    before = everything(rows)
    response = await post(client, "b/z")
    assert problem(response) == (409, "name-held")
    assert response.json()["repository_id"] == old
    assert everything(rows) == before


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


async def test_a_refresh_corrects_the_record_that_holds_its_new_name(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    one, first = await track(client, github, "a/one", stars=1)
    two, second = await track(client, github, "a/two", stars=2)
    github.rename(second, "a", "three")
    github.rename(first, "a", "TWO")
    first.stars, second.stars = 10, 20
    assert (await put(client, one)).status_code == 200
    assert stored(rows) == {"a/TWO": (one, 10, first.id), "a/three": (two, 20, second.id)}


async def test_a_refresh_corrects_a_chain_of_names(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    tracked = [await track(client, github, f"a/{name}") for name in "xyz"]
    for (_, known), new in reversed(list(zip(tracked, "yzw", strict=True))):
        github.rename(known, "a", new)
        known.stars = 7
    assert (await put(client, tracked[0][0])).status_code == 200
    assert {name: record[0] for name, record in stored(rows).items()} == {
        "a/y": tracked[0][0],
        "a/z": tracked[1][0],
        "a/w": tracked[2][0],
    }
    as_github_says(rows, github)


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_a_refresh_corrects_records_that_traded_their_names(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, size: int
) -> None:
    tracked = [await track(client, github, f"a/{n}", stars=n) for n in range(size)]
    trade(github, *(known for _, known in tracked))
    assert (await put(client, tracked[0][0])).status_code == 200
    assert {key for key, _, _ in stored(rows).values()} == {key for key, _ in tracked}
    as_github_says(rows, github)


async def test_a_refresh_is_refused_while_a_vanished_repository_holds_its_name(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    one, first = await track(client, github, "a/one", stars=1)
    two, second = await track(client, github, "a/two", stars=2)
    github.remove(second)
    github.rename(first, "a", "two")
    first.stars = 10
    before = everything(rows)
    response = await put(client, one)
    assert problem(response) == (409, "name-held")
    assert response.json()["repository_id"] == two
    assert everything(rows) == before

    assert (await client.delete(f"/repos/{two}")).status_code == 204
    assert (await put(client, one)).status_code == 200
    assert stored(rows) == {"a/two": (one, 10, first.id)}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(500), (502, "github-unavailable")),
        (answers.html(200), (502, "github-bad-answer")),
        (answers.forbidden(), (502, "github-refused")),
        (answers.secondary_limit(30), (503, "github-rate-limited")),
        (answers.silence(), (504, "github-timeout")),
    ],
    ids=["500", "garbage", "403", "limit", "silence"],
)
async def test_a_failure_to_ask_about_the_holder_of_a_name_changes_nothing(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    github: GitHub,
    rows: Rows,
    answer: Answer,
    expected: tuple[int, str],
) -> None:
    monkeypatch.setattr("app.services.github.client.DEADLINE", 0.5)
    async with serve() as client:
        one, first = await track(client, github, "a/one")
        _, second = await track(client, github, "a/two")
        github.rename(second, "a", "three")
        github.rename(first, "a", "two")
        github.script(f"/repositories/{second.id}", answer, repeat=True)
        before = everything(rows)
        assert problem(await put(client, one)) == expected
    assert everything(rows) == before


FAILURES = {
    "not found": (answers.not_found(), (409, "gone-from-github")),
    "dmca": (answers.blocked(), (409, "gone-from-github")),
    "tos": (answers.blocked("tos"), (409, "gone-from-github")),
    "credentials": (answers.bad_credentials(), (502, "github-refused")),
    "forbidden": (answers.forbidden(), (502, "github-refused")),
    "secondary limit": (answers.secondary_limit(30), (503, "github-rate-limited")),
    "primary limit": (answers.rate_limited(), (503, "github-rate-limited")),
    "gone api": (Answer(410), (502, "github-bad-answer")),
    "ill": (answers.html(503), (502, "github-unavailable")),
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
    "silence": (answers.silence(), (504, "github-timeout")),
}


@pytest.mark.parametrize(("answer", "expected"), FAILURES.values(), ids=FAILURES)
async def test_a_record_stays_as_it_was_when_github_fails(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    github: GitHub,
    rows: Rows,
    answer: Answer,
    expected: tuple[int, str],
) -> None:
    monkeypatch.setattr("app.services.github.client.DEADLINE", 0.5)
    async with serve() as client:
        key, known = await track(client, github, "a/b", stars=1)
        known.stars = 2
        github.script(f"/repositories/{known.id}", answer, repeat=True)
        before = everything(rows)
        assert problem(await put(client, key)) == expected
        assert (await client.get(f"/repos/{key}")).json()["stars"] == 1
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


async def test_an_unchanged_answer_is_noted_and_changes_no_stars(
    with_token: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(with_token, github, "a/b", stars=1)
    checked = rows.execute("SELECT checked_at FROM github_links").fetchone()
    rest = rows.execute("SELECT r.*, etag FROM repositories r, github_links").fetchall()
    response = await put(with_token, key)
    assert response.json() == {"id": key, "owner": "a", "repo_name": "b", "stars": 1}
    assert "if-none-match" in github.calls[1].headers
    assert github.remaining == 4999
    assert rows.execute("SELECT r.*, etag FROM repositories r, github_links").fetchall() == rest
    again = rows.execute("SELECT checked_at FROM github_links").fetchone()
    assert checked is not None
    assert again is not None
    assert again > checked


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


async def test_the_stored_etag_is_always_that_of_the_stored_stars(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b", stars=1)
    before = rows.execute("SELECT stars, etag FROM repositories, github_links").fetchall()
    # Another replica stores a newer answer while this one is about to store its own.
    with rows.transaction():
        rows.execute("UPDATE repositories SET stars = 7")
        rows.execute("UPDATE github_links SET etag = 'that of seven stars'")
        refresh = asyncio.create_task(put(client, key))
        await somebody_waits_for_a_lock(rows)
    assert (await refresh).status_code == 200
    assert rows.execute("SELECT stars, etag FROM repositories, github_links").fetchall() == before


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


async def test_a_record_that_is_replaced_while_github_is_asked_is_not_found(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    github.script(f"/repositories/{known.id}", answers.ordinary(delay=0.3))
    refresh = asyncio.create_task(put(client, key))
    await github.called(2)
    assert (await client.delete(f"/repos/{key}")).status_code == 204
    assert (await post(client, "a/b")).status_code == 201
    before = everything(rows)
    assert problem(await refresh) == (404, "repository-not-found")
    assert everything(rows) == before


async def test_of_many_who_untrack_one_record_one_does(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b")
    removals = await asyncio.gather(*(client.delete(f"/repos/{key}") for _ in range(50)))
    assert sorted(removal.status_code for removal in removals) == [204] + [404] * 49
    assert everything(rows) == []


async def test_many_refreshes_of_one_record_all_succeed(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.anonymous.remaining = 1000
    key, known = await track(client, github, "a/b")

    async def refresh(stars: int) -> int:
        known.stars = stars
        return (await put(client, key)).status_code

    assert set(await asyncio.gather(*(refresh(stars) for stars in range(60)))) == {200}
    assert (await put(client, key)).status_code == 200
    as_github_says(rows, github)


@pytest.mark.parametrize("size", [2, 3, 4])
async def test_refreshes_of_records_that_trade_names_do_not_stand_in_each_others_way(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, size: int
) -> None:
    github.anonymous.remaining = 10_000
    tracked = [await track(client, github, f"a/{n}", stars=n) for n in range(size)]
    for _ in range(8):
        trade(github, *(known for _, known in tracked))
        responses = await asyncio.gather(*(put(client, key) for key, _ in tracked))
        assert [response.status_code for response in responses] == [200] * size
        as_github_says(rows, github)


async def test_transactions_that_meet_each_other_head_on_do_not_fail(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    # With a pause before each UPDATE, what is rare otherwise happens every time.
    rows.execute(
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END'"
    )
    try:
        github.anonymous.remaining = 10_000
        tracked = [await track(client, github, f"a/{n}", stars=n) for n in range(4)]
        rows.execute(
            "CREATE TRIGGER pause BEFORE UPDATE ON repositories"
            " FOR EACH STATEMENT EXECUTE FUNCTION pause()"
        )
        for _ in range(2):
            trade(github, *(known for _, known in tracked))
            responses = await asyncio.gather(*(put(client, key) for key, _ in tracked))
            assert [response.status_code for response in responses] == [200] * 4
            as_github_says(rows, github)
    finally:
        rows.execute("DROP FUNCTION pause CASCADE")


async def test_tracking_and_refreshing_one_name_at_once_succeed(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    github.anonymous.remaining = 10_000
    key, first = await track(client, github, "a/0", stars=1)
    for number in range(10):
        github.rename(first, "a", str(number + 1))
        second = github.add("b", str(number), stars=2)
        github.rename(second, "a", str(number))
        created, refreshed = await asyncio.gather(post(client, f"b/{number}"), put(client, key))
        assert (created.status_code, refreshed.status_code) == (201, 200)
        as_github_says(rows, github)


async def test_of_two_who_refresh_the_same_state_one_does_if_it_changes(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b", stars=0)
    for stars in range(1, 6):
        known.stars = stars
        etag = (await client.get(f"/repos/{key}")).headers["etag"]
        calls = [put(client, key, if_match=etag) for _ in range(4)]
        responses = await asyncio.gather(*calls)
        assert sorted(one.status_code for one in responses) == [200, 412, 412, 412]
        now = (await client.get(f"/repos/{key}")).headers["etag"]
        assert {one.headers["etag"] for one in responses} == {now}
    as_github_says(rows, github)


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
