"""The officer's pages as answers: HTML without scripts under a strict content policy, and files to download."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from authz.login.browser import STYLE_PATH
from authz.login.language import Language, switches
from authz.protocol.request import Answer
from gateway.officer.asking import when

OFFICER_STYLE = "/officer/style.css"
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_HEADERS: tuple[tuple[str, str], ...] = (
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Content-Security-Policy", _POLICY),
)


def _template(name: str) -> str:
    return resources.files("gateway.officer").joinpath("templates", name).read_text(encoding="utf-8")


_PAGES = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    loader=FunctionLoader(_template),
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_PAGES.filters["when"] = when
for _name in (
    "overview.html", "search.html", "record.html", "disclosures.html", "signals.html", "break_glass.html",
    "sign_in.html", "told.html",
):  # fmt: skip
    _PAGES.get_template(_name)
_STYLE = _template("officer.css").encode()


def page(template: str, language: Language, *, back: str, status: int = 200, **values: object) -> Answer:
    """A page in a language; back is where another language leads. values are escaped: names of clients and texts of
    people come from outside.
    """
    body = _PAGES.get_template(template).render(
        style=STYLE_PATH,
        officer_style=OFFICER_STYLE,
        t=language,
        switches=switches(language, back),
        **values,
    )
    told = (("Content-Language", language.code), ("Vary", "Accept-Language, Cookie"))
    return Answer(status, (("Content-Type", "text/html; charset=utf-8"), *told, *_HEADERS), body.encode())


def download(content: str, *, media_type: str, name: str) -> Answer:
    """A file that the browser saves and never shows."""
    headers = (
        ("Content-Type", f"{media_type}; charset=utf-8"),
        ("Content-Disposition", f'attachment; filename="{name}"'),
    )
    return Answer(200, (*headers, *_HEADERS), content.encode())


def style_sheet() -> Answer:
    """The style sheet of these pages, beside that of all pages."""
    headers = (("Content-Type", "text/css; charset=utf-8"), ("Cache-Control", "max-age=3600"))
    return Answer(200, (*headers, ("X-Content-Type-Options", "nosniff")), _STYLE)
