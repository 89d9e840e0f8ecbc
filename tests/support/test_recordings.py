"""The recordings are complete, and are replayed as they were given."""

import httpx2
import pytest

from lab.github.server import GitHub
from tests.lab.github.conftest import HEADERS

from .recordings import VERDICTS, Recording, payloads, recordings, recordings_available, unread

pytestmark = pytest.mark.skipif(not recordings_available, reason="no recordings beside the project")


def named(recording: Recording) -> str:
    """Return the name of a recording."""
    return recording.id


def test_every_exchange_has_a_verdict() -> None:
    """No recorded answer about a repository is left out."""
    assert list(unread()) == []
    assert [recording.id for recording in recordings()] == list(VERDICTS)


@pytest.mark.asyncio
@pytest.mark.parametrize("recording", [*recordings(), *payloads()], ids=named)
async def test_is_replayed_as_recorded(recording: Recording) -> None:
    """A good client gets what was recorded, through redirects of GitHub's own."""
    async with (
        GitHub.serve() as github,
        httpx2.AsyncClient(base_url=github.url, headers=HEADERS) as client,
    ):
        recording.prepare(github)
        path = f"/repos/{recording.requested_owner}/{recording.requested_name}"
        headers = {}
        if recording.requested_id is not None:
            prior = await client.get(path)
            assert prior.json()["id"] == recording.requested_id
            path = f"/repositories/{recording.requested_id}"
            headers = {"If-None-Match": prior.headers["ETag"]}
        recording.play(github)
        answers = []
        for _ in range(len(recording.exchanges)):
            answer = await client.get(path, headers=headers)
            answers.append(answer)
            location = answer.headers.get("Location", "")
            assert not location.startswith("https://api.github.com")
            path = location if location.startswith(github.url) else path
        assert [a.status_code for a in answers] == [e.status for e in recording.exchanges]
        assert answers[-1].status_code == recording.status
        assert "{{" not in str(answers[-1].headers)
        assert answers[-1].text == recording.exchanges[-1].body
        if stored := recording.stored:
            assert isinstance(stored["stars"], int)
            assert recording.conditional == (recording.status == 304)
        assert github.violations == []
