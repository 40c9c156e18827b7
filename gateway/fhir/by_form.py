"""Entries and lines that are read by their form: those that are written as some before them were.

Forms are learned from what was read strictly, and kept for the Bundles and files that follow. An expression is made of
a form that was seen twice, which takes a millisecond. What has no known form is read as ever.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

from gateway.fhir.forms import Form, Wording, form_of, is_clear, merged, wording_of_entry, wording_of_line
from gateway.fhir.links import address_pattern, mentions

_MOST_FORMS = 3  # of one type that are kept, and tried on an entry
_MOST_KEYS = 64
_MOST_MADE = 40  # expressions of one type, one in the place of another
_MOST_SEEN = 200
_MOST_PARTS = 100
_LONGEST_TYPE = 64
_MOST_BYTES = 1024 * 1024  # of what a form is learned from
_SELDOM = 16  # where forms cost more than they save, they are tried on one entry in so many
_MOST_CREDIT = 16  # hits that can be spent; a hit saves what about two trials in vain cost

LookedAt = Callable[[str], frozenset[str] | None]
"""By type, the members of a resource that are looked at; None where resources of the type are read whole.

'meta.security' stands for meta where it has that member.
"""
_Key = tuple[str, str, frozenset[str]]


class KnownForms:
    """The forms of what was read, by what it begins with, its type and what is looked at; the last ones first."""

    def __init__(self) -> None:
        self._forms: dict[_Key, tuple[Form, ...]] = {}
        self._seen: set[Wording] = set()
        self._made: dict[_Key, int] = {}

    def of(self, key: _Key) -> tuple[Form, ...]:
        """The forms that are known."""
        return self._forms.get(key, ())

    def learn(self, key: _Key, wording: Wording, text: str) -> None:
        """Keep the form in these words, of what text holds with the begin of what follows, where it was seen before."""
        known = self._forms.get(key, ())
        # As many as there are orders: to make more would cost more than it saves.
        if self._made.get(key, 0) >= _MOST_MADE:
            return
        for form in known:
            both = merged(form.wording, wording)
            if both is not None:
                if both != form.wording:
                    self._keep(key, form_of(both), text, [each for each in known if each is not form])
                return
        if wording not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(wording)
            return
        self._seen.discard(wording)
        self._keep(key, form_of(wording), text, list(known))

    def _keep(self, key: _Key, form: Form, text: str, others: list[Form]) -> None:
        if len(self._made) >= _MOST_KEYS:
            self._made.clear()
            self._forms.clear()
        self._made[key] = self._made.get(key, 0) + 1
        # With white space, say, it would match nothing of this kind.
        if form.match_escapes(text, 0) is not None:
            self._forms[key] = (form, *others)[:_MOST_FORMS]


KNOWN = KnownForms()
"""The forms that this process knows. They hold names of members, and nothing that stands in one."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is read: how it begins, up to its type, what ends that, how the next one begins; its addresses of the store."""

    begin: str
    ends_type: str
    follows: str
    addresses: int
    type_of: Callable[[Mapping[str, Any]], object]
    wording: Callable[[Mapping[str, Any], frozenset[str]], Wording | None]


