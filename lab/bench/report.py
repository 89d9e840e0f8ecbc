"""The tables of a run, as Markdown."""

import math
from collections.abc import Iterable, Sequence
from statistics import median

from lab.bench.goals import Goal, Round
from lab.bench.mechanisms import Mechanism
from lab.bench.rounds import Sample
from lab.bench.servers import OURS

Titles = dict[str, str]


def table_of_costs(rounds: Sequence[Round], titles: Titles) -> str:
    """Return what each server cost: medians over the rounds, and the spread of the cost."""
    head = [
        "",
        "cost, µs (min-max)",
        "server, µs (user + system)",
        "PostgreSQL, µs",
        "requests/s",
        "p50, ms",
        "p99, ms",
        "peak memory, MiB",
        "errors",
    ]
    return _markdown(head, [_costs(titles[name], _of(rounds, name)) for name in names(rounds)])


def table_of_goals(goals: Iterable[Goal]) -> str:
    """Return each goal with the median that was measured, its spread, and whether it is met."""
    rows = []
    for goal in goals:
        bound = "at least" if goal.at_least else "at most"
        limit = "for comparison" if goal.limit is None else f"{bound} {goal.limit:g}{goal.unit}"
        spread = f"{_figure(min(goal.values))}-{_figure(max(goal.values))}"
        met = {True: "met", False: "**not met**", None: ""}[goal.met]
        rows.append([goal.text, limit, f"{_figure(goal.measured)}{goal.unit}", spread, met])
    return _markdown(["", "goal", "median", "min-max", ""], rows)


def table_of_mechanisms(rounds: Sequence[Round], mechanisms: Iterable[Mechanism]) -> str:
    """Return the lines of each mechanism, and the median of what it saves in each read."""
    rows = []
    for mechanism in mechanisms:
        saved = [r[mechanism.kind.name].cost - r[OURS.name].cost for r in rounds]
        spread = f"{min(saved):.0f} to {max(saved):.0f}"
        rows.append([mechanism.title, str(mechanism.lines or "-"), f"{median(saved):.0f}", spread])
    return _markdown(["mechanism", "lines", "saves, µs", "min to max"], rows)


def names(rounds: Sequence[Round]) -> list[str]:
    """Return the names of what was measured, in the order of the first round."""
    return list(rounds[0])


def _of(rounds: Sequence[Round], name: str) -> list[Sample]:
    return [r[name] for r in rounds]


def _costs(title: str, samples: list[Sample]) -> list[str]:
    def middle(of: Iterable[float]) -> float:
        return median(of)

    user = middle(s.server.user / s.load.requests * 1e6 for s in samples)
    system = middle(s.server.system / s.load.requests * 1e6 for s in samples)
    postgres = middle(s.postgres.total / s.load.requests * 1e6 for s in samples)
    costs = [s.cost for s in samples]
    return [
        title,
        f"{median(costs):.0f} ({min(costs):.0f}-{max(costs):.0f})",
        f"{user + system:.0f} ({user:.0f} + {system:.0f})",
        f"{postgres:.0f}",
        f"{middle(s.rate for s in samples):,.0f}",
        f"{middle(s.load.p50 for s in samples):.2f}",
        _or_dash(middle(s.load.p99 for s in samples), ".1f"),
        _or_dash(max(s.peak_memory for s in samples), ".0f"),
        str(sum(s.load.errors for s in samples)),
    ]


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))} |"
        for line in lines
    )
