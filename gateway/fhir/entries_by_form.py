"""Entries of a Bundle that are read by their form: those that are written as entries before them were.

Forms are learned from entries that were read strictly, and kept for the Bundles that follow. An expression is made of
a form that was seen twice, which takes a millisecond. What has no known form is read as ever.
"""

from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

from gateway.fhir.forms import Form, Wording, is_clear, wording_of
from gateway.fhir.links import address_pattern, mentions

_MOST_FORMS = 6  # of one type that are tried on an entry
_MOST_KEYS = 64
_MOST_SEEN = 1000
_PATIENCE = 8  # misses one after another, before forms are tried on one entry in so many only

_Key = tuple[str, str, frozenset[str]]


class KnownForms:
    """The forms of entries that were read, by base, type and what is looked at; the last ones first."""

    def __init__(self) -> None:
        self._forms: dict[_Key, tuple[Form, ...]] = {}
        self._seen: set[Wording] = set()

    def of(self, key: _Key) -> tuple[Form, ...]:
        """The forms that are known."""
        return self._forms.get(key, ())

    def learn(self, key: _Key, wording: Wording, entry: str) -> Form | None:
        """The form of an entry, where it is new and was seen before."""
        known = self._forms.get(key, ())
        if any(form.source == wording.source and form.template == wording.template for form in known):
            return None
        if wording not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(wording)
            return None
        self._seen.discard(wording)
        form = wording.compiled()
        if (
            form.match(entry + ",{", 0) is None
        ):  # with white space, say: the form would match nothing of this kind
            return None
        if len(self._forms) >= _MOST_KEYS:
            self._forms.clear()
        self._forms[key] = (form, *known)[:_MOST_FORMS]
        return form


KNOWN = KnownForms()
"""The forms that this process knows. They hold names of members, and nothing that stands in one."""


class EntriesByForm:
    """Takes the entries of one Bundle by their forms.

    base is the address of the store, below which an entry's fullUrl names its resource; by type, what is looked at of
    resources. Of other types no entry is taken, and none that holds another address of the store.
    """

    def __init__(self, base: str, looked_at: Mapping[str, frozenset[str]], known: KnownForms = KNOWN) -> None:
        self._base = base
        self._looked_at = (
            looked_at if encode_basestring(base) == f'"{base}"' and not base.endswith("/") else {}
        )
        self._known = known
        self._forms = [form for type_ in self._looked_at for form in known.of(self._key(type_))]
        self._addresses = address_pattern(base)
        self._text = ""
        self._is_clear = self._has_escapes = False
        self._places: list[
            int
        ] = []  # of addresses of the store within the text, from _place on not yet passed
        self._place = 0
        self._found: tuple[str, ...] = ()
        self._entry: dict[str, Any] = {}  # what was looked at in the entry before, whose form is the first
        self._missed = 0
        self._in_a_row = 0

    def take(self, text: str, start: int, at_most: int) -> tuple[list[tuple[bytes, dict[str, Any]]], int]:
        """The entries from start on that have a known form, with what is looked at of each, and where the next begins.

        An entry that is alike in all that is looked at has the same object there as the one before. None is taken that
        has more than at_most bytes, or behind which there is no other.
        """
        taken: list[tuple[bytes, dict[str, Any]]] = []
        forms = self._forms
        if not forms or not self._reads(text):
            return taken, start
        places, place = self._places, self._place
        while True:
            for form in forms:
                match = form.match(text, start)
                if match is not None:
                    break
            else:
                break
            _, *rest = match.groups()
            found = tuple(rest)
            if form is not forms[0] or found != self._found or not self._entry:
                entry = form.looked_at(found)
                if entry is None:
                    break
                forms.remove(form)
                forms.insert(0, form)
                self._found, self._entry = found, entry
            end = match.end()
            while places[place] < start:
                place += 1
            raw = text[start:end].encode()
            if len(raw) > at_most or (place + 1 < len(places) and places[place + 1] < end):
                break
            if self._has_escapes and b"\\" in raw and mentions(raw, self._base) != 1:
                break
            taken.append((raw, self._entry))
            start = end + 1
        self._place = place
        if taken:
            self._in_a_row = 0
        return taken, start

    def missed(self, raw: bytes, entry: Mapping[str, Any]) -> bool:
        """Learn from an entry that was read strictly; whether the next one may have a known form."""
        self._missed += 1
        self._in_a_row += 1
        if not self._missed & (self._missed - 1) and self._learn(raw, entry):
            self._in_a_row = 0
        return bool(self._forms) and (self._in_a_row < _PATIENCE or not self._in_a_row % _PATIENCE)

    def _learn(self, raw: bytes, entry: Mapping[str, Any]) -> bool:
        resource = entry.get("resource")
        type_ = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(type_, str) or type_ not in self._looked_at:
            return False
        wording = wording_of(entry, self._base, self._looked_at[type_])
        form = None if wording is None else self._known.learn(self._key(type_), wording, raw.decode())
        if form is None:
            return False
        self._forms = [form, *self._forms[: _MOST_FORMS - 1]]
        self._entry = {}
        return True

    def _key(self, type_: str) -> _Key:
        return self._base, type_, self._looked_at[type_]

    def _reads(self, text: str) -> bool:
        if text is not self._text:
            self._text, self._is_clear, self._has_escapes = text, is_clear(text), "\\" in text
            self._places = (
                [match.start() for match in self._addresses.finditer(text)] if self._is_clear else []
            )
            self._place = 0
        return self._is_clear
