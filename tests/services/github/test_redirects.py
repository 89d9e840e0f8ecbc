"""Which redirects are followed, and how far."""

import pytest

from app.errors import (
    GitHubBadAnswer,
)
from app.services.github.client import GitHub
from lab.github import answers
from lab.github.server import GitHub as StandIn
from tests.services.conftest import Ask
from tests.services.github.support import TOKEN, error_of


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["{base}/repositories/5", "/repositories/5"])
async def test_a_redirect_of_githubs_own_is_followed(
    asker: GitHub, github: StandIn, status: int, location: str
) -> None:
    github.add("new", "name", id=5)
    github.script("a/b", answers.redirect(location, status))
    assert (await asker.repository("a", "b")).owner == "new"
    assert github.paths == ["/repos/a/b", "/repositories/5"]


async def test_a_relative_redirect_is_followed_from_where_it_was_given(
    asker: GitHub, github: StandIn
) -> None:
    github.add("a", "name")
    github.script("a/b", answers.redirect("name"))
    assert (await asker.repository("a", "b")).name == "name"


@pytest.mark.parametrize(("hops", "calls"), [(1, 2), (2, 3), (3, 4)])
async def test_three_redirects_are_followed(
    asker: GitHub, github: StandIn, hops: int, calls: int
) -> None:
    github.add("new", "name", id=100 + hops)
    chain(github, hops)
    assert (await asker.repository("a", "b")).owner == "new"
    assert github.count == calls


async def test_a_fourth_redirect_is_not_followed(asker: GitHub, github: StandIn) -> None:
    github.add("new", "name", id=104)
    chain(github, 4)
    assert isinstance(await error_of(asker), GitHubBadAnswer)
    assert github.count == 4


def chain(github: StandIn, hops: int) -> None:
    """Redirect a/b so many times, to the repository 100 + hops in the end."""
    path = "/repos/a/b"
    for number in range(101, 101 + hops):
        github.script(path, answers.redirect(f"{{base}}/repositories/{number}"))
        path = f"/repositories/{number}"


async def test_a_loop_is_left(asker: GitHub, github: StandIn) -> None:
    github.script("a/b", answers.redirect("{base}/repos/a/b"), repeat=True)
    assert isinstance(await error_of(asker), GitHubBadAnswer)
    assert github.count == 4


@pytest.mark.parametrize(
    "location",
    [
        "{foreign}/repositories/5",
        "//{foreign_host}/repositories/5",
        "http://localhost:{port}/repositories/5",
        "https://127.0.0.1:{port}/repositories/5",
        "http://127.0.0.1/repositories/5",
        "http://user:password@127.0.0.1:{port}/repositories/5",
        "http://127.0.0.1:{port}@{foreign_host}/repositories/5",
        "ftp://127.0.0.1:{port}/repositories/5",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http://[::1/repositories/5",
        "http://127.0.0.1:99999999/repositories/5",
        "http://127.0.0.1:port/repositories/5",
        "http://xn--/repositories/5",
        "http://xn--zzzzzzz/repositories/5",
        "http://a..b/repositories/5",
        "http://\xff/repositories/5",
        "http://example.invalid\x00/repositories/5",
        "x" * 70_000,
        "http://" + "x" * 60_000 + "/",
    ],
    ids=lambda location: location[:60],
)
async def test_a_redirect_elsewhere_is_never_followed(
    ask: Ask, github: StandIn, elsewhere: StandIn, location: str
) -> None:
    github.foreign = elsewhere.url
    github.add("new", "name", id=5)
    host = elsewhere.url.removeprefix("http://")
    port = github.url.rpartition(":")[2]
    location = location.replace("{foreign_host}", host).replace("{port}", port)
    github.script("a/b", answers.redirect(location), repeat=True)
    async with ask(token=TOKEN) as client:
        assert (await error_of(client)).status == 502
    assert set(github.paths) == {"/repos/a/b"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_nowhere_is_a_bad_answer(
    asker: GitHub, github: StandIn, status: int
) -> None:
    github.script("a/b", answers.redirect(None, status))
    assert isinstance(await error_of(asker), GitHubBadAnswer)
    assert github.count == 1


async def test_a_second_hop_elsewhere_is_not_followed_either(
    ask: Ask, github: StandIn, elsewhere: StandIn
) -> None:
    github.foreign = elsewhere.url
    github.script("a/b", answers.redirect("{base}/repositories/5"))
    github.script("/repositories/5", answers.redirect("{foreign}/repositories/5"))
    async with ask(token=TOKEN) as client:
        assert isinstance(await error_of(client), GitHubBadAnswer)
    assert github.count == 2
