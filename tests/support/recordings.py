"""Recorded answers of api.github.com, ready to be replayed, and what each must lead to.

They are not part of this project: the folder `shared/github` beside it holds them, and where that
is missing there is nothing to replay. What a service must make of each recording was written down
by hand after reading it (`VERDICTS`), so that it does not share a mistake with the code.
"""

import functools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from lab.github.answers import JSON, Answer, http_date
from lab.github.server import GitHub

FOLDER = Path(__file__).parents[2].parent / "shared" / "github"
EXCHANGES = FOLDER / "exchanges"
PAYLOADS = FOLDER / "repositories" / "full_payloads.jsonl"
index_path = FOLDER / "repositories" / "index.jsonl"
import_list_path = FOLDER / "repositories" / "import_owner_repo.csv"
renamed_ids_path = FOLDER / "repositories" / "renamed_ids.json"
recordings_available = EXCHANGES.is_dir()

API = "https://api.github.com"
BLOCKED = "451_and_blocked/quoted_bodies.json"
PREFIX = "/api/v3"
ELSEWHERE = ("example-owner", "example-name", 7)
FRAMING = {"content-encoding", "transfer-encoding", "content-length", "connection", "keep-alive"}
BY_NAME = re.compile(r"/repos/([^/]+)/([^/]+)")
BY_ID = re.compile(r"/repositories/(\d+)")
MOMENT = re.compile(r"\{\{(?:now|testStartDate)(?: offset='(-?\d+) (\w+)')?(.*?)\}\}")

