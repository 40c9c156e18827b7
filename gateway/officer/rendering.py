"""The officer's pages as answers: HTML without scripts under a strict content policy, and files to download."""

from functools import cache

from authz.login.browser import STYLE_PATH
from authz.login.language import Language, switches
from authz.login.page_templates import PageTemplates
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


_PAGES = PageTemplates("gateway.officer", {"when": when})


def page(template: str, language: Language, *, back: str, status: int = 200, **values: object) -> Answer:
    """A page in a language; back is where another language leads. values are escaped: names of clients and texts of
    people come from outside.
    """
    body = _PAGES.render(
        template,
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


@cache
def style_sheet() -> Answer:
    """The style sheet of these pages, beside that of all pages."""
    headers = (("Content-Type", "text/css; charset=utf-8"), ("Cache-Control", "max-age=3600"))
    return Answer(200, (*headers, ("X-Content-Type-Options", "nosniff")), _PAGES.read("officer.css").encode())
