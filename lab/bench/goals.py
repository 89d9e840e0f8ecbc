"""The goals, each a ratio (or a time) within one run, with its spread over the rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from lab.bench.rounds import Sample
from lab.bench.writes import Posts

Round = dict[str, Sample]


@dataclass(frozen=True)
class Goal:
    """A goal and what was measured; `limit` is None where a figure is only for comparison."""

    text: str
    limit: float | None
    values: Sequence[float]
    unit: str = ""
    at_least: bool = False

    @property
    def measured(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the limit."""
        if self.limit is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True)
class Others:
    """What is not measured in rounds; empty where it was left out."""

    posts: Posts
    posts_after_pause: Posts
    throughput: Sequence[float]
    failed_posts: int
    start: Sequence[float]
    memory: Sequence[tuple[int, float]]


def goals(rounds: Sequence[Round], others: Others) -> list[Goal]:
    """Return each goal that this run has figures for."""

    def ratio(over: str, under: str, of: Callable[[Sample], float] = _cost) -> list[float]:
        return [of(r[over]) / of(r[under]) for r in rounds if over in r and under in r]

    found = [
        Goal("GET: cost against Fastify + node-postgres", 0.75, ratio("ours", "fastify")),
        Goal("… against Fastify with pipelining", None, ratio("ours", "pipelined")),
        Goal("… against the synchronous session", 1 / 10, ratio("ours", "sync")),
        Goal("… against the async ORM session", 1 / 8, ratio("ours", "async")),
        Goal("… against PostgreSQL alone (pgbench)", None, ratio("ours", "floor")),
        Goal("GET with a matching If-None-Match: cost against a GET", 1, ratio("ours-304", "ours")),
        Goal("GET: cost at 10,000,000 rows against 1,000", 1.15, ratio("ours-10m", "ours-1k")),
        Goal(
            "GET, one connection: p50 against Fastify's",
            1.3,
            ratio("ours-alone", "fastify-alone", _p50),
        ),
        Goal(
            "… against Fastify with pipelining",
            None,
            ratio("ours-alone", "pipelined-alone", _p50),
        ),
        Goal("POST: time added to GitHub's", 4, others.posts.added, " ms"),
        Goal("… its processor time, PostgreSQL's too", None, others.posts.processor, " ms"),
        Goal("… added where GitHub takes 50 ms", 4, others.posts_after_pause.added, " ms"),
        Goal("… its processor time then", None, others.posts_after_pause.processor, " ms"),
        Goal(
            "POST, 100 clients: share of what 20 calls at once allow",
            0.9,
            others.throughput,
            at_least=True,
        ),
        Goal("… of them failed", 0, [others.failed_posts]),
        Goal("Start to first answer, data there", 1.5, others.start, " s"),
        *_memory_goals(others.memory),
    ]
    return [goal for goal in found if goal.values]


def _memory_goals(sizes: Sequence[tuple[int, float]]) -> list[Goal]:
    if not sizes:
        return []
    requests, last = sizes[-1]
    early = next(size for done, size in sizes if done >= requests / 10)
    return [
        Goal(f"Memory of one worker after {requests:,} requests", 110, [last], " MiB"),
        Goal("… against that after a tenth of them (flat)", 1.03, [last / early]),
    ]


def _cost(sample: Sample) -> float:
    return sample.cost


def _p50(sample: Sample) -> float:
    return sample.load.p50
