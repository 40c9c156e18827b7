"""Members of a client metadata document, each read as its one type (RFC 7591 2), and what of them is registered."""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Mapping

from authz.protocol.distinguished_names import parse_distinguished_name
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.redirect_uris import UriError, check_redirect_uri, check_web_uri

_MAX_LINE = 100
_MAX_TEXT = 4000
_MAX_ITEMS = 20
# Letters and a symbol to Unicode, and nothing to the eye: Hangul fillers, the joiner of graphemes, Khmer's inherent vowels,
# the blank of Braille.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5\u2800")
_MAX_SECONDS = 999_999_999  # as in max_age of a request
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})+")
_MAILBOX = re.compile(r"[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]{1,64}@[A-Za-z0-9.-]{1,253}")
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]{1,1000}")


class Members:
    """The members of a document. found holds what was read, as it is registered. Readers raise OAuthError."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = given
        self.found: dict[str, object] = {}

    def has(self, name: str) -> bool:
        """Whether the document has the member."""
        return name in self._given

    def raw(self, name: str) -> object:
        """The value as it came; nothing is registered by that."""
        return self._given.get(name)

    def put(self, name: str, value: object) -> None:
        """Register a value of ours."""
        self.found[name] = value

    def text(self, name: str) -> str:
        """A text that must be there."""
        value = self._given.get(name)
        if not isinstance(value, str) or not value:
            raise unacceptable(name, "is missing" if value is None else "must be text")
        if len(value) > _MAX_TEXT:
            raise unacceptable(name, f"must have at most {_MAX_TEXT} characters")
        self.found[name] = value
        return value

    def word(self, name: str, choices: Iterable[str], default: str | None = None) -> str:
        """One of choices."""
        known = [str(choice) for choice in choices]
        value = self._given.get(name, default)
        if value not in known:
            said = "is missing" if value is None else f"is {_shown(value)}"
            raise unacceptable(name, f"{said}, expected {' or '.join(known)}")
        self.found[name] = value
        return str(value)

    def words(self, name: str, choices: Iterable[str], default: tuple[str, ...]) -> tuple[str, ...]:
        """Several of choices, each once."""
        known = [str(choice) for choice in choices]
        values = self._texts(name) if self.has(name) else list(default)
        for value in values:
            if value not in known:
                raise unacceptable(name, f"holds {_shown(value)}, expected {' or '.join(known)}")
        self.found[name] = values
        return tuple(values)

    def flag(self, name: str) -> bool:
        """true or false; false when absent. A text such as 'true' is neither."""
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise unacceptable(name, f"is {_shown(value)}, expected true or false")
        if self.has(name):
            self.found[name] = value
        return value

    def seconds(self, name: str) -> int | None:
        """A whole number of seconds, None when absent."""
        if not self.has(name):
            return None
        value = self._given[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SECONDS:
            raise unacceptable(name, f"must be a whole number of seconds, 0 to {_MAX_SECONDS}")
        self.found[name] = value
        return value

    def line(self, name: str) -> str:
        """A short text that is shown to people, in which nothing hides (SMART App Launch 2.2: who asks must be clear)."""
        if not self.has(name):
            raise unacceptable(name, "is missing: people see it when they are asked for consent")
        return self._line(name, self._given[name])

    def optional_line(self, name: str) -> str | None:
        """A short text, None when absent."""
        return self._line(name, self._given[name]) if self.has(name) else None

    def lines(self, name: str) -> tuple[str, ...]:
        """A list of short texts."""
        if not self.has(name):
            return ()
        values = tuple(self._line(name, value) for value in self._texts(name))
        self.found[name] = list(values)
        return values

    def uris(self, name: str, *, native: bool) -> tuple[str, ...]:
        """A list of URIs that people are sent to. A wrong one among redirect_uris is INVALID_REDIRECT_URI."""
        if not self.has(name):
            return ()
        code = ErrorCode.INVALID_CLIENT_METADATA
        if name == "redirect_uris":
            code = ErrorCode.INVALID_REDIRECT_URI
        values = self._texts(name, code)
        for value in values:
            try:
                check_redirect_uri(value, native=native)
            except UriError as error:
                raise unacceptable(name, f"{_shown(value)} {speakable(str(error))}", code) from error
        self.found[name] = values
        return tuple(values)

    def page(self, name: str) -> str | None:
        """The https URI of a page or document, None when absent."""
        if not self.has(name):
            return None
        value = self.text(name)
        try:
            check_web_uri(value)
        except UriError as error:
            raise unacceptable(name, f"{_shown(value)} {speakable(str(error))}") from error
        return value

    def certificate_name(self, name: str, kind: str) -> str:
        """The subject of a certificate, of one of the kinds of RFC 8705 2.1.2."""
        value = self.text(name)
        if kind == "subject_dn":
            try:
                right = bool(parse_distinguished_name(value))
            except ValueError:
                right = False
        elif kind == "san_ip":
            try:
                right = bool(ipaddress.ip_address(value)) and "%" not in value
            except ValueError:
                right = False
        else:
            pattern = {"san_dns": _DNS_NAME, "san_email": _MAILBOX, "san_uri": _ABSOLUTE_URI}[kind]
            right = pattern.fullmatch(value) is not None
        if not right:
            raise unacceptable(name, f"{_shown(value)} is not a {kind.replace('_', ' ')}")
        return value

    def _texts(self, name: str, code: ErrorCode = ErrorCode.INVALID_CLIENT_METADATA) -> list[str]:
        values = self._given[name]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise unacceptable(name, "must be a list of texts", code)
        if len(values) > _MAX_ITEMS or len(set(values)) != len(values):
            raise unacceptable(name, f"must hold at most {_MAX_ITEMS} texts, each once", code)
        return list(values)

    def _line(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_LINE or value != value.strip():
            raise unacceptable(name, f"must be text of 1 to {_MAX_LINE} characters without spaces around it")
        # Control and format characters, such as those that turn the direction of writing, show one thing and are another.
        if any(
            unicodedata.category(character)[0] == "C" or character in "\u2028\u2029" or character in _BLANK
            for character in value
        ):
            raise unacceptable(name, "holds a character that cannot be seen")
        self.found[name] = value
        return value


def unacceptable(name: str, why: str, code: ErrorCode = ErrorCode.INVALID_CLIENT_METADATA) -> OAuthError:
    """The refusal of a document for one of its members (RFC 7591 3.2.2)."""
    return OAuthError(code, f"{name}: {why}")


def _shown(value: object) -> str:
    """The value, for the error text."""
    if isinstance(value, str):
        return speakable(value, at_most=100) if value else "empty"
    return f"of the JSON type {_JSON_TYPES.get(type(value), 'number')}"


_JSON_TYPES = {dict: "object", list: "array", bool: "boolean", type(None): "null"}
