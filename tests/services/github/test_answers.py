"""What each answer of GitHub means: the decision table, row by row and in its order."""

import pytest

from app.errors import (
    GitHubBadAnswer,
    GitHubRefused,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.models import GitHubRepository
from app.services.github.answers import GitHubAnswer
from tests.services.github.support import answer, read

KNOWN = GitHubRepository(7, "octocat", "Hello-World", 79, 'W/"tag"')
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes."


def described(**changes: object) -> GitHubAnswer:
    """Return a good answer with other members."""
    body = {"id": 7, "full_name": "octocat/Hello-World", "stargazers_count": 80, **changes}
    return answer(200, body, etag='W/"tag"')


# 200


def test_a_description_is_read_for_the_five_things_that_are_used() -> None:
    assert read(described(owner=None, private="?", stargazers=[], name=0)) == GitHubRepository(
        github_id=7, owner="octocat", name="Hello-World", stars=80, etag='W/"tag"'
    )


def test_a_description_without_an_etag_has_none() -> None:
    found = read(answer(200, {"id": 7, "full_name": "a/b", "stargazers_count": 0}))
    assert found == GitHubRepository(github_id=7, owner="a", name="b", stars=0, etag=None)


@pytest.mark.parametrize("stars", [0, 1, 2**31 - 1])
def test_any_star_count_that_can_be_stored_is_taken(stars: int) -> None:
    assert read(described(stargazers_count=stars)).stars == stars


@pytest.mark.parametrize("number", [1, 2**31, 7_226_953_014_636_709, 2**63 - 1])
def test_any_number_that_can_be_stored_is_taken(number: int) -> None:
    found = read(described(id=number))
    assert found.github_id == number


@pytest.mark.parametrize(
    "full_name",
    ["a/.github", "a/a..b", "a/...", "octocat_acme/x", "gil--/x-", f"{'o' * 100}/{'n' * 100}"],
)
def test_a_name_that_github_once_allowed_is_taken(full_name: str) -> None:
    found = read(described(full_name=full_name))
    assert f"{found.owner}/{found.name}" == full_name


@pytest.mark.parametrize(
    "stars", [-1, 2**31, 2**63, 10**30, 5.0, 5.5, "5", True, None, [5], {"count": 5}]
)
def test_a_star_count_that_is_none_is_a_bad_answer(stars: object) -> None:
    with pytest.raises(GitHubBadAnswer):
        read(described(stargazers_count=stars))


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**30, 7.0, "7", True, None, [7]])
def test_a_number_that_is_none_is_a_bad_answer(number: object) -> None:
    with pytest.raises(GitHubBadAnswer):
        read(described(id=number))


@pytest.mark.parametrize(
    "full_name",
    [
        "noslash",
        "a/b/c",
        "/",
        "a/",
        "/b",
        "",
        " a/b",
        "a/b ",
        "a /b",
        "a/b\n",
        "a/.",
        "a/..",
        "../b",
        "a.b/c",
        "a/b c",
        "a/b#c",
        "a/b%2fc",
        "ä/b",
        "a/\u0660",
        "a/b\x00",
        f"{'o' * 101}/n",
        f"o/{'n' * 101}",
        None,
        5,
        ["a", "b"],
    ],
)
def test_a_name_that_cannot_be_one_is_a_bad_answer(full_name: object) -> None:
    with pytest.raises(GitHubBadAnswer):
        read(described(full_name=full_name))


