"""What every page with a view of a clinical document has: its frame, its one stylesheet, the policy that forbids the rest.

No word of a document ever stands in an attribute, a stylesheet or a script here: shown() is the only way of its text
into the page.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--page:#fff;--line:#767676;--soft:#f2f4f7;--note:#4a4a4a}
@media (prefers-color-scheme:dark){:root{--ink:#f1f1f1;--page:#161616;--line:#9a9a9a;--soft:#262a30;--note:#c8c8c8}}
body{margin:0;color:var(--ink);background:var(--page);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main,footer{max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.3rem;border-bottom:1px solid var(--line)}
h3,h4,h5,h6{font-size:1.1rem}
dl{background:var(--soft);padding:.5rem 1rem;margin:0}
dl div{display:grid;grid-template-columns:minmax(7rem,1fr) 3fr;gap:1rem;padding:.2rem 0}
dt{font-weight:600}dd{margin:0}
table{border-collapse:collapse;margin:.5rem 0}th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:start}
th{background:var(--soft)}caption,.caption{font-weight:600;text-align:start}
.p{margin:.5rem 0}.note,.address,footer{color:var(--note)}.notice{border:2px solid var(--line);padding:.5rem 1rem}
.b{font-weight:700}.i{font-style:italic}.u{text-decoration:underline}
pre{white-space:pre-wrap;font:inherit}
"""
_ALLOWED = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Disposition", "inline"),
    ("Content-Security-Policy", f"sandbox; {_ALLOWED}; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
)
"""The headers of a view; PRIVATE and nosniff come with those of every answer."""

WITHHELD = "Parts of the original were withheld from this copy. Signatures of the original do not cover what is left."
_LANGUAGES = frozenset(  # ISO 639-1
    re.findall(
        "..",
        "aaabaeafakamanarasavayazbabebgbhbibmbnbobrbscacechcocrcscucvcydadedvdzeeeleneoeseteufafffifjfofrfyga"
        "gdglgngugvhahehihohrhthuhyhziaidieigiiikioisitiujajvkakgkikjkkklkmknkokrkskukvkwkylalblglilnloltlulv"
        "mgmhmimkmlmnmrmsmtmynanbndnengnlnnnonrnvnyocojomorospapiplpsptqurmrnrorurwsascsdsesgsiskslsmsnsosqsr"
        "ssstsusvswtatetgthtitktltntotrtstttwtyugukuruzvevivowawoxhyiyozazhzu",
    )
)
_REGION = re.compile(r"(?:-[A-Z]{2})?")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# What has a meaning in HTML, controls, and what turns the order of letters round for whoever reads them.
_SHOWN = str.maketrans(
    {
        **{chr(code): _REPLACEMENT for code in (*range(32), *range(0x7F, 0xA0), 0x202D, 0x202E) if code not in (9, 10, 13)},
        "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;",
    }
)  # fmt: skip


def shown(text: str) -> str:
    """Text of a document as text of a page."""
    return text.translate(_SHOWN)


def beginning(title: str, language: str, facts: Iterable[tuple[str, str]], *, is_withheld: bool) -> str:
    """The page up to the body of the document: facts are names and values of its header.

    language is what the document says that it is written in; it is told on where it is a language of ISO 639-1.
    """
    heading = shown(title.strip()) or "Clinical document"
    rows = "".join(
        f"<div><dt>{shown(name)}</dt><dd><bdi>{shown(value)}</bdi></dd></div>" for name, value in facts
    )
    is_spoken = language[:2] in _LANGUAGES and _REGION.fullmatch(language[2:])
    spoken = f' lang="{language}"' if is_spoken else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_ALLOWED}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading}</title><style>{_STYLE}</style></head><body><main><h1><bdi>{heading}</bdi></h1>"
        f"{notice(WITHHELD) if is_withheld else ''}<dl>{rows}</dl><div{spoken}>"
    )


def notice(text: str) -> str:
    """Something that the reader must know; text is ours."""
    return f'<p class="notice" lang="en">{text}</p>'


def ending(notices: Iterable[str]) -> str:
    """The rest of the page."""
    said = "".join(map(notice, notices))
    return (
        f"</div>{said}</main><footer><p>This page shows the header and the narrative of a clinical document. "
        "Coded entries, pictures and attachments are in the document itself.</p></footer></body></html>"
    )
