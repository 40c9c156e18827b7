"""A Bundle read as it arrives: bytes in, top-level members and entries out, never the whole (FHIR R4 2.36).

Chunks may cut anywhere; the pieces are the same. The top level is read by a small state machine, in whatever order its
members come; each value is decoded in one go, which gives the object to judge and its exact bytes to forward. Only a
value that a chunk cuts is scanned for its end, once and with the state kept, so that the work stays linear in the
bytes. Held in memory are the chunk and one entry.

Refused, since a filter must not read it otherwise than the client: a byte order mark, what is not UTF-8, members that
occur twice, NaN, text behind the Bundle, an entry that is no object, a resourceType that is not Bundle, an entry larger
or nested deeper than allowed, an end before the end.
"""

import codecs
import re
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import Any, NoReturn

from gateway.fhir.by_form import ByForm
from gateway.fhir.cut_values import CutValue, string_end
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
    held,
)
from gateway.fhir.plain_json import plain_object
from gateway.fhir.resource import DECODER, MAX_DEPTH, is_too_deep, may_be_too_deep

MAX_ENTRY_BYTES = 10 * 1024 * 1024
_MAX_MEMBERS = 64  # a Bundle has 12; underscore names and extensions may add some
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR_END = re.compile(r"[ \t\n\r,\]}]")
_BEGIN = re.compile(rb'\{"[A-Za-z]+":')
_MARK_OF_A_FORM = '},{"fullUrl":'
_MOST_ATTEMPTS = 3
_SHORT = 16 * 1024


class _State(Enum):
    BEFORE = auto()  # the opening brace
    FIRST_NAME = auto()  # a member's name, or the closing brace
    NAME = auto()  # a member's name, behind a comma
    COLON = auto()
    VALUE = auto()
    AFTER_VALUE = auto()  # comma or closing brace
    FIRST_ENTRY = auto()  # an entry, or the closing bracket
    ENTRY = auto()  # an entry, behind a comma
    AFTER_ENTRY = auto()  # comma or closing bracket
    AFTER = auto()  # nothing but white space


