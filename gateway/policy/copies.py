"""Copies of what was taken out of a resource: looked for in texts, displays, extensions and narratives that are left.

FHIR says many things twice. Whatever repeats what a caller does not see is taken out as well; a narrative that does
gives way to one that says nothing.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.fhir.resource import Number

_SHORTEST_COPY = 4  # a hidden text this short or shorter stands in other texts by chance
_FEW = 16
_KEY = _SHORTEST_COPY + 1
_FREE_TEXT = frozenset(
    {
        "comment", "conclusion", "contentString", "description", "display", "instruction", "mitigation",
        "patientInstruction", "rationale", "summary", "text", "textEquivalent", "title", "valueMarkdown", "valueString",
    }
)  # fmt: skip
_EXTENSIONS = frozenset({"extension", "modifierExtension"})
_TAG = re.compile(r"<[^<>]*>")
WITHHELD = {"status": "empty", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Withheld</div>'}
"""The narrative in place of one that tells what is hidden (FHIR R4 NarrativeStatus)."""


class Copies:
    """What was taken out, and what is left of a value without copies of it."""

    __slots__ = ("_by_beginning", "_indexed", "_numbers", "_texts")

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._indexed = 0
        self._by_beginning: dict[str, dict[int, set[str]]] = {}  # and by length
        self._numbers: set[Any] = set()

    def take(self, value: Any) -> None:
        """Remember all that stands in a value."""
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                if len(leaf) > _SHORTEST_COPY:
                    self._texts.add(leaf.casefold())
            elif not isinstance(leaf, bool):
                self._numbers.add(leaf)

    def take_difference(self, whole: Any, left: Mapping[str, Any] | None) -> None:
        """Remember the texts of a value that do not stand in what is left of it."""
        kept = set() if left is None else {leaf for leaf in _leaves(left) if isinstance(leaf, str)}
        self._texts |= {
            leaf.casefold()
            for leaf in _leaves(whole)
            if isinstance(leaf, str) and leaf not in kept and len(leaf) > _SHORTEST_COPY
        }

    def without(self, value: Any) -> Any:
        """The value without free text, displays, extensions and narratives that repeat what was taken out."""
        if isinstance(value, dict):
            found = {}
            for key, inner in value.items():
                name = key[1:] if key.startswith("_") else key
                if name in _EXTENSIONS and isinstance(inner, list):
                    inner = [item for item in inner if not self.repeats(item)]
                    if not inner:
                        continue
                elif name in _FREE_TEXT and not isinstance(inner, dict) and self.repeats(inner):
                    continue
                elif isinstance(inner, dict) and isinstance(inner.get("div"), str) and self._is_told(inner):
                    found[key] = dict(WITHHELD)
                    continue
                found[key] = self.without(inner)
            return found
        if isinstance(value, list):
            return [self.without(item) for item in value]
        return value

    def repeats(self, value: Any) -> bool:
        """Whether something of the value repeats what was taken out."""
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                if self._holds_one(leaf.casefold()):
                    return True
            elif leaf in self._numbers and not isinstance(leaf, bool):
                return True
        return False

    def _holds_one(self, text: str) -> bool:
        """Whether one of the texts stands in this one. Of many the cost is that of the text, not of all of them."""
        if len(self._texts) <= _FEW:
            return any(taken in text for taken in self._texts)
        if self._indexed != len(self._texts):
            self._by_beginning, self._indexed = {}, len(self._texts)
            for taken in self._texts:
                self._by_beginning.setdefault(taken[:_KEY], {}).setdefault(len(taken), set()).add(taken)
        for at in range(len(text) - _KEY + 1):
            found = self._by_beginning.get(text[at : at + _KEY])
            if found is not None and any(text[at : at + length] in texts for length, texts in found.items()):
                return True
        return False

    def _is_told(self, narrative: Mapping[str, Any]) -> bool:
        """Whether a narrative says it: as it is written, or as it is read once its tags are gone."""
        return (
            self.repeats(narrative)
            or self.repeats(_read(narrative["div"], ""))
            or self.repeats(_read(narrative["div"], " "))
        )


def _read(div: str, between: str) -> str:
    """The words of a narrative, with this where a tag was."""
    return " ".join(html.unescape(_TAG.sub(between, div)).split())


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Number):
        yield value.text
    elif value is not None:
        yield value
