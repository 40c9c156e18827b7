"""The languages of the pages for people: one catalogue each, and which of them a person reads.

A catalogue is a JSON file of texts by name. A text may hold placeholders, filled by name; what fills them is never
read as HTML. Which language it is: the one that the person switched to, else what the app asks for (ui_locales, OpenID
Connect Core 3.1.2.1), else what the browser says (Accept-Language, RFC 9110 12.5.4), else English.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib import resources
from string import Formatter
from urllib.parse import quote

from markupsafe import Markup, escape

from authz.protocol.request import HttpRequest

COOKIE = "__Host-securus-language"
SWITCH = "/account/language"
_KEEP_SECONDS = 365 * 86400
_MAX_RANGES = 20


@dataclass(frozen=True, slots=True)
class Language:
    """A language with its texts. code is a tag of RFC 5646 without subtags; name is its own name for itself."""

    code: str
    name: str
    texts: Mapping[str, str] = field(repr=False)
    _pieces: dict[str, "_Pieces | None"] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, key: str, **values: object) -> Markup:
        """The text of this name for a page: values are escaped, the text may hold elements."""
        pieces = self._pieces_of(key)
        if pieces is None:
            return Markup(self.texts[key]).format(**values)  # noqa: S704  (a text of ours)
        if isinstance(pieces, Markup):
            return pieces
        said = []
        for text, name in pieces:
            said.append(text)
            if name is not None:
                said.append(_escaped(values[name]))
        return Markup("".join(said))  # noqa: S704

    def fixed(self, key: str) -> str | None:
        """The same of a text without placeholders; None for one that has some."""
        pieces = self._pieces_of(key)
        return str(pieces) if isinstance(pieces, Markup) else None

    def _pieces_of(self, key: str) -> "_Pieces | None":
        if key not in self._pieces:
            self._pieces[key] = _pieces_of(self.texts[key])
        return self._pieces[key]

    def plain(self, key: str, **values: object) -> str:
        """The text of this name where no element stands."""
        return self.texts[key].format(**values)

    def has(self, key: str) -> bool:
        """Whether there is a text of this name."""
        return key in self.texts

    def of(self, kind: str, word: str) -> str:
        """The text for a word of a kind, such as a resource type; the word itself where there is none."""
        return self.texts.get(f"{kind}.{word}", word)

    def listed(self, words: Sequence[str]) -> str:
        """Words as a list in a sentence."""
        if len(words) < 2:
            return "".join(words)
        return self.plain("list.last", before=", ".join(words[:-1]), last=words[-1])

    def day(self, day: date) -> str:
        """A date, such as '7 March 2027'."""
        return self.plain("date.day", day=day.day, month=self.texts[f"month.{day.month}"], year=day.year)

    def when(self, seconds: float) -> str:
        """A time, such as '7 March 2027, 14:05 UTC'."""
        at = datetime.fromtimestamp(seconds, UTC)
        return self.plain("date.time", day=self.day(at.date()), time=f"{at:%H:%M}")


_Pieces = Markup | list[tuple[str, str | None]]
"""A text without placeholders; or pieces of one, each with the name of the placeholder behind it."""


def _pieces_of(text: str) -> _Pieces | None:
    """The pieces of a text; None for one that formats a value in a way of its own, which str.format knows.

    A page has a dozen texts, and Markup.format() takes each of them apart anew.
    """
    pieces = []
    for literal, name, format_, conversion in Formatter().parse(text):
        if name is not None and (format_ or conversion or not name.isidentifier()):
            return None
        pieces.append((literal, name))
    if all(name is None for _, name in pieces):
        return Markup("".join(literal for literal, _ in pieces))  # noqa: S704
    return pieces


def _escaped(value: object) -> str:
    return str(escape(value if hasattr(value, "__html__") else format(value)))


def _flat(texts: Mapping[str, object], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in texts.items():
        found |= {before + name: text} if isinstance(text, str) else _flat(dict(text), f"{before}{name}.")  # type: ignore[call-overload]
    return found


def _read(code: str) -> Language:
    text = resources.files("authz.login").joinpath("languages", f"{code}.json").read_text(encoding="utf-8")
    texts = _flat(json.loads(text))
    return Language(code, texts["language"], texts)


LANGUAGES: Mapping[str, Language] = {code: _read(code) for code in ("en", "de")}
"""Every language by its code, the one without a wish first."""
ENGLISH = LANGUAGES["en"]


def language_of(request: HttpRequest, ui_locales: str = "") -> Language:
    """The language of the person who sends a request, with ui_locales of the app that sent them here."""
    switched = [
        value.strip()
        for name, _, value in (pair.partition("=") for pair in request.headers.get("cookie", "").split(";"))
        if name.strip() == COOKIE
    ]
    wishes = (*switched, *ui_locales.split(" "), *_accepted(request.headers.get("accept-language", "")))
    return _first(wishes) or ENGLISH


def _first(wishes: Iterable[str]) -> Language | None:
    """The first wish that there is a language for, with or without its subtags (RFC 4647 3.4)."""
    for wish in wishes:
        found = LANGUAGES.get(wish.strip().lower().partition("-")[0])
        if found is not None:
            return found
    return None


def _accepted(header: str) -> list[str]:
    """The ranges of Accept-Language, the most wished for first; what cannot be read is no wish."""
    found: list[tuple[float, str]] = []
    for part in header.split(",")[:_MAX_RANGES]:
        range_, _, weight = part.partition(";")
        name, _, number = weight.strip().partition("=")
        try:
            quality = float(number) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        if quality > 0:
            found.append((-quality, range_))
    return [range_ for _, range_ in sorted(found, key=lambda each: each[0])]


def switches(language: Language, here: str) -> list[tuple[str, str, str]]:
    """The other languages, each with its code, its name and the way to this page (path and query) in it."""
    return [
        (other.code, other.name, f"{SWITCH}?to={other.code}&back={quote(here, safe='')}")
        for other in LANGUAGES.values()
        if other is not language
    ]


def cookie_of(language: Language) -> str:
    """The cookie of a person who switched to a language. It says nothing else, and nothing is decided by it."""
    return f"{COOKIE}={language.code}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={_KEEP_SECONDS}"
