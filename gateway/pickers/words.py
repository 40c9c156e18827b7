"""What a person typed to find a patient, as criteria of a FHIR search: names, a birth date, an identifier."""

import re
from urllib.parse import urlencode

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SPECIAL = re.compile(r"([\\,|$])")
_MAX_WORDS = 6


class TooManyWords(Exception):
    """More words than a search takes."""


def criteria(words: str, *, count: int) -> str:
    """The form of the search. A word with a digit is a birth date or an identifier, any other a part of the name.

    Each word must match. No word is more than one literal value: what FHIR would read as a sign is escaped (3.1.1.4).
    """
    found = words.split()
    if len(found) > _MAX_WORDS:
        raise TooManyWords
    return urlencode([*map(_criterion, found), ("_count", str(count))])


def _criterion(word: str) -> tuple[str, str]:
    literal = _SPECIAL.sub(r"\\\1", word)
    if _DATE.fullmatch(word):
        return "birthdate", word
    return ("identifier" if any(c.isdigit() for c in word) else "name"), literal