# Recording -> the status that the service answers, and why. A bare number of an exchange is a
# POST of the repository; `put` is a PUT of a record that is already stored, so that GitHub is
# asked by id; `put-etag` is the same with a stored tag and a token; `A-B` replays a sequence.
# `retry_after=A..B` are the seconds that Retry-After may say.
VERDICTS = {
    "200/hub4j_2026.json#0": "201",
    "200/octokit_get_repository_2022.json#0": "201",
    "200/pygithub_2026.json#0": "201",
    "200/twbs_bootstrap_171k_stars_2025.json#0": "201",
    "200/unauthenticated_limit_60.json#0": "201",
    # Redirects of GitHub's own, with what they lead to.
    "301/github3_requests_transfer_2018.json#0-1": "201",
    "301/octokit_rename_scenario_2022.json#2-3": "201",
    "301/pygithub_protoncoin_transfer_2018.json#0-1": "201",
    "301/pygithub_renamed_private_2023.json#0-1": "201",
    # This one was recorded alone; the repository's body of 2021 stands in for its target.
    "301/hub4j_org_renamed_2020.json#0": "201",
    # The same targets, asked for by id.
    "301/github3_requests_transfer_2018.json#1 put": "200",
    "301/octokit_rename_scenario_2022.json#3 put": "200",
    "301/pygithub_protoncoin_transfer_2018.json#1 put": "200",
    "301/pygithub_renamed_private_2023.json#1 put": "200",
    # Made by hand upstream: another port, prefix or scheme. All point to another host here.
    "301/synthetic_testBaseUrlPortRedirection.json#0": "502 bad answer",
    "301/synthetic_testBaseUrlPrefixRedirection.json#0": "502 bad answer",
    "301/synthetic_testBaseUrlSchemeRedirection.json#0": "502 bad answer",
    "301/synthetic_testBaseUrlPrefixRedirection.json#1": "201",
    # Unchanged, where we asked whether it is.
    **{f"304/hub4j_okhttp_cache.json#{number} put-etag": "200" for number in range(10)},
    "304/pygithub_conditional_pair_2013.json#0 put-etag": "200",
    # Unchanged, where we did not ask.
    "304/hub4j_okhttp_cache.json#0": "502 bad answer",
    "304/pygithub_conditional_pair_2013.json#0": "502 bad answer",
    # Bodies of 2012 and 2013 have no stargazers_count.
    "304/pygithub_conditional_pair_2013.json#1": "502 bad answer",
    "304/pygithub_conditional_pair_2013.json#1 put-etag": "502 bad answer",
    "304/pygithub_conditional_pair_2013.json#2": "502 bad answer",
    "304/pygithub_conditional_pair_2013.json#3": "502 bad answer",
    "401/hub4j_bad_credentials.json#0": "502 refused",
    # Retry-After comes first, even beside a reset that is later.
    "403/abuse_detection_retry_after_60_2018.json#0": "503 retry_after=59..61",
    "403/hub4j_abuse_retry_after.json#0": "503 retry_after=1..3",
    # The reset is three whole seconds after the present second; one more may be added.
    "403/hub4j_primary_remaining_0.json#0": "503 retry_after=1..4",
    "403/hub4j_primary_remaining_0_no_date.json#0": "503 retry_after=1..4",
    # No time is given: a minute.
    "403/hub4j_secondary_gh_limited_by.json#0": "503 retry_after=59..61",
    # Neither a limit nor a block.
    "403/login_attempts_exceeded.json#0": "502 refused",
    "403/missing_user_agent_2013.json#0": "502 refused",
    "403/resource_not_accessible_by_integration.json#0": "502 refused",
    "404/hub4j_2024.json#0": "404",
    "404/pygithub_2012.json#1": "404",
    "404/pygithub_2012.json#3": "404",
    "rate_limit/not_found_on_enterprise.json#0": "404",
    # An HTTP date, eight seconds ahead and cut to whole seconds.
    "429/hub4j_http_date_retry_after_no_date.json#0": "503 retry_after=6..9",
    "429/hub4j_secondary_no_retry_after.json#0": "503 retry_after=59..61",
    "429/hub4j_secondary_retry_after_8.json#0": "503 retry_after=7..9",
    # Taken down.
    f"{BLOCKED}#0": "404",
    f"{BLOCKED}#1": "404",
    f"{BLOCKED}#2": "404",
    f"{BLOCKED}#3": "404",
    f"{BLOCKED}#4": "404",
    f"{BLOCKED}#5": "404",
    # Its reset lies 3,025 seconds after its Date and years before today: either may be believed.
    f"{BLOCKED}#7": "503 retry_after=1..3026",
    "5xx/400_not_retried.json#0": "502",
    "5xx/500_then_200.json#0": "502 unavailable",
    "5xx/500_then_200.json#1": "201",
    # A 500 is not retried; a 502 is, once.
    "5xx/500_then_200.json#0-1": "502 unavailable",
    "5xx/502_x3_then_200.json#0": "502 unavailable",
    "5xx/502_x3_then_200.json#1": "502 unavailable",
    "5xx/502_x3_then_200.json#2": "502 unavailable",
    "5xx/502_x3_then_200.json#3": "201",
    "5xx/502_x3_then_200.json#0-3": "502 unavailable",
    "5xx/502_x3_then_200.json#2-3": "201",
    "5xx/503_unicorn_html_2024.json#0": "502 unavailable",
}

