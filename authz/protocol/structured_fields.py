"""Structured field values for HTTP: Dictionaries, Inner Lists and Items, read and written (RFC 8941, RFC 9651).

The fields of message signatures (RFC 9421) and digests (RFC 9530) are Dictionaries. Of RFC 9651 the two types that
it adds, Date and Display String, are refused: no field that is read here has them.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

_MAX_CHARACTERS = 16 * 1024
# Of a Dictionary, of an Inner List and of Parameters each; RFC 8941 3 asks for 256 or more.
_MAX_MEMBERS = 256
_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*+")
_DECIMAL = re.compile(r"-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])")
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*+)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+")
_BYTES = re.compile(r":([A-Za-z0-9+/]*+=*+):")
_BOOLEAN = re.compile(r"\?[01]")
_TEXT = re.compile(r"[ -~]*+")
_ESCAPED = re.compile(r"\\(.)")


class StructuredFieldError(ValueError):
    """A text that is no structured field of the expected type, or a value that cannot be written as one."""


@dataclass(frozen=True, slots=True)
class Token:
    """A Token (RFC 8941 3.3.4), which is not a String."""

    text: str


BareItem = bool | int | Decimal | str | Token | bytes
Parameters = Mapping[str, BareItem]


@dataclass(frozen=True, slots=True)
class Item:
    """A value with parameters (RFC 8941 3.3)."""

    value: BareItem
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InnerList:
    """A list of Items with parameters of its own (RFC 8941 3.1.1)."""

    items: tuple[Item, ...]
    parameters: Parameters = field(default_factory=dict)


Dictionary = Mapping[str, Item | InnerList]


def write_dictionary(members: Dictionary) -> str:
    """The field value of a Dictionary (RFC 8941 4.1.2). Raises StructuredFieldError."""
    return ", ".join(_member(key, member) for key, member in members.items())


def write_inner_list(value: InnerList) -> str:
    """An Inner List with its parameters (RFC 8941 4.1.1.1). Raises StructuredFieldError."""
    return f"({' '.join(write_item(item) for item in value.items)}){_parameters(value.parameters)}"


def write_item(item: Item) -> str:
    """An Item with its parameters (RFC 8941 4.1.3). Raises StructuredFieldError."""
    return _bare_item(item.value) + _parameters(item.parameters)


def _member(key: str, member: Item | InnerList) -> str:
    if isinstance(member, InnerList):
        return f"{_key(key)}={write_inner_list(member)}"
    if member.value is True:
        return _key(key) + _parameters(member.parameters)
    return f"{_key(key)}={write_item(member)}"


def _parameters(parameters: Parameters) -> str:
    return "".join(
        f";{_key(key)}" if value is True else f";{_key(key)}={_bare_item(value)}"
        for key, value in parameters.items()
    )


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StructuredFieldError("a key has lower-case letters, digits, '_', '-', '.' and '*'")
    return key


def _bare_item(value: BareItem) -> str:
    match value:
        case bool():
            return "?1" if value else "?0"
        case int():
            if abs(value) >= 10**15:
                raise StructuredFieldError("an Integer has at most 15 digits")
            return str(value)
        case Decimal():
            return _decimal(value)
        case str():
            if not _TEXT.fullmatch(value):
                raise StructuredFieldError("a String holds printable ASCII only")
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Token(text=text):
            if not _TOKEN.fullmatch(text):
                raise StructuredFieldError("a Token begins with a letter or '*' and holds no spaces")
            return text
        case bytes():
            return f":{binascii.b2a_base64(value, newline=False).decode('ascii')}:"


def _decimal(value: Decimal) -> str:
    """RFC 8941 4.1.5: rounded to three digits, half to even, no trailing zeros but one digit at least."""
    if not value.is_finite() or abs(value) >= 10**12:
        raise StructuredFieldError("a Decimal has at most 12 digits before its point")
    rounded = round(value, 3)
    if abs(rounded) >= 10**12:
        raise StructuredFieldError("a Decimal has at most 12 digits before its point")
    whole, _, fraction = f"{rounded:.3f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def read_dictionary(text: str) -> dict[str, Item | InnerList]:
    """The Dictionary of a field value (RFC 8941 4.2.2), several lines joined by ', '. Raises StructuredFieldError."""
    reader = _Reader(text)
    members: dict[str, Item | InnerList] = {}
    reader.skip(" ")
    while not reader.is_at_end():
        key = reader.take(_KEY, "a key")
        member: Item | InnerList
        if reader.takes("="):
            member = _read_inner_list(reader) if reader.takes("(") else _read_item(reader)
        else:
            member = Item(True, _read_parameters(reader))
        members.pop(key, None)  # the last of a name counts, in its place
        members[key] = member
        _bound(members)
        reader.skip(" \t")
        if reader.is_at_end():
            break
        reader.expect(",")
        reader.skip(" \t")
        if reader.is_at_end():
            raise StructuredFieldError("a Dictionary does not end with a comma")
    return members


def _read_inner_list(reader: "_Reader") -> InnerList:
    items: list[Item] = []
    while True:
        reader.skip(" ")
        if reader.takes(")"):
            return InnerList(tuple(items), _read_parameters(reader))
        items.append(_read_item(reader))
        _bound(items)
        if not reader.sees(" )"):
            raise StructuredFieldError("the members of an Inner List are separated by spaces")


def _read_item(reader: "_Reader") -> Item:
    return Item(_read_bare_item(reader), _read_parameters(reader))


def _read_parameters(reader: "_Reader") -> dict[str, BareItem]:
    parameters: dict[str, BareItem] = {}
    while reader.takes(";"):
        reader.skip(" ")
        key = reader.take(_KEY, "the name of a parameter")
        value: BareItem = _read_bare_item(reader) if reader.takes("=") else True
        parameters.pop(key, None)
        parameters[key] = value
        _bound(parameters)
    return parameters


def _read_bare_item(reader: "_Reader") -> BareItem:
    if reader.sees('"'):
        return _ESCAPED.sub(r"\1", reader.take(_STRING, "a String")[1:-1])
    if reader.sees(":"):
        return _read_bytes(reader.take(_BYTES, "a Byte Sequence")[1:-1])
    if reader.sees("?"):
        return reader.take(_BOOLEAN, "a Boolean") == "?1"
    if reader.sees("-0123456789"):
        if reader.matches(_DECIMAL):
            return Decimal(reader.take(_DECIMAL, "a Decimal"))
        return int(reader.take(_INTEGER, "a number"))
    return Token(reader.take(_TOKEN, "a value"))


def _read_bytes(text: str) -> bytes:
    # Stricter than RFC 8941 4.2.7: base64 without its padding, or with set bits behind the last byte, is refused.
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise StructuredFieldError("a Byte Sequence is base64 between colons") from error
    if binascii.b2a_base64(content, newline=False).decode("ascii") != text:
        raise StructuredFieldError("a Byte Sequence is base64 in its canonical form")
    return content


def _bound(members: "dict[str, BareItem] | dict[str, Item | InnerList] | list[Item]") -> None:
    if len(members) > _MAX_MEMBERS:
        raise StructuredFieldError(f"at most {_MAX_MEMBERS} members are accepted")


class _Reader:
    """A text and how far it is read."""

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_CHARACTERS or not text.isascii():
            raise StructuredFieldError(f"a structured field is ASCII of at most {_MAX_CHARACTERS} characters")
        self._text = text.rstrip(" ")
        self._at = 0

    def is_at_end(self) -> bool:
        return self._at == len(self._text)

    def sees(self, characters: str) -> bool:
        return not self.is_at_end() and self._text[self._at] in characters

    def skip(self, characters: str) -> None:
        while self.sees(characters):
            self._at += 1

    def takes(self, character: str) -> bool:
        seen = self.sees(character)
        self._at += seen
        return seen

    def expect(self, character: str) -> None:
        if not self.takes(character):
            raise StructuredFieldError(f"expected '{character}' at position {self._at}")

    def matches(self, pattern: re.Pattern[str]) -> bool:
        return pattern.match(self._text, self._at) is not None

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise StructuredFieldError(f"expected {what} at position {self._at}")
        self._at = found.end()
        return found[0]
