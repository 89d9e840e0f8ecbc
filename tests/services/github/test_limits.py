"""Which answers of GitHub are rate limits, and how long each lasts."""

from email.utils import formatdate
from itertools import product
from typing import Any

import pytest

from app.errors import (
    GitHubError,
    GitHubRateLimited,
)
from app.services.github.answers import GitHubAnswer, seconds_to_wait
from tests.services.github.support import NOW, answer, read

HOUR = 3600
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes."
PAGES = "https://docs.github.com/rest/overview"


def wait(given: GitHubAnswer) -> int:
    """Return the seconds to wait, as the answer must be a rate limit."""
    with pytest.raises(GitHubRateLimited) as caught:
        read(given)
    return caught.value.retry_after


def http_date(moment: float) -> str:
    return formatdate(moment, usegmt=True)


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
