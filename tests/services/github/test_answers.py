"""What each answer of GitHub means: the decision table, row by row and in its order."""

import json
from email.utils import formatdate
from itertools import product
from typing import Any

import pytest

from app.errors import (
    GitHubBadAnswer,
    GitHubError,
    GitHubRateLimited,
    GitHubRefused,
    GitHubUnavailable,
    NotOnGitHub,
)
from app.models import GitHubRepository
from app.services.github.answers import GitHubAnswer, interpret, seconds_to_wait

NOW = 1_800_000_000
KNOWN = GitHubRepository(7, "octocat", "Hello-World", 79, 'W/"tag"')
HOUR = 3600
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes."
PAGES = "https://docs.github.com/rest/overview"


def answer(status: int, body: object = b"", **headers: str) -> GitHubAnswer:
    """Return an answer; `retry_after` stands for the header `retry-after`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return GitHubAnswer(status, named, content)


def described(**changes: object) -> GitHubAnswer:
    """Return a good answer with other members."""
    body = {"id": 7, "full_name": "octocat/Hello-World", "stargazers_count": 80, **changes}
    return answer(200, body, etag='W/"tag"')


def read(
    given: GitHubAnswer, *, unchanged: GitHubRepository | None = None, authorized: bool = False
) -> GitHubRepository:
    """Interpret an answer that came at NOW by our own clock."""
    return interpret(given, unchanged=unchanged, authorized=authorized, now=float(NOW))


def wait(given: GitHubAnswer) -> int:
    """Return the seconds to wait, as the answer must be a rate limit."""
    with pytest.raises(GitHubRateLimited) as caught:
        read(given)
    return caught.value.retry_after


def http_date(moment: float) -> str:
    return formatdate(moment, usegmt=True)


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


# 403 and 429 with Retry-After


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("007", 7),
        ("3600", 3600),
        ("3601", 3600),
        ("999999999999999999", 3600),
        ("", 60),
        ("soon", 60),
        ("-5", 60),
        ("1.5", 60),
        ("1e3", 60),
        ("nan", 60),
        ("inf", 60),
        ("0x10", 60),
        ("\u0663", 60),
        ("Mon, 99 Foo 2026 00:00:00 GMT", 60),
        (http_date(NOW + 8), 8),
        (http_date(NOW - 8), 1),
        (http_date(NOW + 100 * HOUR), 3600),
    ],
)
def test_retry_after_says_how_long_to_wait(status: int, header: str, seconds: int) -> None:
    assert wait(answer(status, retry_after=header)) == seconds


def test_a_retry_after_of_any_length_is_clamped() -> None:
    assert 60 <= wait(answer(403, retry_after="9" * 5000)) <= 3600


@pytest.mark.parametrize("skew", [-2 * HOUR, -90, 90, 2 * HOUR])
def test_a_date_in_retry_after_is_judged_by_the_date_of_the_answer(skew: int) -> None:
    theirs = NOW + skew
    given = answer(429, retry_after=http_date(theirs + 8), date=http_date(theirs))
    assert wait(given) == 8


@pytest.mark.parametrize("skew", [-2 * HOUR, -90, 90, 2 * HOUR])
def test_a_retry_after_that_says_nothing_means_a_minute_whatever_the_clocks(skew: int) -> None:
    assert wait(answer(403, retry_after="soon", date=http_date(NOW + skew))) == 60


def test_retry_after_wins_against_a_reset_that_is_later() -> None:
    given = answer(
        403,
        {"message": SECONDARY},
        retry_after="2",
        x_ratelimit_remaining="0",
        x_ratelimit_reset=str(NOW + 900),
    )
    assert wait(given) == 2


def test_a_limit_wins_against_a_block() -> None:
    assert wait(answer(403, {"block": {"reason": "tos"}}, retry_after="5")) == 5


# 403 and 429 with nothing left


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        (str(NOW + 100), {100, 101}),
        (str(NOW), {1}),
        (str(NOW - 100), {1}),
        ("0", {1}),
        (str(NOW + 2 * HOUR), {3600}),
        (str((NOW + 100) * 1000), {3600}),
        ("soon", {60}),
        ("-100", {60}),
        ("", {60}),
        ("nan", {60}),
    ],
)
def test_an_exhausted_quota_lasts_until_its_reset(
    status: int, reset: str, seconds: set[int]
) -> None:
    given = answer(status, x_ratelimit_remaining="0", x_ratelimit_reset=reset)
    assert wait(given) in seconds


@pytest.mark.parametrize("status", [403, 429])
def test_an_exhausted_quota_without_a_reset_lasts_a_minute(status: int) -> None:
    assert wait(answer(status, x_ratelimit_remaining="0")) == 60


@pytest.mark.parametrize("skew", [-2 * HOUR, -90, 90, 2 * HOUR])
def test_a_reset_is_judged_by_the_date_of_the_answer(skew: int) -> None:
    theirs = NOW + skew
    given = answer(
        403,
        x_ratelimit_remaining="0",
        x_ratelimit_reset=str(theirs + 100),
        date=http_date(theirs),
    )
    assert wait(given) in {100, 101}


@pytest.mark.parametrize("date", ["", "now", "0", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_reset_is_judged_by_our_clock_where_the_answer_has_no_date(date: str) -> None:
    given = answer(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW + 100), date=date)
    assert wait(given) in {100, 101}


# 403 and 429 that say so in another way


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    "given",
    [
        answer(0, {"message": SECONDARY}),
        answer(0, {"message": SECONDARY.upper()}),
        answer(0, {"message": "You have triggered an abuse detection mechanism."}),
        answer(0, {"message": "API rate limit exceeded for 192.0.2.1."}),
        answer(0, {"message": [SECONDARY]}),
        answer(0, {"documentation_url": f"{PAGES}/x#about-secondary-rate-limits"}),
        answer(0, {"documentation_url": f"{PAGES}#abuse-rate-limits"}),
        answer(0, b"", gh_limited_by="search-elapsed-time-shared-grouped"),
    ],
    ids=str,
)
def test_a_limit_without_a_time_lasts_a_minute(status: int, given: GitHubAnswer) -> None:
    headers = {**given.headers, "x-ratelimit-remaining": "4000"}
    assert wait(GitHubAnswer(status, headers, given.body)) == 60


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", {"message": None}, {"block": {}}])
def test_a_429_is_a_limit_whatever_it_says(body: object) -> None:
    assert wait(answer(429, body, x_ratelimit_remaining="17")) == 60


def test_whoever_has_no_token_is_told_to_set_one() -> None:
    with pytest.raises(GitHubRateLimited, match="GITHUB_TOKEN"):
        read(answer(429), authorized=False)


def test_whoever_has_a_token_is_not_told_to_set_one() -> None:
    with pytest.raises(GitHubRateLimited) as caught:
        read(answer(429), authorized=True)
    assert "GITHUB_TOKEN" not in caught.value.detail


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


# What is left of the quota


def test_a_good_answer_may_use_the_last_of_the_quota() -> None:
    given = answer(200, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW + 100))
    assert seconds_to_wait(given, now=float(NOW)) in {100, 101}


@pytest.mark.parametrize(
    "left", [{}, {"x_ratelimit_remaining": "1"}, {"x_ratelimit_remaining": ""}]
)
def test_a_quota_that_is_not_known_to_be_exhausted_is_not_waited_for(left: dict[str, str]) -> None:
    given = answer(200, x_ratelimit_reset=str(NOW + 100), **left)
    assert seconds_to_wait(given, now=float(NOW)) is None


# All of it at once


def test_every_mixture_of_odd_parts_is_a_repository_or_a_problem_with_a_sane_wait() -> None:
    statuses = [200, 304, 401, 403, 404, 429, 451, 500]
    bodies = [
        b"",
        b"\xff",
        b"[{}]",
        b'{"message": {"a": [1e999]}, "block": [0]}',
        b'{"block": "\\ud83e", "documentation_url": {}}',
        b'{"id": 1, "full_name": "a/b", "stargazers_count": 1}',
    ]
    numbers = [None, "", "-1", "1" * 30, "\u0663", "Mon", http_date(0), "Sun, 06 Nov 0000"]
    dates = [None, "1 Jan 1 00:00 +9999", "Thu, 01 Jan 2026 00:00:00 -0000", "\x00"]
    waits = set()
    for status, body, retry_after, reset, date in product(
        statuses, bodies, numbers, numbers, dates
    ):
        parts: dict[str, Any] = {
            "retry-after": retry_after,
            "x-ratelimit-reset": reset,
            "date": date,
            "x-ratelimit-remaining": "0",
        }
        headers = {name: value for name, value in parts.items() if value is not None}
        try:
            read(GitHubAnswer(status, headers, body))
        except GitHubRateLimited as limit:
            waits.add(limit.retry_after)
        except GitHubError:
            pass
    assert waits
    assert all(1 <= wait <= 3600 for wait in waits)
