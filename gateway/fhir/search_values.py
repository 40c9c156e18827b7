"""The values of search parameters: alternatives, escapes, and the grammar of each type (FHIR R4 3.1.1.4)."""

import re

from gateway.fhir.definitions import SearchParameter
from gateway.fhir.outcome import FhirError, Reason

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMMA = re.compile(r"((?:[^\\,]|\\.)*)(,|$)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"(?:[^\\]|\\[\\,|$])*+(\\)?", re.DOTALL)
_PREFIX = r"(?:eq|ne|gt|lt|ge|le|sa|eb|ap)?"
_NUMBER = r"[-+]?\d{1,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?"
_DATE = (
    r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01])"
    r"(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:\.\d{1,9})?)?(?:Z|[-+](?:0\d|1[0-4]):[0-5]\d)?)?)?)?"
)
_VALUE_GRAMMAR: dict[str, tuple[re.Pattern[str], str]] = {
    "number": (re.compile(_PREFIX + _NUMBER), "a number, with a prefix such as ge before it or not"),
    "date": (re.compile(_PREFIX + _DATE), "a date such as 2024, 2024-05 or ge2024-05-31T10:00:00Z"),
    "quantity": (
        re.compile(_PREFIX + _NUMBER + r"(?:\|(?:[^|\\]|\\.)*\|(?:[^|\\]|\\.)*)?", re.DOTALL),
        "a quantity such as 5.4 or le5.4|http://unitsofmeasure.org|mg",
    ),
    "token": (
        re.compile(r"(?:[^|\\]|\\.)*(?:\|(?:[^|\\]|\\.)*)?", re.DOTALL),
        "code, system|code, |code or system|",
    ),
}
INSTANT = re.compile(_DATE)
"""A date or an instant without a prefix."""


_SPACE_IN_OFFSET = re.compile(r"(T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?) (\d\d:\d\d)(?=,|$)")


def with_offset(text: str) -> str:
    """Instants whose offset begins with a space, with '+' there: as they arrive when the plus sign was not escaped.

    In an instant a space means nothing else.
    """
    return _SPACE_IN_OFFSET.sub(r"\1+\2", text) if " " in text else text


def split_values(text: str) -> tuple[str, ...]:
    """The comma-separated alternatives of a value, escapes kept. Raises FhirError when an escape has no meaning."""
    if (match := _BAD_ESCAPE.match(text)) is None or match[1]:
        raise FhirError(
            Reason.INVALID_PARAMETER,
            "a backslash in a value escapes a comma, |, $ or a backslash and nothing else: send a backslash itself twice",
        )
    return tuple(part[1] for part in _parts(text))


def unescape(text: str) -> str:
    r"""The text with \, \| \$ and \\ resolved (FHIR R4 3.1.1.4.0.1)."""
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def _parts(text: str) -> list[re.Match[str]]:
    found = []
    position = 0
    while (match := _COMMA.match(text, position)) is not None:
        found.append(match)
        position = match.end()
        if not match[2]:
            break
    return found


def check_values(parameter: SearchParameter, modifier: str | None, alternatives: tuple[str, ...]) -> None:
    """Raise FhirError INVALID_PARAMETER unless each alternative, escapes kept, is a value of the parameter."""
    shown = parameter.code if modifier is None else f"{parameter.code}:{modifier}"
    if modifier == "missing":
        if alternatives not in (("true",), ("false",)):
            raise FhirError(Reason.INVALID_PARAMETER, f"'{shown}' must be true or false")
        return
    if "" in alternatives:  # FHIR R4 3.1.1.4.0: a store may ignore an empty parameter, and answer wider
        raise FhirError(Reason.INVALID_PARAMETER, f"'{shown}' has an empty value")
    kind = "token" if modifier == "identifier" else parameter.type
    if kind not in _VALUE_GRAMMAR:
        return
    grammar, expected = _VALUE_GRAMMAR[kind]
    if not all(grammar.fullmatch(each) for each in alternatives):
        raise FhirError(Reason.INVALID_PARAMETER, f"'{shown}' must be {expected}")
