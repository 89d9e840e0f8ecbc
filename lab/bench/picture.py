"""The picture: processor time per request as bars, in SVG, for light and dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABELS, _NUMBERS, _MARGIN = 860, 300, 70, 20
_BAR, _STEP, _TOP, _BOTTOM = 22, 40, 78, 30

_STYLE = """
  text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .page { fill: #ffffff; stroke: #d1d9e0 }
  .title { font-size: 17px; font-weight: 600 }
  .small { font-size: 12.5px; fill: #59636e }
  .ours { font-weight: 600 }
  .server { fill: #8c959f } .ours-bar .server { fill: #0969da }
  .postgres { fill: #d0d7de } .ours-bar .postgres { fill: #80ccff }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .page { fill: #0d1117; stroke: #3d444d }
    .small { fill: #9198a1 }
    .server { fill: #6e7681 } .ours-bar .server { fill: #1f6feb }
    .postgres { fill: #3d444d } .ours-bar .postgres { fill: #79c0ff }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One server: microseconds per request of its own, and of PostgreSQL."""

    title: str
    server: float
    postgres: float
    is_ours: bool = False

    @property
    def total(self) -> float:
        """Both together."""
        return self.server + self.postgres


def draw(bars: Sequence[Bar], subtitle: str) -> str:
    """Return the picture of these bars."""
    height = _TOP + _STEP * len(bars) + _BOTTOM
    scale = (_WIDTH - _LABELS - _NUMBERS - _MARGIN) / max(bar.total for bar in bars)
    rows = "".join(_row(bar, _TOP + _STEP * row, scale) for row, bar in enumerate(bars))
    spoken = "; ".join(f"{bar.title}: {bar.total:.0f}" for bar in bars)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">
<title>Processor time per GET in microseconds. {escape(spoken)}</title>
<style>{_STYLE}</style>
<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>
<text class="title" x="{_MARGIN}" y="32">Processor time per GET /repos/{{id}}, microseconds</text>
<text class="small" x="{_MARGIN}" y="54">{escape(subtitle)}</text>
{rows}<text class="small" x="{_LABELS}" y="{height - 14}">\
The left part of a bar is the server's, the right part PostgreSQL's.</text>
</svg>
"""


def _row(bar: Bar, y: float, scale: float) -> str:
    server, postgres = bar.server * scale, bar.postgres * scale
    kind = ("ours", "ours-bar") if bar.is_ours else ("", "bar")
    text = y + _BAR - 6
    return f"""<g class="{kind[1]}">
<text class="{kind[0]}" x="{_LABELS - 12}" y="{text}" text-anchor="end">{escape(bar.title)}</text>
<rect class="server" x="{_LABELS}" y="{y}" width="{server:.1f}" height="{_BAR}"/>
<rect class="postgres" x="{_LABELS + server:.1f}" y="{y}" width="{postgres:.1f}" height="{_BAR}"/>
<text class="{kind[0]}" x="{_LABELS + server + postgres + 8:.1f}" y="{text}">{bar.total:,.0f}</text>
</g>
"""
