"""Large resources that are read alone: by the form of those before them, where nobody looks at the whole."""

from functools import partial
from typing import Any

from gateway.fhir import by_form
from gateway.fhir.by_form import KNOWN, ByForm, KnownForms
from gateway.fhir.plain_json import plain_object
from gateway.policy.decision import Judge, LookingJudge
from gateway.proxy.answers.alike_entries import looked_at_beside

_LARGE = 8 * 1024  # bytes; to read a smaller one whole costs no more
_MOST_READERS = 64


class LargeResources:
    """Reads the answers of one store, whose address base is."""

    def __init__(self, base: str, known: KnownForms = KNOWN) -> None:
        self._base = base
        self._known = known
        self._readers: dict[frozenset[str], ByForm] = {}  # by what the judge looks at

    def plain(self, raw: bytes, judge: Judge | None) -> dict[str, Any] | None:
        """The object that these bytes are, as plain_object() gives it: all of it, or what judge and record look at.

        None where another decoder must say so, or that they are none. Whoever looks at more reads the bytes again.
        """
        if len(raw) < _LARGE or not isinstance(judge, LookingJudge):
            return plain_object(raw)
        reader = self._reader(judge.looks_at)
        found = reader.alone(raw)
        if found is not None:
            part: dict[str, Any] = found["resource"]
            return part
        value = plain_object(raw)
        if value is not None:
            reader.missed(raw, value)
        return value

    def _reader(self, names: frozenset[str]) -> ByForm:
        found = self._readers.get(names)
        if found is None:
            if len(self._readers) >= _MOST_READERS:
                self._readers.clear()
            found = by_form.lines(self._base, partial(looked_at_beside, names), self._known)
            self._readers[names] = found
        return found
