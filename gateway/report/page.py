"""The report as a page of the operations listener: HTML without script, under a strict content policy."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256

from authz.login.page_templates import PageTemplates
from gateway.report.report import Report, Row
from gateway.report.rules.table import Verdict

_PAGES = PageTemplates("gateway.report")
_STYLE = _PAGES.read("report.css")
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
    return _PAGES.render(
        "report.html",
        style=_STYLE,
        issuer=report.issuer,
        made_at=datetime.fromtimestamp(report.made_at, UTC).isoformat(timespec="seconds"),
        counts=[(str(verdict), report.count(verdict)) for verdict in Verdict],
        pressing=[row for row in report.rows if row.finding.verdict in (Verdict.FAIL, Verdict.WARN)],
        chapters=chapters,
    )
