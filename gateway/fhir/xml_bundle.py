"""A Bundle in JSON as it comes → FHIR XML as it goes, entry by entry, never the whole.

XML has an order that JSON has not: links and the total stand before the entries. Where the links have not come when
the entries begin, the entries wait for them, up to max_held_bytes; beyond that the answer is refused while nothing of
it has gone out. A total that comes behind the entries of a Bundle that is already on its way is left out: it is
optional, and what it says was never owed.
"""

from typing import Any

from gateway.fhir import stream
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.pieces import (
    AlikeEntries,
    End,
    EntriesBegin,
    EntriesEnd,
    Entry,
    Member,
    Piece,
    PlainEntries,
)
from gateway.fhir.plain_json import exact_object
from gateway.fhir.xml_shapes import FHIR, shapes
from gateway.fhir.xml_writing import DECLARATION, write_member_xml

MAX_HELD_BYTES = 8 * 1024 * 1024
_HEAD = f'{DECLARATION}<Bundle xmlns="{FHIR}">'
_PAGES = "?_page="


class BundleXml:
    """Writes one Bundle. feed() and finish() give what can go out now. Both raise FhirError."""

    def __init__(self, *, page_suffix: str = "", max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._reader = stream.BundleReader()
        self._page_suffix = page_suffix
        self._max_held_bytes = max_held_bytes
        self._before: dict[str, Any] = {}  # members, until the entries begin
        self._behind: dict[str, Any] = {}
        self._entries: list[str] = []  # XML that has not gone out
        self._held = 0
        self._is_begun = False  # the head is out

    def feed(self, content: bytes) -> bytes:
        """The XML that these bytes of JSON make possible; b'' while that is nothing."""
        return self._take(self._reader.feed(content))

    def finish(self) -> bytes:
        """The rest, once the JSON has ended."""
        out = self._take(self._reader.finish())
        parts = []
        if not self._is_begun:
            self._before |= self._behind
            self._behind = {}
            parts.append(self._head())
        parts += [*self._entries, *self._members(self._behind), "</Bundle>"]
        return out + "".join(parts).encode()

    def _take(self, pieces: list[Piece]) -> bytes:
        for piece in pieces:
            match piece:
                case Member(name="resourceType"):
                    pass
                case Member(name=name, value=value):
                    self._member(name, value)
                case EntriesBegin():
                    if "link" in self._before:
                        self._entries.append(self._head())
                case Entry(value=value):
                    self._entry(write_member_xml("Bundle", "entry", [value]))
                case PlainEntries(entries=entries) | AlikeEntries(entries=entries):
                    for raw, _ in entries:  # decimals as they were written
                        self._entry(write_member_xml("Bundle", "entry", [exact_object(raw)]))
                case EntriesEnd() | End():
                    pass
        if not self._is_begun:
            return b""
        out = "".join(self._entries).encode()
        self._entries.clear()
        return out

    def _member(self, name: str, value: Any) -> None:
        if name == "link":
            value = with_suffix(value, self._page_suffix)
        if not self._is_begun:
            self._before[name] = value
        elif name not in shapes("Bundle") or _is_behind(name):
            self._behind[name] = value  # an unknown one is refused when it would be written
        elif name != "total":
            raise FhirError(
                Reason.UPSTREAM_INVALID, "the store writes a part of its Bundles too late for XML"
            )

    def _entry(self, xml: str) -> None:
        self._entries.append(xml)
        if not self._is_begun:
            self._held += len(xml)
            if self._held > self._max_held_bytes:
                raise FhirError(
                    Reason.NOT_ACCEPTABLE,
                    "the store writes its links behind the entries: a page this long can be given as JSON only;"
                    " ask for JSON, or for shorter pages by _count",
                )

    def _head(self) -> str:
        self._is_begun = True
        before = {name: value for name, value in self._before.items() if not _is_behind(name)}
        self._behind |= {name: value for name, value in self._before.items() if _is_behind(name)}
        return _HEAD + "".join(self._members(before))

    def _members(self, members: dict[str, Any]) -> list[str]:
        names = [name for name in shapes("Bundle") if name in members]
        if len(names) != len(members):
            raise FhirError(
                Reason.NOT_ACCEPTABLE, "a Bundle with members that R4 does not know: ask for JSON"
            )
        return [write_member_xml("Bundle", name, members[name]) for name in names]


def with_suffix(links: Any, suffix: str) -> Any:
    """The links of a Bundle, those to pages with a suffix: whoever asked by `_format` gets its next page so too."""
    if not suffix or not isinstance(links, list):
        return links
    return [
        link | {"url": link["url"] + suffix}
        if isinstance(link, dict) and link.get("relation") != "self" and _PAGES in str(link.get("url"))
        else link
        for link in links
    ]


def _is_behind(name: str) -> bool:
    known = shapes("Bundle")
    return name in known and known[name].place > known["entry"].place