class ByForm:
    """Takes the entries of one Bundle, or the lines of one file, by their forms: see entries() and lines()."""

    def __init__(self, kind: _Kind, base: str, looked_at: LookedAt, known: KnownForms) -> None:
        self._kind = kind
        self._base = base
        self._looked_at = looked_at
        self._known = known
        self._addresses = address_pattern(base)
        self._form: Form | None = None  # of the last one
        self._found: tuple[str | None, ...] | None = None
        self._part: dict[str, Any] = {}  # what was looked at of it
        self._parts: dict[tuple[Form, tuple[str | None, ...]], dict[str, Any]] = {}  # and of those before
        self._text = ""
        self._is_clear = self._has_escapes = False
        self._places: list[int] = []  # of addresses of the store within the text
        self._place = 0  # those before this one stand before what is read now
        self._missed = 0
        self._credit = _MOST_CREDIT

    def take(self, text: str, start: int, at_most: int) -> tuple[list[tuple[bytes, dict[str, Any]]], int]:
        """What has a known form from start on, each with what is looked at of it, and where the next begins.

        One that is alike in all that is looked at has the same object there as the one before. None is taken that has
        more than at_most bytes, that holds another address of the store, or behind which there is no other.
        """
        taken: list[tuple[bytes, dict[str, Any]]] = []
        if not self._reads(text):
            return taken, start
        form, found, part, place = self._form, self._found, self._part, self._place
        places, has_escapes, own = self._places, self._has_escapes, self._kind.addresses
        match = _no_match if form is None else form.match_escapes if has_escapes else form.match
        while True:
            matched = match(text, start)
            if matched is None or form is None:
                other = self._matching(text, start)
                if other is None or other is form:
                    break
                form = other
                self._credit -= 1
                match, found = form.match_escapes if has_escapes else form.match, None
                continue
            groups, end = matched.groups(), matched.end()
            if groups[1:] != found:
                known = self._parts.get((form, groups[1:]))
                looked_at = form.looked_at(groups[1:]) if known is None else known
                if looked_at is None:
                    break
                found, part = groups[1:], looked_at
                if known is None:
                    self._keep(form, found, part)
            while place < len(places) and places[place] < start:
                place += 1
            raw = text[start:end].encode()
            if (
                len(raw) > at_most
                or b"\n" in raw
                or (place + own < len(places) and places[place + own] < end)
            ):
                break
            if has_escapes and b"\\" in raw and mentions(raw, self._base) != own:
                break
            taken.append((raw, part))
            start = end + 1
        self._form, self._found, self._part, self._place = form, found, part, place
        self._credit = min(self._credit + 2 * len(taken), _MOST_CREDIT)
        return taken, start

    def _keep(self, form: Form, found: tuple[str | None, ...], part: dict[str, Any]) -> None:
        if len(self._parts) >= _MOST_PARTS:
            self._parts.clear()
        self._parts[form, found] = part

    def alone(self, raw: bytes) -> dict[str, Any] | None:
        """What is looked at of a line that comes by itself, without its end; None where it has no known form.

        Nothing that stands in it is kept.
        """
        if not self._hopes() or b"\n" in raw:
            return None
        try:
            text = raw.decode() + "\n"
        except UnicodeDecodeError:
            return None
        taken, end = self.take(text, 0, len(raw))
        self._text, self._places, self._found, self._part = "", [], None, {}
        self._parts.clear()
        return taken[0][1] if len(taken) == 1 and end == len(text) else None

    def missed(self, raw: bytes, value: Mapping[str, Any]) -> bool:
        """Learn from what was read strictly; whether the next one may have a known form."""
        self._missed += 1
        if not self._missed & (self._missed - 1) and len(raw) <= _MOST_BYTES:
            self._learn(raw, value)
        return self._hopes()

    def _hopes(self) -> bool:
        return self._credit > 0 or not self._missed % _SELDOM

    def _learn(self, raw: bytes, value: Mapping[str, Any]) -> None:
        type_ = self._kind.type_of(value)
        names = self._looked_at(type_) if isinstance(type_, str) else None
        if not isinstance(type_, str) or names is None:
            return
        wording = self._kind.wording(value, names)
        if wording is not None:
            self._known.learn((self._kind.begin, type_, names), wording, raw.decode() + self._kind.follows)

    def _matching(self, text: str, start: int) -> Form | None:
        """The first form of the type, as the text begins from start on, that matches there."""
        begin = self._kind.begin
        if not text.startswith(begin, start):
            return None
        start_of_type = start + len(begin)
        type_ = text[start_of_type : start_of_type + _LONGEST_TYPE].partition(self._kind.ends_type)[0]
        names = self._looked_at(type_)
        for form in () if names is None else self._known.of((begin, type_, names)):
            if form.match_escapes(text, start) is not None:
                return form
            self._credit -= 1
        return None

    def _reads(self, text: str) -> bool:
        if text is not self._text:
            self._text, self._is_clear, self._has_escapes = text, is_clear(text), "\\" in text
            found = self._addresses.finditer(text) if self._is_clear else ()
            self._places, self._place = [each.start() for each in found], 0
        return self._is_clear


def entries(base: str, looked_at: LookedAt, known: KnownForms = KNOWN) -> ByForm | None:
    """Takes entries of a search, whose fullUrl names the resource in its place below base, the address of the store.

    None for an address that JSON writes in another way.
    """
    if encode_basestring(base) != f'"{base}"' or base.endswith("/"):
        return None

    def wording(entry: Mapping[str, Any], names: frozenset[str]) -> Wording | None:
        return wording_of_entry(entry, base, names)

    return ByForm(
        _Kind(f'{{"fullUrl":"{base}/', "/", ",{", 1, _type_of_entry, wording), base, looked_at, known
    )


def lines(base: str, looked_at: LookedAt, known: KnownForms = KNOWN) -> ByForm:
    """Takes lines, each with its end, of which every one is a resource that does not hold the address of the store."""
    return ByForm(_Kind('{"resourceType":"', '"', "\n", 0, _type_of, wording_of_line), base, looked_at, known)


def _type_of(resource: Mapping[str, Any]) -> object:
    return resource.get("resourceType")


def _type_of_entry(entry: Mapping[str, Any]) -> object:
    resource = entry.get("resource")
    return _type_of(resource) if isinstance(resource, dict) else None


def _no_match(text: str, start: int) -> None:
    return None
