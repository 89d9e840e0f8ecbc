"""How what GitHub says is stored: names that move, answers that come late, writers that meet."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import httpx2 as httpx
import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from app.errors import GitHubTimeout
from app.services.tracker import Tracker
from app.web.conditions import Conditions
from lab.github import answers
from lab.github.answers import Answer
from lab.github.server import GitHub
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
    trade,
)

pytestmark = pytest.mark.usefixtures("whole")

# Names


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
    ],
    ids=["500", "garbage", "403", "limit"],
)
async def test_a_failure_to_ask_about_the_holder_of_a_name_changes_nothing(
    client: httpx.AsyncClient,
    github: GitHub,
    rows: Rows,
    answer: Answer,
    expected: tuple[int, str],
) -> None:
    one, first = await track(client, github, "a/one")
    _, second = await track(client, github, "a/two")
    github.rename(second, "a", "three")
    github.rename(first, "a", "two")
    github.script(f"/repositories/{second.id}", answer, repeat=True)
    before = everything(rows)
    assert problem(await put(client, one)) == expected
    assert everything(rows) == before


async def test_silence_about_the_holder_of_a_name_changes_nothing(
    client: httpx.AsyncClient, hasty_tracker: Tracker, github: GitHub, rows: Rows
) -> None:
    one, first = await track(client, github, "a/one")
    _, second = await track(client, github, "a/two")
    github.rename(second, "a", "three")
    github.rename(first, "a", "two")
    github.script(f"/repositories/{second.id}", answers.silence(), repeat=True)
    before = everything(rows)
    with pytest.raises(GitHubTimeout):
        await hasty_tracker.refresh(UUID(one), Conditions())
    assert everything(rows) == before


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


# Answers that come late


async def test_a_check_is_as_old_as_the_question(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b")
    github.hold()
    before = now(rows)
    refresh = asyncio.create_task(put(client, key))
    await github.called(2)
    asked = now(rows)
    github.release()
    assert (await refresh).status_code == 200
    assert before < checked_at(rows) < asked


async def test_an_answer_that_a_later_check_has_overtaken_is_not_stored(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(client, github, "a/b", stars=1)
    github.hold()
    refresh = asyncio.create_task(put(client, key))
    await github.called(2)
    checked_elsewhere(rows, stars=7, etag="that of seven stars")
    before = everything(rows)
    github.release()
    response = await refresh
    assert (response.status_code, response.json()["stars"]) == (200, 7)
    assert response.headers["etag"] == (await client.get(f"/repos/{key}")).headers["etag"]
    assert everything(rows) == before


async def test_a_new_name_that_a_later_check_has_overtaken_asks_nobody_for_it(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    one, first = await track(client, github, "a/one")
    _, second = await track(client, github, "a/two")
    github.remove(second)
    github.rename(first, "a", "two")
    github.hold()
    refresh = asyncio.create_task(put(client, one))
    await github.called(3)
    checked_elsewhere(rows, stars=7, etag=None)
    before = everything(rows)
    github.release()
    response = await refresh
    assert (response.status_code, response.json()["repo_name"]) == (200, "one")
    assert everything(rows) == before
    assert github.count == 3


async def test_an_answer_is_stored_after_the_clock_was_put_back(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, known = await track(client, github, "a/b", stars=1)
    rows.execute("UPDATE github_links SET checked_at = checked_at + interval '1 hour'")
    before = checked_at(rows)
    known.stars = 2
    assert (await put(client, key)).json()["stars"] == 2
    assert checked_at(rows) - before == timedelta(microseconds=1)


async def test_unchanged_means_the_count_that_came_with_the_etag(
    with_token: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    key, _ = await track(with_token, github, "a/b", stars=1)
    told = rows.execute("SELECT stars, etag FROM repositories, github_links").fetchall()
    github.hold()
    refresh = asyncio.create_task(put(with_token, key))
    await github.called(2)
    # An answer that was asked for earlier is stored meanwhile, without a new time.
    rows.execute("UPDATE repositories SET stars = 7")
    rows.execute("UPDATE github_links SET etag = 'that of seven stars'")
    github.release()
    assert (await refresh).json()["stars"] == 1
    assert rows.execute("SELECT stars, etag FROM repositories, github_links").fetchall() == told


def now(rows: Rows) -> datetime:
    """Return the time by PostgreSQL's clock."""
    ((moment,),) = rows.execute("SELECT clock_timestamp()").fetchall()
    assert isinstance(moment, datetime)
    return moment


def checked_at(rows: Rows) -> datetime:
    """Return when GitHub was asked for what is stored of the only record."""
    ((moment,),) = rows.execute("SELECT checked_at FROM github_links").fetchall()
    assert isinstance(moment, datetime)
    return moment


def checked_elsewhere(rows: Rows, *, stars: int, etag: str | None) -> None:
    """Store what another service was told of every record right now."""
    with rows.transaction():
        rows.execute("UPDATE repositories SET stars = %s", [stars])
        rows.execute("UPDATE github_links SET etag = %s, checked_at = clock_timestamp()", [etag])


# Writers who meet


async def test_a_record_is_locked_before_its_link_as_a_deletion_does(
    client: httpx.AsyncClient, github: GitHub, rows: Rows, database_url: str
) -> None:
    key, known = await track(client, github, "a/b")
    known.stars = 1
    with rows.transaction():
        rows.execute("SELECT FROM github_links FOR UPDATE")
        refresh = asyncio.create_task(put(client, key))
        await somebody_waits_for_a_lock(rows)
        with psycopg.connect(database_url) as other, pytest.raises(LockNotAvailable):
            other.execute("SELECT FROM repositories FOR UPDATE NOWAIT")
    assert (await refresh).status_code == 200


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
