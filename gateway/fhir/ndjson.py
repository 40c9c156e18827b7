"""NDJSON read as it arrives: bytes in, lines out, each with its resource (Bulk Data Access 2, FHIR R4 3.1.0.1).

Chunks may cut anywhere, within a character too: lines are cut at the byte of the line feed, which UTF-8 has nowhere
else. Held in memory are the chunk and one line. A line that nobody changes keeps its bytes; to write another one, read it
again by exact_object().
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.fhir.by_form import ByForm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.pieces import AlikeEntries
from gateway.fhir.plain_json import plain_object
from gateway.fhir.resource import parse_resource

MAX_LINE_BYTES = 10 * 1024 * 1024


class Line(NamedTuple):
    """One line: its exact bytes without the line's end, and the resource that they say."""

    raw: bytes
    value: dict[str, Any]


class LineReader:
    """Reads one NDJSON file. feed() takes the next bytes, finish() says that they ended; both return whole lines.

    Both raise FhirError UPSTREAM_INVALID: a line that is no resource with one reading, or longer than max_line_bytes.
    Lines of white space say nothing, and are left out. With by_form, lines of a known form come as AlikeEntries.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, by_form: ByForm | None = None) -> None:
        self._max_line_bytes = max_line_bytes
        self._by_form = by_form
        self._parts: list[bytes] = []  # of the line that has no end yet
        self._held = 0

    def feed(self, content: bytes) -> list[Line | AlikeEntries]:
        """The lines that are whole with these bytes."""
        first, *more = content.split(b"\n")
        if not more:
            self._hold(first)
            return []
        *middle, last = more
        self._hold(first)
        whole = [b"".join(self._parts), *middle]
        self._parts, self._held = [], 0
        self._hold(last)
        return self._lines(whole)

    def finish(self) -> list[Line | AlikeEntries]:
        """The last line, where it had no end."""
        line = self._line(b"".join(self._parts))
        self._parts, self._held = [], 0
        return [] if line is None else [line]

    def _hold(self, part: bytes) -> None:
        if not part:
            return
        self._parts.append(part)
        self._held += len(part)
        self._check(self._held)

    def _lines(self, whole: list[bytes]) -> list[Line | AlikeEntries]:
        by_form = self._by_form
        try:
            text = "" if by_form is None else (b"\n".join(whole) + b"\n").decode()
        except UnicodeDecodeError:  # said of its own line
            text = ""
        if by_form is None or not text:
            return [*self._one_by_one(whole)]
        found: list[Line | AlikeEntries] = []
        start = number = 0
        while number < len(whole):
            taken, start = by_form.take(text, start, self._max_line_bytes)
            if taken:
                found.append(AlikeEntries(taken))
                number += len(taken)
            again = False
            while number < len(whole) and not again:
                for line in self._one_by_one(whole[number : number + 1]):
                    found.append(line)
                    again = by_form.missed(line.raw, line.value)
                start = text.index("\n", start) + 1
                number += 1
        return found

    def _one_by_one(self, whole: Iterable[bytes]) -> "list[Line]":
        return [line for raw in whole if (line := self._line(raw)) is not None]

    def _line(self, raw: bytes) -> Line | None:
        self._check(len(raw))
        raw = raw.strip(b" \t\r")
        if not raw:
            return None
        value = plain_object(raw)
        if value is None or not isinstance(value.get("resourceType"), str):
            value = parse_resource(raw, reason=Reason.UPSTREAM_INVALID)
        return Line(raw, value)

    def _check(self, length: int) -> None:
        if length > self._max_line_bytes:
            raise FhirError(Reason.UPSTREAM_INVALID, f"a line has more than {self._max_line_bytes} bytes")