@pytest.mark.parametrize("member", ["id", "full_name", "stargazers_count"])
def test_a_description_that_lacks_a_member_is_a_bad_answer(member: str) -> None:
    body = {"id": 7, "full_name": "a/b", "stargazers_count": 0}
    del body[member]
    with pytest.raises(GitHubBadAnswer):
        read(answer(200, body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><title>Unicorn!</title>",
        b"[]",
        b'[{"id": 7, "full_name": "a/b", "stargazers_count": 0}]',
        b"null",
        b"7",
        b'"a/b"',
        b"{}",
        b'{"id": 7, "full_name": "a/b", "stargazers_count": 0',
        b'{"id": 7, "full_name": "a/b", "stargazers_count": NaN}',
        b'{"id": 7, "full_name": "a/\\ud800", "stargazers_count": 0}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"id": ' + b"9" * 100_000 + b', "full_name": "a/b", "stargazers_count": 0}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_describes_no_repository_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(GitHubBadAnswer):
        read(answer(200, body))


# 304


def test_unchanged_is_no_repository_where_it_was_asked_for() -> None:
    assert read(answer(304), unchanged=KNOWN) is KNOWN


def test_unchanged_is_a_bad_answer_where_it_was_not_asked_for() -> None:
    with pytest.raises(GitHubBadAnswer):
        read(answer(304))


def test_a_conditional_request_may_be_answered_with_a_description() -> None:
    assert read(described(), unchanged=KNOWN).stars == 80


# 401


@pytest.mark.parametrize("left", ["59", "0"])
def test_a_401_is_a_refusal_that_names_the_token(left: str) -> None:
    given = answer(401, {"message": "Bad credentials"}, x_ratelimit_remaining=left)
    with pytest.raises(GitHubRefused, match="renew GITHUB_TOKEN"):
        read(given, authorized=True)


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_refused_without_a_token_is_told_to_set_one(status: int) -> None:
    with pytest.raises(GitHubRefused) as caught:
        read(answer(status), authorized=False)
    assert "no token" in caught.value.detail
    assert "set GITHUB_TOKEN" in caught.value.detail


def test_who_is_refused_with_a_token_is_told_to_check_its_rights() -> None:
    with pytest.raises(GitHubRefused, match="GITHUB_TOKEN is allowed"):
        read(answer(403), authorized=True)


# 403 and 451 that are blocks


@pytest.mark.parametrize("reason", ["dmca", "tos", "unavailable"])
@pytest.mark.parametrize("status", [403, 451])
def test_a_block_takes_the_repository_off_github(status: int, reason: str) -> None:
    body = {"message": "Repository access blocked", "block": {"reason": reason}}
    with pytest.raises(NotOnGitHub, match=reason):
        read(answer(status, body))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", {"block": None}, {"message": SECONDARY}])
def test_a_451_is_a_block_whatever_it_says(body: object) -> None:
    with pytest.raises(NotOnGitHub):
        read(answer(451, body, retry_after="5", x_ratelimit_remaining="0"))


@pytest.mark.parametrize(
    "block", [{}, {"reason": None}, {"reason": 5}, {"reason": ["tos"]}, {"html_url": "x"}]
)
def test_a_block_without_a_reason_is_a_block(block: object) -> None:
    with pytest.raises(NotOnGitHub):
        read(answer(403, {"block": block}))


def test_a_reason_that_is_no_word_is_not_repeated() -> None:
    with pytest.raises(NotOnGitHub) as caught:
        read(answer(451, {"block": {"reason": "<script>"}}))
    assert "script" not in caught.value.detail


# 403, the rest


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Resource not accessible by integration"},
        {"message": "Max number of login attempt exceeded"},
        {"message": "Missing or invalid User Agent string."},
        {"message": None, "documentation_url": None, "block": None},
        {"message": 5, "documentation_url": 5},
        {},
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"\xff",
    ],
)
def test_a_403_that_is_nothing_else_is_a_refusal(body: object) -> None:
    with pytest.raises(GitHubRefused):
        read(answer(403, body, x_ratelimit_remaining="4996"))


# 404, 410, 5xx and whatever else


@pytest.mark.parametrize("body", [b"", {"message": "Not Found"}, {"message": SECONDARY}])
def test_a_404_is_no_repository(body: object) -> None:
    with pytest.raises(NotOnGitHub):
        read(answer(404, body))


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", {"id": 7, "full_name": "a/b"}])
def test_a_5xx_is_an_error_of_github_whatever_it_says(status: int, body: object) -> None:
    with pytest.raises(GitHubUnavailable):
        read(answer(status, body))


@pytest.mark.parametrize("status", [202, 204, 206, 300, 305, 400, 402, 405, 406, 410, 415, 422])
def test_a_status_that_github_has_no_reason_for_is_a_bad_answer(status: int) -> None:
    with pytest.raises(GitHubBadAnswer):
        read(answer(status, {"id": 7, "full_name": "a/b", "stargazers_count": 0}))
