"""The report as a page of the operations listener: HTML without script, under a strict content policy."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from gateway.report.report import Report, Row
from gateway.report.rules.table import Verdict


def _template(name: str) -> str:
    return resources.files("gateway.report").joinpath("templates", name).read_text(encoding="utf-8")


_PAGES = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    loader=FunctionLoader(_template),
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_STYLE = _template("report.css")
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: dict[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def page(report: Report) -> str:
    """The page. Failures stand first, then everything by specification."""
    chapters: dict[str, list[Row]] = {}
    for row in report.rows:
        chapters.setdefault(row.chapter, []).append(row)
    return _PAGES.get_template("report.html").render(
        style=_STYLE,
        issuer=report.issuer,
        made_at=datetime.fromtimestamp(report.made_at, UTC).isoformat(timespec="seconds"),
        counts=[(str(verdict), report.count(verdict)) for verdict in Verdict],
        pressing=[row for row in report.rows if row.finding.verdict in (Verdict.FAIL, Verdict.WARN)],
        chapters=chapters,
    )
