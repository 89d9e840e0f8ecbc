"""The stand-in for GitHub runs in a loop, in a thread, in a process, and below a prefix."""

import asyncio
import json

import httpx2
import pytest

from lab.github.process import github_process
from lab.github.server import GitHub
from tests.lab.github.conftest import HEADERS


async def test_may_live_under_a_prefix() -> None:
    """An Enterprise server answers under /api/v3, redirects included."""
    async with (
        GitHub.serve(prefix="/api/v3") as github,
        httpx2.AsyncClient(base_url=github.url, headers=HEADERS) as client,
    ):
        github.add("old", "name")
        github.rename("old/name", "new", "name")
        answer = await client.get("/repos/old/name", follow_redirects=True)
        assert answer.json()["full_name"] == "new/name"
        assert github.paths[0] == "/api/v3/repos/old/name"
        assert github.violations == []


def test_lives_in_a_thread() -> None:
    """Synchronous code can use it too."""
    with GitHub.in_thread() as github, httpx2.Client(headers=HEADERS) as client:
        github.add("o", "r", stars=3)
        assert client.get(f"{github.url}/repos/o/r").json()["stargazers_count"] == 3
        address = f"{github.url}/repos/o/r"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address)


async def test_waits_for_calls_in_another_thread() -> None:
    """Holding, counting and releasing work across threads."""
    with GitHub.in_thread() as github:
        async with httpx2.AsyncClient(headers=HEADERS) as client:
            github.hold()
            call = asyncio.create_task(client.get(f"{github.url}/repos/o/r"))
            await github.called(1)
            github.add("o", "r")
            github.release()
            assert (await call).status_code == 200


def test_lives_in_a_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A process of its own takes orders by HTTP, and makes up what it does not know."""
    index = tmp_path_factory.mktemp("index") / "index.jsonl"
    rows = [(1, "a/b", 10), (2, "A/B", 20), (3, "c/d", 30)]
    names = ("id", "full_name", "stargazers_count")
    index.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    with (
        github_process("--index", str(index)) as github,
        httpx2.Client(base_url=github.url, headers=HEADERS, follow_redirects=True) as client,
    ):
        assert client.get("/repos/a/b").json()["stargazers_count"] == 10
        github.order(stars={"a/b": 11}, rename=["c/d", "e/f"], add={"g/h": 5})
        assert client.get("/repos/a/b").json()["stargazers_count"] == 11
        assert client.get("/repos/c/d").json()["full_name"] == "e/f"
        assert client.get("/repos/x/Y").status_code == 404
        github.order(generate=True, remove="a/b")
        made_up = client.get("/repos/x/Y").json()
        assert made_up["full_name"] == "x/y"
        assert client.get(f"/repositories/{made_up['id']}").json() == made_up
        assert client.get("/repositories/1").status_code == 404
        client.get("/user")
        github.order(remaining=0)
        assert client.get("/repos/x/y").status_code == 403
        report = github.report()
        assert report["calls"] == 10
        assert report["violations"] == ["GET /user: no such route"]
