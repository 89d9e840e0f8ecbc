"""Names that move from one repository to another, and the records that hold them."""

import asyncio
from dataclasses import replace
from uuid import UUID

import httpx2 as httpx
import pytest

from app.errors import GitHubTimeout
from app.services.tracker import Tracker
from app.web.conditions import Conditions
from lab.github import answers
from lab.github.answers import Answer, Stream
from lab.github.server import GitHub
from tests.services.support import (
    Rows,
    as_github_says,
    everything,
    post,
    problem,
    put,
    stored,
    track,
    trade,
)

pytestmark = pytest.mark.usefixtures("whole")


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


async def test_an_answer_about_the_holder_of_a_name_may_be_overtaken(
    client: httpx.AsyncClient, github: GitHub, rows: Rows
) -> None:
    one, first = await track(client, github, "a/one")
    two, second = await track(client, github, "a/two")
    may_answer = asyncio.Event()

    async def late(out: Stream, head: bytes, body: bytes) -> None:
        await may_answer.wait()
        out.write(head + body)

    github.rename(second, "a", "three")
    github.rename(first, "a", "two")
    github.script(f"/repositories/{second.id}", replace(answers.ORDINARY, wire=late))
    refresh = asyncio.create_task(put(client, one))
    await github.called(4)
    with rows.transaction():
        rows.execute("UPDATE repositories SET repo_name = 'four', stars = 4 WHERE id = %s", [two])
        checked = "UPDATE github_links SET checked_at = clock_timestamp() WHERE repository_id = %s"
        rows.execute(checked, [two])
    may_answer.set()
    assert (await refresh).status_code == 200
    assert stored(rows) == {"a/two": (one, 0, first.id), "a/four": (two, 4, second.id)}


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