class BundleReader:
    """Reads one Bundle. feed() takes the next bytes, finish() says that they ended; both return what became whole.

    Both raise FhirError UPSTREAM_INVALID, after which the reader is of no more use. No entry and no other value may
    have more than max_entry_bytes. With by_form, entries of a known form come as AlikeEntries.
    """

    def __init__(self, *, max_entry_bytes: int = MAX_ENTRY_BYTES, by_form: ByForm | None = None) -> None:
        self._max_entry_bytes = max_entry_bytes
        self._by_form = by_form
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._state = _State.BEFORE
        self._name = ""
        self._names: set[str] = set()
        self._is_bundle = False
        self._rest = ""  # not yet read: less than one value, unless _cut
        self._cut: CutValue | None = None
        self._mark = ""  # what stands between two entries, as the first one began
        self._may_wait = False
        self._attempts = _MOST_ATTEMPTS  # to read plain entries, before that is given up
        self._plain_end = (0, False)
        self._ends_by_form = False  # whether plain entries end where one of a known form may follow

    def feed(self, content: bytes) -> list[Piece]:
        """The pieces that are whole with these bytes, in the order of the Bundle."""
        return held(self.pieces(content))

    def pieces(self, content: bytes) -> Iterator[Piece]:
        """As feed(), each piece when it is asked for. All are to be asked for, the entries of PlainEntries too.

        Who is done with an entry before it asks for the next keeps one in memory, where the next one finds its place.
        """
        try:
            text = self._decode(content)
        except UnicodeDecodeError:
            _refuse("is not UTF-8")
        # What a long piece cuts is short beside it: to put it before the next one costs less than to search for its end.
        self._may_wait = len(content) >= _SHORT
        return self._read(text)

    def finish(self) -> list[Piece]:
        """The End of a whole Bundle."""
        try:
            self._decode(b"", True)
        except UnicodeDecodeError:
            _refuse("ends within a character")
        self._may_wait = False
        pieces = held(self._read(""))
        if self._state is not _State.AFTER:
            _refuse("ends before its end")
        if not self._is_bundle:
            _refuse("has no resourceType Bundle")
        return [*pieces, End()]

    def _read(self, text: str) -> Iterator[Piece]:
        if self._cut is not None:
            end = self._cut.find_end(text)
            if end is None:
                if self._cut.length > self._max_entry_bytes:
                    self._refuse_large()
                return
            whole = self._cut.whole(text[:end])
            self._cut = None
            value, stop = self._decode_value(whole, 0)
            if stop != len(whole):
                _refuse("is not JSON")
            pieces: list[Piece] = []
            self._accept(whole.encode(), value, pieces)
            yield from pieces
            text = text[end:]
        elif self._rest:
            text = self._rest + text
        position = yield from self._read_on(text)
        self._rest = text[position:] if self._cut is None else ""

    def _read_on(self, text: str) -> Generator[Piece, None, int]:
        """Read as far as text goes; gives the position up to which it was read."""
        pieces: list[Piece] = []
        length = len(text)
        position = _space_end(text, 0)
        while position < length:
            mark = text[position]
            match self._state:
                case _State.ENTRY | _State.FIRST_ENTRY:
                    if mark == "]" and self._state is _State.FIRST_ENTRY:
                        pieces.append(EntriesEnd())
                        self._state = _State.AFTER_VALUE
                        position += 1
                    elif mark == "{":
                        if self._by_form is not None:
                            alike, behind = self._by_form.take(text, position, self._max_entry_bytes)
                            if alike:
                                yield AlikeEntries(alike)
                                self._state = _State.ENTRY
                                self._mark = self._mark or _MARK_OF_A_FORM
                                position = behind
                                continue
                        if self._mark and self._attempts:
                            plain = self._take_plain(text, position)
                            yield PlainEntries(plain)
                            for _ in plain:  # what was not asked for is read all the same
                                pass
                            position, is_open = self._plain_end
                            if self._ends_by_form:
                                self._ends_by_form = False
                                continue
                            if is_open and self._may_wait and length - position < _SHORT:
                                return position
                        end = self._take(text, position, pieces)
                        if end is None:
                            return length
                        position = end
                    else:
                        _refuse("has an entry that is not an object")
                case _State.AFTER_ENTRY:
                    if mark == ",":
                        self._state = _State.ENTRY
                    elif mark == "]":
                        pieces.append(EntriesEnd())
                        self._state = _State.AFTER_VALUE
                    else:
                        _refuse("is not JSON")
                    position += 1
                case _State.VALUE:
                    if self._name == "entry":
                        if mark != "[":
                            _refuse("has an entry that is not an array")
                        pieces.append(EntriesBegin())
                        self._state = _State.FIRST_ENTRY
                        position += 1
                    elif mark in '"{[':
                        end = self._take(text, position, pieces)
                        if end is None:
                            return length
                        position = end
                    else:
                        end = self._take_scalar(text, position, pieces)
                        if end is None:
                            return position
                        position = end
                case _State.FIRST_NAME | _State.NAME:
                    if mark == '"':
                        end = self._take_name(text, position)
                        if end is None:
                            return position
                        position = end
                    elif mark == "}" and self._state is _State.FIRST_NAME:
                        self._state = _State.AFTER
                        position += 1
                    else:
                        _refuse("is not JSON")
                case _:
                    self._take_mark(mark)
                    position += 1
            if pieces:
                yield from pieces
                pieces.clear()
            position = _space_end(text, position)
        return length

    def _take_mark(self, mark: str) -> None:
        match self._state, mark:
            case _State.BEFORE, "{":
                self._state = _State.FIRST_NAME
            case _State.COLON, ":":
                self._state = _State.VALUE
            case _State.AFTER_VALUE, ",":
                self._state = _State.NAME
            case _State.AFTER_VALUE, "}":
                self._state = _State.AFTER
            case _State.BEFORE, _:
                _refuse("is not a JSON object")
            case _State.AFTER, _:
                _refuse("has text behind its end")
            case _:
                _refuse("is not JSON")

    def _take_plain(self, text: str, start: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Take the entries that end where another begins alike, written as JSON is written without white space.

        What stands between two such marks and is an object by itself is the entry: JSON has no other reading of it. The
        rest, and the last one, is for _take(): where it begins, and whether no other mark follows, is in _plain_end.
        """
        mark, begin, at_most = self._mark, self._mark[2:], self._max_entry_bytes
        while True:
            end = text.find(mark, start)
            if end < 0 or not text.startswith(begin, start):
                is_open = end < 0
                break
            raw = text[start : end + 1].encode()
            value = plain_object(raw) if len(raw) <= at_most else None
            if value is None:  # the mark stands inside an entry, or the entry is written in another way
                self._attempts -= 1
                is_open = False
                break
            self._ends_by_form = self._by_form is not None and self._by_form.missed(raw, value)
            yield raw, value
            value = None
            self._attempts = _MOST_ATTEMPTS
            start = end + 2
            if self._ends_by_form:
                is_open = False
                break
        self._plain_end = (start, is_open)

    def _take(self, text: str, start: int, pieces: list[Piece]) -> int | None:
        """Take the string, array or object that begins at start; its end, or None when the text cuts it."""
        try:
            value, end = DECODER.raw_decode(text, start)
        except RecursionError:
            self._refuse_deep()
        except ValueError:
            cut = CutValue()
            stop = cut.find_end(text[start:] if start else text)
            if stop is not None:  # it is all there, so it is wrong
                _refuse("is not strict JSON: a value is malformed or has a member twice")
            if cut.length > self._max_entry_bytes:
                self._refuse_large()
            self._cut = cut
            return None
        self._accept(text[start:end].encode(), value, pieces)
        return end

    def _take_scalar(self, text: str, start: int, pieces: list[Piece]) -> int | None:
        """Take a number, true, false or null; None while what follows it is not there."""
        match = _SCALAR_END.search(text, start)
        if match is None:
            if len(text) - start > 1000:
                _refuse("is not JSON")
            return None
        whole = text[start : match.start()]
        value, stop = self._decode_value(whole, 0)
        if stop != len(whole):
            _refuse("is not JSON")
        self._accept(whole.encode(), value, pieces)
        return match.start()

    def _take_name(self, text: str, start: int) -> int | None:
        """Take a member's name; None while its closing quote is not there."""
        end = string_end(text, start + 1)
        if end is None:
            if len(text) - start > 1000:
                _refuse("has a member name of more than 1000 characters")
            return None
        self._name, _ = self._decode_value(text[start:end], 0)
        if self._name in self._names:
            _refuse("has a member twice")
        self._names.add(self._name)
        if len(self._names) > _MAX_MEMBERS:
            _refuse(f"has more than {_MAX_MEMBERS} members")
        self._state = _State.COLON
        return end

    def _decode_value(self, text: str, start: int) -> tuple[Any, int]:
        try:
            return DECODER.raw_decode(text, start)
        except RecursionError:
            self._refuse_deep()
        except ValueError:
            _refuse("is not strict JSON: a value is malformed or has a member twice")

    def _accept(self, raw: bytes, value: Any, pieces: list[Piece]) -> None:
        if len(raw) > self._max_entry_bytes:
            self._refuse_large()
        if may_be_too_deep(raw) and is_too_deep(value):
            self._refuse_deep()
        if self._state is _State.VALUE:
            if self._name == "resourceType":
                if value != "Bundle":
                    _refuse("is not a Bundle")
                self._is_bundle = True
            pieces.append(Member(self._name, raw, value))
            self._state = _State.AFTER_VALUE
        else:
            if self._by_form is not None:
                self._by_form.missed(raw, value)
            pieces.append(Entry(raw, value))
            self._state = _State.AFTER_ENTRY
            if not self._mark and (begun := _BEGIN.match(raw)) is not None:
                self._mark = "}," + begun[0].decode()

    def _refuse_large(self) -> NoReturn:
        _refuse(f"has a value of more than {self._max_entry_bytes} bytes")

    def _refuse_deep(self) -> NoReturn:
        _refuse(f"is nested deeper than {MAX_DEPTH} objects and arrays")


def _space_end(text: str, position: int) -> int:
    if position < len(text) and text[position] > " ":
        return position
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def _refuse(what: str) -> NoReturn:
    raise FhirError(Reason.UPSTREAM_INVALID, f"The Bundle {what}")