# Exchanges that are no GET of one repository and no error that could answer one.
ASIDE = {
    "301/octokit_rename_scenario_2022.json": {0, 1, 4, 5, 6},
    "304/anonymous_304_is_charged_2026.json": {0, 1, 2},
    "404/pygithub_2012.json": {0, 2},
    BLOCKED: {6, 8},
}


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as recorded."""

    path: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    asked_with: str | None

    def answer(self, now: float) -> Answer:
        """Return the answer as it would be given now."""
        headers: dict[str, str] = {}
        for name, value in self.headers:
            if name.lower() in FRAMING:
                continue
            written = MOMENT.sub(functools.partial(_moment, now), value)
            headers[name] = f"{headers[name]}, {written}" if name in headers else written
        return Answer(self.status, dict(headers), self.body, bare=True)


@dataclass(frozen=True)
class Recording:
    """Recorded answers, the request that they answer, and what the service must make of them."""

    id: str
    requested_owner: str
    requested_name: str
    requested_id: int | None
    conditional: bool
    status: int
    expected: str
    exchanges: tuple[Exchange, ...] = field(repr=False)
    foreign: bool = False

    @property
    def expected_status(self) -> int:
        """Return the status that the service must answer."""
        return int(self.expected.split()[0])

    @property
    def retry_after(self) -> range | None:
        """Return the seconds that Retry-After may say."""
        found = re.search(r"retry_after=(\d+)\.\.(\d+)", self.expected)
        return range(int(found[1]), int(found[2]) + 1) if found else None

    @property
    def stored(self) -> dict[str, Any] | None:
        """Return owner, repo_name and stars as they must be stored in the end, if any are."""
        if self.expected_status not in {200, 201}:
            return None
        if self.conditional:
            return {"owner": self.requested_owner, "repo_name": self.requested_name, "stars": 1}
        body = json.loads(self.exchanges[-1].body)
        owner, _, name = body["full_name"].partition("/")
        return {"owner": owner, "repo_name": name, "stars": body["stargazers_count"]}

    @property
    def prior(self) -> list[tuple[str, Answer]]:
        """Return what the POST must be answered that comes before a PUT: one star, and the tag."""
        if self.requested_id is None:
            return []
        full_name = f"{self.requested_owner}/{self.requested_name}"
        body = {"id": self.requested_id, "full_name": full_name, "stargazers_count": 1}
        tag = self.exchanges[0].asked_with or f'W/"{self.requested_id}"'
        return [(f"/repos/{full_name}", Answer(200, {"ETag": tag}, body))]

    @property
    def answers(self) -> list[tuple[str, Answer]]:
        """Return path and answer of each exchange, with the times of this moment."""
        now = time.time()
        return [(each.path, self._located(each.answer(now))) for each in self.exchanges]

    def prepare(self, github: GitHub) -> None:
        """Script the POST that must come before a PUT."""
        for path, answer in self.prior:
            github.script(path, answer)

    def play(self, github: GitHub) -> None:
        """Script the recorded answers; each path repeats its last one."""
        by_path: dict[str, list[Answer]] = {}
        for path, answer in self.answers:
            by_path.setdefault(path, []).append(answer)
        for path, answers in by_path.items():
            github.script(path, *answers, repeat=True)

    def _located(self, answer: Answer) -> Answer:
        here = "{foreign}" if self.foreign else "{base}"
        moved = {
            name: re.sub(rf"{API}(:443)?(?=/)", here, value or "")
            for name, value in answer.headers.items()
            if name.lower() == "location"
        }
        return Answer(answer.status, {**answer.headers, **moved}, answer.body, bare=True)


def recordings() -> list[Recording]:
    """Return every recording with its verdict, or nothing where they are not at hand."""
    return [_recording(*item) for item in VERDICTS.items()] if recordings_available else []


def payloads() -> list[Recording]:
    """Return the whole bodies of real repositories, each of which must be accepted."""
    rows = _lines(PAYLOADS) if recordings_available else []
    found = []
    for number, row in enumerate(rows):
        owner, _, name = row["body"]["full_name"].partition("/")
        headers = (("ETag", row["etag"]),) if row["etag"] else ()
        exchange = Exchange(f"/repos/{owner}/{name}", 200, headers, json.dumps(row["body"]), None)
        where = f"repositories/{PAYLOADS.name}#{number}"
        found.append(
            Recording(
                id=where,
                requested_owner=owner,
                requested_name=name,
                requested_id=None,
                conditional=False,
                status=200,
                expected="201",
                exchanges=(exchange,),
            )
        )
    return found


def unread() -> Iterator[str]:
    """Yield the exchanges about repositories that neither have a verdict nor are set aside."""
    read = {(exchange, name) for exchange in VERDICTS for name in _numbers(exchange)}
    seen = {(where.partition("#")[0], number) for where, number in read}
    for file in sorted(EXCHANGES.glob("[0-9]*/*.json")):
        name = f"{file.parent.name}/{file.name}"
        for number in range(len(_file(name))):
            if (name, number) not in seen and number not in ASIDE.get(name, ()):
                yield f"{name}#{number}"


def _numbers(where: str) -> range:
    """Return the numbers of the exchanges that an identifier names."""
    first, _, last = where.partition("#")[2].partition(" ")[0].partition("-")
    return range(int(first), int(last or first) + 1)


def _recording(where: str, expected: str) -> Recording:
    """Read one recording."""
    name, kind = where.partition("#")[0], where.partition(" ")[2]
    exchanges = [_file(name)[number] for number in _numbers(where)]
    location = next((v for k, v in exchanges[0].headers if k.lower() == "location"), "")
    if location and len(exchanges) == 1 and "synthetic" not in name:
        exchanges.append(_target(location.removeprefix(API)))
    first, last = exchanges[0], exchanges[-1]
    owner, repository, number = ELSEWHERE
    if by_name := BY_NAME.fullmatch(first.path):
        owner, repository = by_name.groups()
    if kind:
        body = json.loads(last.body or "{}")
        number = body.get("id", number)
        if BY_ID.fullmatch(first.path):  # Stored under the name that was redirected before.
            _, _, owner, repository = _file(name)[_numbers(where)[0] - 1].path.split("/")
        exchanges = [_moved(each, f"/repositories/{number}") for each in exchanges]
    elif not by_name:
        exchanges = [_moved(each, f"/repos/{owner}/{repository}") for each in exchanges]
    return Recording(
        id=where,
        requested_owner=owner,
        requested_name=repository,
        requested_id=number if kind else None,
        conditional=kind == "put-etag",
        status=last.status,
        expected=expected,
        exchanges=tuple(exchanges),
        foreign="synthetic" in name,
    )


def _moved(exchange: Exchange, path: str) -> Exchange:
    """Return the same answer to another path."""
    return Exchange(path, exchange.status, exchange.headers, exchange.body, exchange.asked_with)


def _target(path: str) -> Exchange:
    """Return the answer that a lone redirect leads to, from the stored bodies."""
    number = int(path.rpartition("/")[2])
    body = next(row["body"] for row in _lines(PAYLOADS) if row["body"]["id"] == number)
    return Exchange(path, 200, (("Content-Type", JSON),), json.dumps(body), None)


@functools.cache
def _file(name: str) -> list[Exchange]:
    """Read the exchanges of one file."""
    content = json.loads((EXCHANGES / name).read_text(encoding="utf-8"))
    return [_exchange(each) for each in content.get("exchanges") or content["cases"]]


def _exchange(raw: dict[str, Any]) -> Exchange:
    """Read one exchange, recorded or quoted."""
    if "request" not in raw:
        headers = {"Content-Type": JSON, **raw.get("headers", {})}
        pairs = tuple((name, str(value)) for name, value in headers.items())
        status = raw["status"] or 403
        return Exchange("", status, pairs, json.dumps(raw["body"]), None)
    asked, answered = raw["request"], raw["response"]
    sent = {name.lower(): str(value) for name, value in asked["headers"].items()}
    pairs = tuple((name, value) for name, value in answered["headers"])
    tag = next((value for name, value in pairs if name.lower() == "etag"), None)
    asked_with = sent.get("if-none-match") or (f"W/{tag}" if answered["status"] == 304 else None)
    path = asked["path"].removeprefix(PREFIX)
    return Exchange(path, answered["status"], pairs, answered["body"] or "", asked_with)


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _moment(now: float, found: re.Match[str]) -> str:
    """Return a moment that a recording names relative to its replay."""
    offset = timedelta(**{found[2]: int(found[1])}).total_seconds() if found[1] else 0.0
    if "unix" in found[3]:
        return str(int(now + offset))
    return http_date(now + offset - time.time())
