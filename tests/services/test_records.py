"""How what GitHub says is stored: answers that come late, writers that meet."""

import asyncio
from datetime import datetime, timedelta

import httpx2 as httpx
import psycopg
import pytest
from psycopg.errors import LockNotAvailable

from lab.github import answers
from lab.github.server import GitHub
from tests.services.support import (
    Rows,
    as_github_says,
    everything,
    post,
    problem,
    put,
    somebody_waits_for_a_lock,
    track,
)

pytestmark = pytest.mark.usefixtures("whole")

# Answers that come late


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
