"""The rows of a benchmark: what was measured of whom, as numbers, as a table and as a picture."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one subject. Zeros stand for what a case does not measure."""

    cpu_us: float = 0.0
    requests_per_second: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    peak_rss_mb: float = 0.0


def row(case: str, subject: str, runs: Sequence[Measured], note: str) -> dict[str, Any]:
    """The medians of several runs, and how far the CPU of the runs lies apart."""
    cpu = [run.cpu_us for run in runs]
    names = ("cpu_us", "requests_per_second", "p50_ms", "p99_ms", "peak_rss_mb")
    medians = {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in names}
    spread = {"cpu_us_low": round(min(cpu), 3), "cpu_us_high": round(max(cpu), 3)}
    return {"case": case, "subject": subject, **medians, **spread, "runs": len(runs), "note": note}


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as text, for a terminal of 110 characters."""
    lines = [
        f"{'case':22} {'subject':22} {'CPU µs':>10} {'low':>9} {'high':>9} {'req/s':>8}"
        f" {'p50 ms':>7} {'p99 ms':>7} {'MB':>5}"
    ]
    for each in rows:
        low, high = each.get("cpu_us_low", each["cpu_us"]), each.get("cpu_us_high", each["cpu_us"])
        lines.append(
            f"{each['case']:22} {each['subject']:22} {each['cpu_us']:10.1f} {low:9.1f} {high:9.1f}"
            f" {each['requests_per_second']:8.0f} {each['p50_ms']:7.2f} {each['p99_ms']:7.2f} {each['peak_rss_mb']:5.0f}"
        )
    return "\n".join(lines)


_LEFT, _WIDTH, _BAR, _GAP = 250, 560, 18, 8


def picture(rows: Sequence[dict[str, Any]], cases: Sequence[tuple[str, str]]) -> str:
    """Bars of CPU per request as SVG: for each of these cases, by name and title, its subjects, least first."""
    parts, y = [], 10
    for case, title in cases:
        chosen = sorted((each for each in rows if each["case"] == case), key=lambda each: each["cpu_us"])
        if not chosen:
            continue
        parts.append(f'<text x="10" y="{y + 14}" font-weight="bold">{escape(title)}</text>')
        y += 26
        most = max(each["cpu_us"] for each in chosen) or 1.0
        for each in chosen:
            length = max(1, round(_WIDTH * each["cpu_us"] / most))
            colour = "#0b6e4f" if each["subject"].startswith("securus") else "#9aa5b1"
            parts.append(
                f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(each["subject"])}</text>'
                f'<rect x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}" fill="{colour}"/>'
                f'<text x="{_LEFT + length + 6}" y="{y + 13}">{each["cpu_us"]:.0f} µs</text>'
            )
            y += _BAR + _GAP
        y += 12
    width = _LEFT + _WIDTH + 90
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}"'
        ' font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#ffffff"/>'
        + "".join(parts)
        + "</svg>\n"
    )
